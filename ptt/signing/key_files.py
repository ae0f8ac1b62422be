"""One private key as two files: ``<selector>.pem`` (PKCS #8, mode 0600) and ``<selector>.json`` (its state).

Refuses keys that others may read or that verifiers do not take. Every file is written whole or not at all. RFC 8301,
RFC 8463, RFC 7468.
"""

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from ptt.core.errors import MalformedInput

PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

KEY_SUFFIX = ".pem"
STATE_SUFFIX = ".json"
MIN_RSA_BITS = 2048
"""RFC 8301 section 3.2: signers SHOULD use 2048 bits at least."""
MAX_RSA_BITS = 4096
"""RFC 8301 section 3.2: verifiers need not take longer ones, and each signature would cost 30 ms."""
MAX_FILE_BYTES = 65_536
"""No key and no state is longer; a wrong path must not fill the memory."""

_MODE = 0o600
_TEXTS = frozenset({"problem", "successor"})


class KeyState(StrEnum):
    """The life of a key; only an active one signs."""

    CREATED = "created"
    PUBLISHED = "published"
    """The primary has the record; not every authoritative server is known to answer it."""
    ACTIVE = "active"
    """Signs, unless `KeyStatus.problem` says why not."""
    RETIRING = "retiring"
    """Signs no more, and stays published for the mail under way."""
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """What the state file says; each instant is when the state of that name was reached."""

    state: KeyState = KeyState.CREATED
    created_at: datetime | None = None
    published_at: datetime | None = None
    active_at: datetime | None = None
    retiring_at: datetime | None = None
    retired_at: datetime | None = None
    revoked_at: datetime | None = None
    """When the key was declared void, for good: it never signs again, whatever becomes of its record."""
    suspended_at: datetime | None = None
    problem: str | None = None
    """Why the key does not sign although it is active: an authoritative server answers something else."""
    successor: str | None = None
    """Selector of the key that takes its place: a rotation is under way, or was done."""
    replaced_at: datetime | None = None
    """When that rotation was done; all keys that it replaced have the same instant."""
    retry_at: datetime | None = None
    """When a rotation or removal that failed may be tried again."""

    @property
    def is_signing(self) -> bool:
        """Tell whether the key may sign."""
        return self.state is KeyState.ACTIVE and self.problem is None

    def reach(self, state: KeyState, at: datetime) -> "KeyStatus":
        """Give the status after the change of state, which also ends a suspension."""
        changes: dict[str, Any] = {"state": state, "problem": None, "suspended_at": None, f"{state.value}_at": at}
        if state is KeyState.ACTIVE:
            changes |= {"successor": None, "replaced_at": None}
        return replace(self, **changes)

    def revoke(self, at: datetime) -> "KeyStatus":
        """Give the status of a key that is void from now on; its record is still to be dealt with."""
        is_ending = self.state in {KeyState.RETIRING, KeyState.RETIRED}
        status = self if is_ending else self.reach(KeyState.RETIRING, at)
        return replace(status, revoked_at=self.revoked_at or at)

    def suspend(self, problem: str, at: datetime) -> "KeyStatus":
        """Give the status of a key that does not sign for now."""
        return replace(self, problem=problem, suspended_at=self.suspended_at or at)

    def resume(self) -> "KeyStatus":
        """Give the status of a key whose problem is gone."""
        return replace(self, problem=None, suspended_at=None)


def load_private_key(path: Path) -> PrivateKey:
    """Read a private key; takes tens of milliseconds for RSA, so once per process is right.

    Raises:
        MalformedInput: with the reason why the key is not used.
    """
    try:
        pem = read_private(path)
    except OSError as error:
        raise MalformedInput(f"cannot be read: {error.strerror}") from error
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedInput("is no private key in PEM without a passphrase") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise MalformedInput("is neither RSA nor Ed25519")
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise MalformedInput(f"has {key.key_size} bits: RSA keys must have {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    return key


def save_private_key(path: Path, key: PrivateKey) -> None:
    """Write a private key with mode 0600.

    Raises:
        FileExistsError: there is a key of this name; it stays as it is.
    """
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    temporary = _write_temporary(path, pem)
    try:
        path.hardlink_to(temporary)  # unlike a rename, it fails when the name is taken
    finally:
        temporary.unlink()
    _sync_folder(path.parent)


def list_exposed(keys_dir: Path) -> list[str]:
    """Give one line for each private key that others than its owner may use."""
    modes = ((path, stat.S_IMODE(path.stat().st_mode)) for path in sorted(keys_dir.glob(f"*/*{KEY_SUFFIX}")))
    return [f"{path}: signing.keys_dir: {_explain_mode(mode)}" for path, mode in modes if mode & ~_MODE]


def load_status(path: Path) -> KeyStatus:
    """Read a state file; a key without one was put there by hand and is not published.

    Raises:
        MalformedInput: if it is there and is not what `save_status` writes.
    """
    try:
        text = path.read_bytes()[:MAX_FILE_BYTES]
    except FileNotFoundError:
        return KeyStatus()
    except OSError as error:
        raise MalformedInput(f"its state cannot be read: {error.strerror}") from error
    try:
        fields = dict(json.loads(text))
        state = KeyState(fields.pop("state"))
        return KeyStatus(state=state, **{name: _parse_field(name, value) for name, value in fields.items()})
    except (ValueError, TypeError, KeyError) as error:
        raise MalformedInput("its state file is damaged") from error


def save_status(path: Path, status: KeyStatus) -> None:
    """Replace the state file; after a crash it has the old or the new content."""
    fields = {name: value for name, value in asdict(status).items() if value is not None}
    text = json.dumps(fields, default=datetime.isoformat, indent=2).encode() + b"\n"
    _write_temporary(path, text).replace(path)
    _sync_folder(path.parent)


def _explain_mode(mode: int) -> str:
    return f"has mode {mode:04o}: must be 0600, so that nobody else reads it"


def _parse_field(name: str, value: object) -> Any:  # noqa: ANN401 - the fields are of two types
    if not isinstance(value, str):
        raise TypeError(name)
    return value if name in _TEXTS else _parse_instant(value)


def _parse_instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("no time zone")
    return instant


def read_private(path: Path) -> bytes:
    """Read a secret from a file.

    Raises:
        MalformedInput: it is no file, or others may read it.
        OSError: it cannot be read.
    """
    # O_NONBLOCK: opening a pipe must not wait for its writer. What was opened is checked, not what the name means now.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MalformedInput("is no file")
        mode = stat.S_IMODE(status.st_mode)
        if mode & ~_MODE:
            raise MalformedInput(_explain_mode(mode))
        return os.read(descriptor, MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make the folder of a domain, mode 0700, unless it is there."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            give_to_owner(descriptor, folder.parent)
        finally:
            os.close(descriptor)


def give_to_owner(descriptor: int, folder: Path) -> None:
    """Give a file that root makes to who owns its folder: else the sign role could not read its own keys any more."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _write_temporary(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # left by a crash of a process with our number
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE), "wb") as file:
        give_to_owner(file.fileno(), path.parent)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
