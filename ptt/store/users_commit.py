"""Changes of the users repository: each is one commit on the branch, pushed where the repository is elsewhere.

Trees are built from Git objects. Only where a work tree of this host has the branch checked out is the one changed
file written there too, since the next commit made there would take the change back otherwise.
"""

import os
import pwd
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pygit2
from pygit2.enums import CheckoutStrategy, FileMode, FileStatus

from ptt.core.errors import ConfigError, MalformedInput, PttError, Unavailable
from ptt.core.repository import is_remote
from ptt.store.users_repository import find_commit, open_repository
from ptt.store.users_signers import sign_commit
from ptt.store.users_transfer import FETCHED, GIT_ERRORS, Access, fetch, push
from ptt.store.users_tree import FOLDER, SUFFIX, Snapshot, read_snapshot

MAX_ATTEMPTS = 20  # when others commit at the same time: scripts that add users side by side lose five races in a row

_README = """\
# Users of ptt

One file a user, `users/<login>.toml`:

    password = "$argon2id$..."
    addresses = ["alice@example.org", "*@alerts.example.org"]
    rate_per_hour = 500        # optional, as are rate_per_day and recipients_per_day
    enabled = true             # optional
    scram = "SCRAM-SHA-256$..."              # optional: the same password for SCRAM
    certificates = ["sha256:..."]            # optional: client certificates that log in without a password
    [[application_passwords]]                # optional, any number: passwords of single programs
    name = "printer"
    hash = "sha256:..."

`ptt user add`, `set-password`, `add-password`, `disable` and so on make such commits. A commit that does not parse is
refused whole.
"""

Edit = Callable[[str | None], str | None]
"""Gives the new text of a user's file from the present one; None: there is no such user, or is to be none."""


def create_repository(path: Path, branch: str) -> str:
    """Create a bare users repository with a first commit, and give the name of that."""
    repository = pygit2.init_repository(path, bare=True, initial_head=branch)
    root = repository.TreeBuilder()
    root.insert("README.md", repository.create_blob(_README.encode()), FileMode.BLOB)
    who = _sign(repository)
    return str(repository.create_commit(f"refs/heads/{branch}", who, who, "Start\n", root.write(), []))


def read_users(access: Access) -> Snapshot:
    """Read all users as of now.

    Raises:
        ConfigError: there is no such repository on this host.
        Unavailable: it cannot be read now.
        BadTree: the newest commit is one that is not served.
    """
    with open_access(access) as repository:
        tip = find_commit(repository, access.ref)
        empty = Snapshot("")
        return empty if tip is None else read_snapshot(repository, tip.tree, str(tip.id), empty)


def commit_user(access: Access, login: str, edit: Edit, message: str) -> str:
    """Change one user's file; see `commit_users`."""
    return commit_users(access, {login: edit}, message)


def commit_users(access: Access, edits: Mapping[str, Edit], message: str) -> str:
    """Change the files of users in one commit.

    Args:
        access: the repository.
        edits: by login, which `ptt.core.user.parse_login` has checked; what one raises ends all without a change.
        message: the subject of the commit.

    Returns:
        The name of the commit.

    Raises:
        ConfigError: there is no such repository on this host, or commits must be signed and there is no key for it.
        Unavailable: it cannot be read or pushed to now.
        BadTree: with this change, or already without it, the tree is none that is served.
        MalformedInput: the file has changes in the work tree that nobody committed.
    """
    if access.must_sign and access.signing_key_file is None:
        raise ConfigError("users.signing_key_file: missing: users.signers_file asks for signed commits")
    for _ in range(MAX_ATTEMPTS):
        try:
            with open_access(access) as repository:
                tip = find_commit(repository, access.ref)
                commit = _sign_commit(repository, access, _build(repository, tip, edits, message))
                if _land(repository, access, tip, commit, edits):
                    return str(commit)
        except PttError:
            raise
        except GIT_ERRORS as error:
            raise Unavailable(f"users repository: {error}") from error
    raise Unavailable(f"users repository: somebody else changed it {MAX_ATTEMPTS} times in a row")


@contextmanager
def open_access(access: Access) -> Iterator[pygit2.Repository]:
    """Give the repository itself, or a short-lived clone of it."""
    if not is_remote(access.repository):
        try:
            repository = open_repository(access.repository)
        except Unavailable as error:
            raise ConfigError(f"users.repository: {error}") from error
        yield repository
        return
    with tempfile.TemporaryDirectory(prefix="ptt-users-") as folder:
        clone = pygit2.init_repository(folder, bare=True)
        fetch(clone, access)
        if tip := find_commit(clone, FETCHED):
            clone.references.create(access.ref, tip.id)
        yield clone


