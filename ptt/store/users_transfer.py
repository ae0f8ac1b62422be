"""Fetch from and push to a Git repository elsewhere, over TLS or ssh, within limits of time and size.

The server proves who it is: by a certificate that the system (or SSL_CERT_FILE) trusts, or by known_hosts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import pygit2
from pygit2.callbacks import RemoteCallbacks
from pygit2.enums import CredentialType
from pygit2.remotes import TransferProgress
from typing_extensions import override

from ptt.core.errors import Unavailable

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 10.0  # a server that stops answering must not hold a stop of the process for longer
TRANSFER_TIMEOUT_S = 60.0  # one fetch in all: a server that drips must not hold up the polls for ever
MAX_FETCH_BYTES = 268_435_456  # octets of one fetch; a hostile or mistaken push must not fill the disk
FETCHED = "refs/ptt/fetched"
GIT_ERRORS = (pygit2.GitError, KeyError, ValueError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Which repository, and how to get at it."""

    repository: str
    branch: str = "main"
    clone_dir: Path | None = None
    ssh_key_file: Path | None = None
    password_file: Path | None = None
    known_hosts_file: Path | None = None
    """Host keys for ssh; None: ``~/.ssh/known_hosts``."""
    signing_key_file: Path | None = None
    """With what our own commits are signed."""
    must_sign: bool = False
    """Whether a commit without a signature would be refused."""
    allows_rewind: bool = False
    """Whether the branch may be moved to a commit that does not come after the last good one."""

    @property
    def ref(self) -> str:
        """The full name of the branch."""
        return f"refs/heads/{self.branch}"


def fetch(repository: pygit2.Repository, access: Access, stopped: Event | None = None) -> None:
    """Fetch the branch of the remote repository as `FETCHED`, which is gone afterwards if the branch is.

    Raises:
        Unavailable: the server cannot be asked, or says no.
    """
    if FETCHED in repository.references:
        repository.references.delete(FETCHED)
    try:
        _connect(repository, access).fetch([f"+{access.ref}:{FETCHED}"], callbacks=Callbacks(access, stopped))
    except Unavailable:
        raise
    except GIT_ERRORS as error:
        raise Unavailable(f"users repository: {error}") from error


def push(repository: pygit2.Repository, access: Access, commit: pygit2.Oid) -> bool:
    """Push a commit to the branch.

    Returns:
        Whether the server took it; it does not if somebody else pushed in between.

    Raises:
        Unavailable: the server cannot be asked, or we may not push.
    """
    repository.references.create(FETCHED, commit, force=True)
    callbacks = Callbacks(access)
    try:
        _connect(repository, access).push([f"{FETCHED}:{access.ref}"], callbacks=callbacks)
    except Unavailable:
        raise
    except pygit2.GitError as error:
        if _is_race(str(error)):
            return False
        raise Unavailable(f"users repository: {error}") from error
    if callbacks.refusal and not _is_race(callbacks.refusal):
        raise Unavailable(f"users repository: the server refused the push: {callbacks.refusal}")
    return not callbacks.refusal


def _is_race(reason: str) -> bool:
    """Tell whether a push failed since somebody else pushed in between: in the words of libgit2 and of Git."""
    return any(words in reason for words in ("not present locally", "non-fast", "fetch first", "lock", "update ref"))


def _connect(repository: pygit2.Repository, access: Access) -> pygit2.Remote:
    pygit2.settings.server_connect_timeout = int(CONNECT_TIMEOUT_S * 1000)
    pygit2.settings.server_timeout = int(SILENCE_TIMEOUT_S * 1000)
    if access.known_hosts_file:
        _pin_hosts(repository, access.known_hosts_file)
    return repository.remotes.create_anonymous(access.repository)


def _pin_hosts(repository: pygit2.Repository, known_hosts: Path) -> None:
    # libgit2 looks into the home folder and nowhere else: so it gets one with this file alone in it.
    home = Path(repository.path, "ptt.home")
    link = home / ".ssh/known_hosts"
    link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not link.is_symlink() or link.readlink() != known_hosts.absolute():
        link.unlink(missing_ok=True)
        link.symlink_to(known_hosts.absolute())
    pygit2.settings.homedir = str(home)


class Callbacks(RemoteCallbacks):
    """What libgit2 asks during a transfer: whom to trust, what to log in with, whether to go on."""

    def __init__(self, access: Access, stopped: Event | None = None) -> None:
        """Start the clock."""
        super().__init__()
        self._access = access
        self._stopped = stopped or Event()
        self._deadline = time.monotonic() + TRANSFER_TIMEOUT_S
        self._offered: set[CredentialType] = set()
        self.refusal = ""
        """Why the server did not take a push, if it did not."""

    @override
    def certificate_check(self, certificate: None, valid: bool, host: bytes) -> bool:
        """Accept no server that did not prove who it is; pygit2's own version lets any ssh host pass."""
        if not valid:
            name = host.decode(errors="replace")
            raise Unavailable(f"users repository: {name}: its certificate or host key is not trusted")
        return True

    @override
    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> pygit2.Username | pygit2.Keypair | pygit2.UserPass:
        """Offer each kind of credentials once: libgit2 asks again for ever while they are refused."""
        name = username_from_url or "git"
        makers: dict[CredentialType, Callable[[], pygit2.Username | pygit2.Keypair | pygit2.UserPass]] = {
            CredentialType.USERNAME: lambda: pygit2.Username(name),
            CredentialType.SSH_KEY: lambda: self._make_keypair(name),
            CredentialType.USERPASS_PLAINTEXT: lambda: self._make_password(url, name),
        }
        for kind, make in makers.items():
            if kind & allowed_types and kind not in self._offered:
                self._offered.add(kind)
                return make()
        raise Unavailable("users repository: the server refused our credentials")

    @override
    def sideband_progress(self, string: str) -> None:
        """See whether time is up."""
        self._check_limits(0)

    @override
    def transfer_progress(self, stats: TransferProgress) -> None:
        """See whether time is up or the size over the limit."""
        self._check_limits(stats.received_bytes)

    @override
    def push_update_reference(self, refname: str, message: str | None) -> None:
        """Note whether the server took the push."""
        self.refusal = message or ""

    def _check_limits(self, received_bytes: int) -> None:
        if self._stopped.is_set():
            raise Unavailable("users repository: stopped")
        if time.monotonic() > self._deadline:
            raise Unavailable(f"users repository: the transfer took over {TRANSFER_TIMEOUT_S:.0f} s")
        if received_bytes > MAX_FETCH_BYTES:
            raise Unavailable(f"users repository: more than {MAX_FETCH_BYTES} octets to fetch")

    def _make_keypair(self, name: str) -> pygit2.Keypair:
        key = self._access.ssh_key_file
        return pygit2.Keypair(name, None, str(key), "") if key else pygit2.KeypairFromAgent(name)

    def _make_password(self, url: str, name: str) -> pygit2.UserPass:
        # The threat: a redirect to another host gets the password.
        if self._access.password_file is None or urlsplit(url).hostname != urlsplit(self._access.repository).hostname:
            raise Unavailable("users repository: the server wants a password; users.password_file names none for it")
        return pygit2.UserPass(name, self._access.password_file.read_text().strip())
