"""The key ring: the DKIM keys of all domains in one folder, ``<domain>/<selector>.pem``.

Each key is parsed once per process; what changes in the folder is seen within a second, without a restart. Knows no
DNS: whoever publishes a key says so by `KeyRing.set_state`.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ptt import maillog
from ptt.core.address import Domain, parse_domain
from ptt.core.errors import MalformedInput, NoUsableKey
from ptt.core.signature import Algorithm, Selector, format_key_name, format_key_record, parse_selector
from ptt.signing.key_files import (
    KEY_SUFFIX,
    STATE_SUFFIX,
    KeyState,
    KeyStatus,
    PrivateKey,
    load_private_key,
    load_status,
    make_folder,
    save_private_key,
    save_status,
)
from ptt.signing.key_making import KeyKind, generate_private_key

CHECK_INTERVAL_S = 1.0
"""How often a domain's folder is looked at while its keys are in use: one look costs 30 µs, a signature 250."""

MAX_LOADS = 100
"""How often a folder is read that changes all the time: nobody rotates faster than files can be read."""

SELECTOR_BYTES = 3
"""Random octets in a selector: two hosts that make keys for one domain on one day must not meet."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_PADDING = padding.PKCS1v15()
_SHA256 = hashes.SHA256()


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One key of one domain, parsed."""

    domain: Domain
    selector: Selector
    status: KeyStatus
    private_key: PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> Algorithm:
        """Give the a= tag."""
        return Algorithm.RSA_SHA256 if isinstance(self.private_key, rsa.RSAPrivateKey) else Algorithm.ED25519_SHA256

    @property
    def record_name(self) -> str:
        """Name the DNS record of the public key."""
        return format_key_name(self.selector, self.domain)

    @property
    def record(self) -> str:
        """Give the text of that record."""
        public_key = self.private_key.public_key()
        if self.algorithm is Algorithm.ED25519_SHA256:
            raw = public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        else:
            raw = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return format_key_record(self.algorithm, raw)

    def sign(self, hashed: bytes) -> bytes:
        """Sign the canonical header fields (RFC 6376 section 3.7)."""
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            return self.private_key.sign(hashed, _PADDING, _SHA256)
        # RFC 8463 section 3: Ed25519 signs the SHA-256 of the fields, not the fields themselves.
        return self.private_key.sign(hashlib.sha256(hashed).digest())


@dataclass(frozen=True, slots=True)
class RefusedKey:
    """A key that is there and not used."""

    domain: Domain
    selector: str
    reason: str


_Stamp = tuple[int, int, int, int]
_Stamps = Mapping[str, _Stamp]


@dataclass(slots=True, kw_only=True)
class _Folder:
    """What is known of one domain: its files as they were, and what came of each key."""

    checked_at: float = 0.0
    stamps: _Stamps = field(default_factory=dict)
    keys: Mapping[str, SigningKey | RefusedKey] = field(default_factory=dict)
    active: tuple[SigningKey, ...] = ()


