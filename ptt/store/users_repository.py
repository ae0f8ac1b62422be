"""The users repository as Git sees it: a folder of this host, or a clone of a repository elsewhere.

Knows commits and the network, nothing of users. Nothing is ever checked out, and no hook or filter runs.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Protocol
from urllib.parse import urlsplit

import pygit2
from pygit2.enums import RepositoryOpenFlag

from ptt.core.errors import ConfigError, MalformedInput, Unavailable
from ptt.core.repository import check_repository, is_remote
from ptt.store.users_transfer import FETCHED, GIT_ERRORS, Access, fetch

_CLONE_OF = "ptt.cloneof"


class Source(Protocol):
    """Where commits come from. All methods block: call them in a thread."""

    def open(self) -> pygit2.Repository:
        """Open the repository on this host, as it is now.

        Raises:
            Unavailable: it cannot be read.
        """

    def find_tip(self, repository: pygit2.Repository) -> pygit2.Commit | None:
        """Ask for the newest commit of the branch; None if there is no such branch.

        Raises:
            Unavailable: it cannot be asked now.
            MalformedInput: the branch was moved in a way that is refused.
        """

    def find_kept(self, repository: pygit2.Repository) -> pygit2.Commit | None:
        """Give the commit that was good last, if it is known without asking anybody."""

    def keep(self, repository: pygit2.Repository, commit: pygit2.Commit) -> None:
        """Note that the commit is good."""

    def stop(self) -> None:
        """End what is under way soon; from any thread."""


def open_source(access: Access) -> Source:
    """Open the repository, and make the folder for the clone of one elsewhere.

    Raises:
        ConfigError: there is none at that path, or the URL or the folder cannot be used.
    """
    check_source(access)
    if access.clone_dir is None or not is_remote(access.repository):
        return LocalSource(access)
    return RemoteSource(access, access.clone_dir)


def check_source(access: Access) -> None:
    """See whether the repository can be opened, or its clone if there is one already; asks no network, makes nothing.

    Raises:
        ConfigError: there is none at that path, or the URL or the clone cannot be used.
    """
    try:
        check_repository(access.repository)
    except MalformedInput as error:
        raise ConfigError(f"users.repository: {error}") from error
    if not is_remote(access.repository):
        LocalSource(access)
    elif access.clone_dir is None:
        raise ConfigError("users.clone_dir: missing; a repository elsewhere needs it")
    else:
        _check_folder(access.clone_dir, access.repository)


def open_repository(path: str | Path) -> pygit2.Repository:
    """Open a bare or other repository at exactly this path.

    Raises:
        Unavailable: there is none, or it cannot be read.
    """
    # Git refuses repositories of other users since their configuration may name programs to run. libgit2 runs none,
    # and a repository that belongs to the user "git" is the usual case.
    pygit2.settings.owner_validation = False
    try:
        return pygit2.Repository(str(path), RepositoryOpenFlag.NO_SEARCH)
    except GIT_ERRORS as error:
        raise Unavailable(f"users repository {path}: {error}") from error


def find_commit(repository: pygit2.Repository, ref: str) -> pygit2.Commit | None:
    """Give the commit that a reference names, if there is such a reference.

    Raises:
        Unavailable: the repository is damaged, or the name is none for a reference.
    """
    if ref not in repository.references:
        return None
    try:
        return repository.lookup_reference(ref).peel(pygit2.Commit)
    except GIT_ERRORS as error:
        raise Unavailable(f"users repository: {ref}: {error}") from error


class LocalSource:
    """A repository on this host: the branch itself is looked at, so that a push counts at the next look."""

    def __init__(self, access: Access) -> None:
        """Check that there is a repository.

        Raises:
            ConfigError: there is none.
        """
        self._access = access
        try:
            open_repository(access.repository)
        except Unavailable as error:
            raise ConfigError(f"users.repository: {error}") from error

    def open(self) -> pygit2.Repository:
        """Open it."""
        return open_repository(self._access.repository)

    def find_tip(self, repository: pygit2.Repository) -> pygit2.Commit | None:
        """Read the branch."""
        return find_commit(repository, self._access.ref)

    def find_kept(self, repository: pygit2.Repository) -> pygit2.Commit | None:  # noqa: ARG002 - as in Source
        """Know nothing: the branch can be read at any time."""
        return None

    def keep(self, repository: pygit2.Repository, commit: pygit2.Commit) -> None:
        """Note nothing."""

    def stop(self) -> None:
        """Have nothing to end."""


class RemoteSource:
    """A repository elsewhere and its bare clone here, whose branch is the last good commit.

    Several processes may share the clone: one of them fetches at a time.
    """

    def __init__(self, access: Access, clone_dir: Path) -> None:
        """Make the clone's folder if there is none.

        Raises:
            ConfigError: it cannot be made.
        """
        self._access = access
        self._clone_dir = clone_dir
        self._stopped = Event()
        try:
            make_clone(clone_dir, access.repository)
        except (Unavailable, *GIT_ERRORS) as error:
            raise ConfigError(f"users.clone_dir: {clone_dir}: {error}") from error

    def open(self) -> pygit2.Repository:
        """Open the clone."""
        return open_repository(self._clone_dir)

    def find_tip(self, repository: pygit2.Repository) -> pygit2.Commit | None:
        """Fetch the branch, unless another process does so now: then what that one finds good will do."""
        kept = self.find_kept(repository)
        with _lock(self._clone_dir / "ptt.lock") as is_ours:
            if not is_ours and kept is None:
                raise Unavailable("users repository: another process is fetching it")
            if not is_ours:
                return kept
            fetch(repository, self._access, self._stopped)
            tip = find_commit(repository, FETCHED)
        if kept is None or kept.id == (tip and tip.id) or (tip and self._access.allows_rewind):
            return tip
        # The threat: who takes over the server puts back a commit in which a removed user was still there.
        if tip is None or not repository.descendant_of(tip.id, kept.id):
            what = f"is {tip.id}, which does not come after" if tip else "is gone; it was at"
            raise MalformedInput(
                f"branch {self._access.branch} {what} {kept.id}, the last good commit;"
                " if this is meant, set users.allow_rewind, or stop the ingress,"
                f" remove {self._clone_dir} and start it again"
            )
        return tip

    def find_kept(self, repository: pygit2.Repository) -> pygit2.Commit | None:
        """Read the clone's own branch."""
        return find_commit(repository, self._access.ref)

    def keep(self, repository: pygit2.Repository, commit: pygit2.Commit) -> None:
        """Move the clone's own branch."""
        try:
            repository.references.create(self._access.ref, commit.id, force=True)
        except GIT_ERRORS as error:
            raise Unavailable(f"users.clone_dir: {error}") from error

    def stop(self) -> None:
        """Make a fetch under way fail at its next sign of life, or at its time limit."""
        self._stopped.set()