def _build(
    repository: pygit2.Repository, tip: pygit2.Commit | None, edits: Mapping[str, Edit], message: str
) -> pygit2.Oid:
    """Make the commit, which nothing points to yet."""
    root = repository.TreeBuilder(tip.tree) if tip else repository.TreeBuilder()
    folder = tip.tree[FOLDER] if tip and FOLDER in tip.tree else None
    users = repository.TreeBuilder(folder) if isinstance(folder, pygit2.Tree) else repository.TreeBuilder()
    for login, edit in edits.items():
        name = f"{login}{SUFFIX}"
        text = edit(_read_text(folder, name))
        if text is not None:
            users.insert(name, repository.create_blob(text.encode()), FileMode.BLOB)
        elif users.get(name) is not None:
            users.remove(name)
    root.insert(FOLDER, users.write(), FileMode.TREE)
    tree_id = root.write()
    tree = repository[tree_id].peel(pygit2.Tree)
    # What would be refused at every ingress must not be committed.
    read_snapshot(repository, tree, "", Snapshot(""))
    who = _sign(repository)
    return repository.create_commit(None, who, who, f"{message}\n", tree_id, [tip.id] if tip else [])


def _sign_commit(repository: pygit2.Repository, access: Access, commit: pygit2.Oid) -> pygit2.Oid:
    """Give the same commit with a signature, if there is a key for that."""
    if access.signing_key_file is None:
        return commit
    content = repository[commit].read_raw()
    return repository.create_commit_with_signature(content.decode(), sign_commit(content, access.signing_key_file))


def _read_text(folder: pygit2.Object | None, name: str) -> str | None:
    if not isinstance(folder, pygit2.Tree) or name not in folder:
        return None
    entry = folder[name]
    if not isinstance(entry, pygit2.Blob):
        raise MalformedInput(f"{FOLDER}/{name}: is no plain file")
    return entry.data.decode()


def _land(
    repository: pygit2.Repository,
    access: Access,
    tip: pygit2.Commit | None,
    commit: pygit2.Oid,
    logins: Iterable[str],
) -> bool:
    """Move the branch from ``tip`` to ``commit``; False if it was no longer at ``tip``."""
    if is_remote(access.repository):
        return push(repository, access, commit)
    paths = [f"{FOLDER}/{login}{SUFFIX}" for login in logins]
    is_checked_out = not repository.is_bare and repository.lookup_reference("HEAD").target == access.ref
    if is_checked_out:
        for path in paths:
            _check_clean(repository, path)
    if not _move(repository, access.ref, tip, commit):
        return False
    if is_checked_out:
        strategy = CheckoutStrategy.FORCE | CheckoutStrategy.DISABLE_PATHSPEC_MATCH
        repository.checkout(access.ref, strategy=strategy, paths=paths)
        # A checkout leaves alone what the commit no longer has.
        for path in paths:
            _drop_removed(repository, path)
    return True


def _drop_removed(repository: pygit2.Repository, path: str) -> None:
    tree = repository.head.peel(pygit2.Commit).tree
    if path in tree:
        return
    Path(repository.workdir, path).unlink(missing_ok=True)
    if path in repository.index:
        repository.index.remove(path)
        repository.index.write()


def _move(repository: pygit2.Repository, ref: str, tip: pygit2.Commit | None, commit: pygit2.Oid) -> bool:
    try:
        if tip is None:
            repository.references.create(ref, commit)
            return True
        reference = repository.lookup_reference(ref)
        if reference.target != tip.id:
            return False
        # libgit2 moves it only if it is still where it was when it was looked up.
        reference.set_target(commit, "ptt user")
    except (pygit2.GitError, ValueError):
        now = find_commit(repository, ref)
        if (now and now.id) != (tip and tip.id):
            return False
        raise
    return True


def _check_clean(repository: pygit2.Repository, path: str) -> None:
    try:
        status = repository.status_file(path)
    except KeyError:
        return
    if status not in {FileStatus.CURRENT, FileStatus.IGNORED}:
        raise MalformedInput(f"{path}: has changes in {repository.workdir} that nobody committed")


def _sign(repository: pygit2.Repository) -> pygit2.Signature:
    """Give who commits: as Git is configured, else the account on this host."""
    try:
        return repository.default_signature
    except (KeyError, pygit2.GitError):
        name = pwd.getpwuid(os.geteuid()).pw_name
        return pygit2.Signature(name, f"{name}@{socket.gethostname()}")