class KeyRing:
    """All keys of a folder. Safe to use from several processes; a thread needs one of its own."""

    def __init__(self, keys_dir: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Use the keys of this folder; nothing is read yet.

        Args:
            keys_dir: holds a folder for each domain.
            clock: seconds that only grow.
        """
        self._keys_dir = keys_dir
        self._clock = clock
        self._folders: dict[Domain, _Folder] = {}

    def get_active(self, domain: Domain) -> tuple[SigningKey, ...]:
        """Give the keys that sign for a domain, the newest first.

        Raises:
            NoUsableKey: there is none.
        """
        folder = self._look(domain)
        if not folder.active:
            # What was seen a moment ago may be out of date, and mail that finds no key waits for a minute.
            folder = self._look(domain, at_once=True)
        if not folder.active:
            raise NoUsableKey("; ".join([f"no active DKIM key for {domain}", *_list_reasons(folder.keys.values())]))
        return folder.active

    def list_keys(self, domain: Domain | None = None) -> tuple[SigningKey | RefusedKey, ...]:
        """Give all keys, or all of one domain, by domain and selector; also what is refused, with the reason."""
        folders = [self._look(name, at_once=True) for name in ([domain] if domain else self.list_domains())]
        return tuple(folder.keys[selector] for folder in folders for selector in sorted(folder.keys))

    def create_key(
        self, domain: Domain, selector: Selector | None, algorithm: Algorithm, *, created_at: datetime
    ) -> SigningKey:
        """Make a random key of the usual length for its algorithm, and `add_key` it."""
        kind = KeyKind.RSA2048 if algorithm is Algorithm.RSA_SHA256 else KeyKind.ED25519
        return self.add_key(domain, selector, generate_private_key(kind), created_at=created_at)

    def add_key(
        self, domain: Domain, selector: Selector | None, private_key: PrivateKey, *, created_at: datetime
    ) -> SigningKey:
        """Keep a key; it signs nothing until it is published and active.

        Args:
            domain: whom it signs for.
            selector: its name; a new one that nobody else takes, see `make_selector`, if None.
            private_key: RSA of 2048 bits at least, or Ed25519.
            created_at: aware.

        Raises:
            FileExistsError: the domain has a key with that selector.
        """
        folder = self._keys_dir / domain
        make_folder(folder)
        name = selector or make_selector(created_at)
        try:
            save_private_key(folder / f"{name}{KEY_SUFFIX}", private_key)
        except FileExistsError as error:
            raise FileExistsError(f"{folder}: there is a key {name} already") from error
        status = KeyStatus(created_at=created_at)
        save_status(folder / f"{name}{STATE_SUFFIX}", status)
        return SigningKey(domain=domain, selector=name, status=status, private_key=private_key)

    def set_state(self, key: SigningKey, state: KeyState, *, at: datetime) -> None:
        """Record durably that a key reached a state."""
        self.change_status(key, lambda status: status.reach(state, at))

    def change_status(self, key: SigningKey, change: Callable[[KeyStatus], KeyStatus]) -> None:
        """Replace the status of a key by one made of what is on disk now."""
        path = self.get_path(key).with_suffix(STATE_SUFFIX)
        save_status(path, change(load_status(path)))

    def list_domains(self) -> list[Domain]:
        """Give all domains that have a folder, sorted."""
        try:
            names = sorted(entry.name for entry in self._keys_dir.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []
        return [Domain(name) for name in names if _is_domain(name)]

    def get_folder(self, domain: Domain) -> Path:
        """Tell where the keys of a domain are kept."""
        return self._keys_dir / domain

    def get_path(self, key: SigningKey) -> Path:
        """Tell where the private key is kept."""
        return self._keys_dir / key.domain / f"{key.selector}{KEY_SUFFIX}"

    def _look(self, domain: Domain, *, at_once: bool = False) -> _Folder:
        known, now = self._folders.get(domain), self._clock()
        if known and not at_once and now - known.checked_at < CHECK_INTERVAL_S:
            return known
        known = self._load_steady(domain, known or _Folder())
        known.checked_at = now
        # A domain without keys is not remembered: users must not be able to fill the memory with made-up ones.
        if known.stamps:
            self._folders[domain] = known
        else:
            self._folders.pop(domain, None)
        return known

    def _load_steady(self, domain: Domain, known: _Folder) -> _Folder:
        """Read what has changed until nothing changes meanwhile.

        Else the new key of a rotation could be seen before it is active and the old one after it is not any more.
        """
        for _ in range(MAX_LOADS):
            stamps = _read_stamps(self._keys_dir / domain)
            if known.stamps == stamps:
                break
            known = self._load(domain, stamps, known)
        return known

    def _load(self, domain: Domain, stamps: _Stamps, before: _Folder) -> _Folder:
        keys: dict[str, SigningKey | RefusedKey] = {}
        for name in stamps:
            if name.endswith(KEY_SUFFIX):
                selector = name.removesuffix(KEY_SUFFIX)
                old = before.keys.get(selector) if before.stamps.get(name) == stamps[name] else None
                keys[selector] = self._load_key(domain, selector, old)
                _report(keys[selector], before.keys.get(selector))
        active = [key for key in keys.values() if isinstance(key, SigningKey) and key.status.is_signing]
        active.sort(key=lambda key: (key.status.created_at or _EPOCH, key.algorithm, key.selector), reverse=True)
        return _Folder(stamps=stamps, keys=keys, active=tuple(active))

    def _load_key(self, domain: Domain, selector: str, old: SigningKey | RefusedKey | None) -> SigningKey | RefusedKey:
        path = self._keys_dir / domain / f"{selector}{KEY_SUFFIX}"
        try:
            return SigningKey(
                domain=domain,
                selector=parse_selector(selector, domain),
                status=load_status(path.with_name(f"{selector}{STATE_SUFFIX}")),
                private_key=old.private_key if isinstance(old, SigningKey) else load_private_key(path),
            )
        except MalformedInput as error:
            return RefusedKey(domain, selector, str(error))


def make_selector(created_at: datetime) -> Selector:
    """Make a selector that no other host takes for a key of its own, and that nobody has asked the DNS for.

    An answer "there is no such name" may stay in caches for hours (RFC 2308), so names must not be guessed early.
    """
    return Selector(f"ptt{created_at:%Y%m%d}-{secrets.token_hex(SELECTOR_BYTES)}")


def _is_domain(name: str) -> bool:
    try:
        return parse_domain(name) == name
    except MalformedInput:
        return False


def _read_stamps(folder: Path) -> _Stamps:
    """Read what changes when a file of the folder does; nothing if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            files = [entry for entry in entries if entry.name.endswith((KEY_SUFFIX, STATE_SUFFIX))]
            return {entry.name: _make_stamp(entry.stat()) for entry in files if not entry.name.startswith(".")}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise NoUsableKey(f"{folder}: {error.strerror}") from error


def _make_stamp(status: os.stat_result) -> _Stamp:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


def _list_reasons(keys: Iterable[SigningKey | RefusedKey]) -> Iterator[str]:
    """Say of each key that might sign why it does not."""
    for key in keys:
        reason = key.reason if isinstance(key, RefusedKey) else key.status.problem
        if reason:
            yield f"{key.selector}: {reason}"


def _report(key: SigningKey | RefusedKey, before: SigningKey | RefusedKey | None) -> None:
    if isinstance(key, RefusedKey) and key != before:
        maillog.emit(
            "key.refused", maillog.WARNING, signing_domain=key.domain, selector=key.selector, reason=key.reason
        )