def make_clone(clone_dir: Path, repository: str) -> None:
    """Make an empty bare repository in this folder for the clone of another, if there is none.

    Raises:
        ConfigError: it is the clone of something else.
        Unavailable: there is something that is no repository.
    """
    if not (clone_dir / "HEAD").exists():
        clone_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        pygit2.init_repository(clone_dir, bare=True).config[_CLONE_OF] = _name_remote(repository)
    _check_clone(clone_dir, repository)


def _check_folder(clone_dir: Path, repository: str) -> None:
    """See whether the folder is the clone, or is to be made."""
    try:
        if clone_dir.exists() and not clone_dir.is_dir():
            raise ConfigError(f"users.clone_dir: {clone_dir}: is no folder")
        if (clone_dir / "HEAD").exists():
            _check_clone(clone_dir, repository)
    except (Unavailable, *GIT_ERRORS) as error:
        raise ConfigError(f"users.clone_dir: {clone_dir}: {error}") from error


def _check_clone(clone_dir: Path, repository: str) -> None:
    config = open_repository(clone_dir).config
    found = config[_CLONE_OF] if _CLONE_OF in config else ""  # noqa: SIM401 - it is no dict and has no get
    # The threat: users.repository was changed, and the users of the old one could still log in.
    if found != _name_remote(repository):
        raise ConfigError(f"users.clone_dir: {clone_dir} is the clone of {found!r}; remove it or name another folder")


def _name_remote(repository: str) -> str:
    """Give a URL without the name and password in it."""
    parts = urlsplit(repository)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Give whether we are the only one here; never wait."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
