"""One commit of the users repository as a snapshot: read from Git objects, never from files of a work tree.

So no checkout, filter or hook runs, and a login never becomes a path. A tree that holds anything odd is refused
whole: half of a change must not decide who may log in.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pygit2
from pygit2.enums import FileMode

from ptt.core.address import parse_domain
from ptt.core.errors import MalformedInput
from ptt.core.user import User, fold_login, parse_login, parse_user
from ptt.domain_names import to_a_labels
from ptt.store.decoys import Decoys, make_decoys
from ptt.store.users_password import check_hash

FOLDER = "users"
SUFFIX = ".toml"
MAX_FILE_BYTES = 65_536  # octets; a huge file pushed by mistake must not fill the memory of every ingress
MAX_USERS = 100_000  # a snapshot of so many takes seconds and some 100 MB; more is a mistake or an attack

_ODD_MODES = {
    FileMode.LINK: "is a symbolic link",
    FileMode.COMMIT: "is a submodule",
    FileMode.BLOB_EXECUTABLE: "is executable",
    FileMode.TREE: "is a folder",
}


class BadTree(MalformedInput):
    """A commit that cannot be served: which file of it, which line if one can be named, and why."""

    def __init__(self, path: str, reason: str, line: int | None = None) -> None:
        """Keep where and why."""
        super().__init__(f"{path}{f':{line}' if line else ''}: {reason}" if path else f"the commit {reason}")
        self.path = path
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All users of one commit."""

    commit: str
    users: Mapping[str, User] = field(default_factory=dict)
    blobs: Mapping[str, pygit2.Oid] = field(default_factory=dict)
    """The file of each user: the next snapshot takes over what did not change."""
    decoys: Decoys = field(default_factory=Decoys)
    certified: Mapping[str, str] = field(default_factory=dict)
    """The login that each name of a client certificate belongs to."""
    folders: Sequence[str] = ()
    """Below `FOLDER`; nothing in them is read."""


def read_snapshot(repository: pygit2.Repository, tree: pygit2.Tree, commit: str, last: Snapshot) -> Snapshot:
    """Read all users of a tree.

    Args:
        repository: where the tree is.
        tree: the root of the commit.
        commit: its name.
        last: an earlier snapshot, so that only changed files are parsed; an empty one does.

    Raises:
        BadTree: something in it is no user; nothing of it may be used.
    """
    users: dict[str, User] = {}
    blobs: dict[str, pygit2.Oid] = {}
    folder = _open_folder(tree)
    for login, entry in _list_entries(folder):
        if len(users) == MAX_USERS:
            raise BadTree(FOLDER, f"has more than {MAX_USERS} users")
        # A tree that no program of Git writes may have a name twice, and which of the files counts would be chance.
        if login in users:
            raise BadTree(f"{FOLDER}/{login}{SUFFIX}", "is there twice")
        blobs[login] = entry.id
        unchanged = last.blobs.get(login) == entry.id
        users[login] = last.users[login] if unchanged else _read_user(repository, login, entry.id)
    _check_collisions(users)
    folders = [f"{FOLDER}/{name}" for name, entry in folder if entry.filemode == FileMode.TREE]
    return Snapshot(commit, users, blobs, make_decoys(users.values()), _index_certificates(users), folders)


def _open_folder(tree: pygit2.Tree) -> Sequence[tuple[str, pygit2.Object]]:
    if FOLDER not in tree:
        return ()
    folder = tree[FOLDER]
    if not isinstance(folder, pygit2.Tree):
        raise BadTree(FOLDER, "is no folder")
    return [((entry.raw_name or b"").decode(errors="surrogateescape"), entry) for entry in folder]


def _list_entries(folder: Sequence[tuple[str, pygit2.Object]]) -> Iterator[tuple[str, pygit2.Object]]:
    for name, entry in folder:
        if not name.endswith(SUFFIX):
            continue
        path = f"{FOLDER}/{name}"
        if entry.filemode != FileMode.BLOB:
            kind = _ODD_MODES.get(entry.filemode, f"has mode {entry.filemode:o}")
            raise BadTree(path, f"{kind}, must be a plain file")
        try:
            yield parse_login(name.removesuffix(SUFFIX)), entry
        except MalformedInput as error:
            raise BadTree(path, str(error)) from error


def _read_user(repository: pygit2.Repository, login: str, blob_id: pygit2.Oid) -> User:
    path = f"{FOLDER}/{login}{SUFFIX}"
    _, size_bytes = repository.odb.read_header(blob_id)
    if size_bytes > MAX_FILE_BYTES:
        raise BadTree(path, f"has {size_bytes} octets, over {MAX_FILE_BYTES}")
    data = repository.odb.read(blob_id)[1]
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadTree(path, "not UTF-8", data.count(b"\n", 0, error.start) + 1) from error
    try:
        user = parse_user(login, text)
        check_hash(user.password_hash)
        _check_domains(user)
    except MalformedInput as error:
        raise BadTree(path, str(error), find_line(text, str(error))) from error
    return user


def _check_domains(user: User) -> None:
    # Submission refuses A-labels that are none: such an address would be there and could never be used.
    for domain in sorted({*user.domains, *(address.domain for address in user.addresses)}):
        try:
            parse_domain(domain, to_a_labels)
        except MalformedInput as error:
            raise MalformedInput(f"addresses: {domain!r}: {error}") from error


def find_line(text: str, reason: str) -> int | None:
    """Find the line that a parser's reason is about: it names a line, or a key that stands there."""
    if named := re.search(r"at line (\d+)", reason):
        return int(named[1])
    if "at end of document" in reason:
        return text.count("\n") + 1
    key = reason.partition(":")[0]
    found = re.search(rf"^[ \t]*[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else None


def _index_certificates(users: Mapping[str, User]) -> dict[str, str]:
    certified: dict[str, str] = {}
    for login, user in users.items():
        for name in user.certificates:
            if (other := certified.setdefault(name, login)) != login:
                raise BadTree(f"{FOLDER}/{login}{SUFFIX}", f"certificates: {name} belongs to {other} too")
    return certified


def _check_collisions(users: Mapping[str, User]) -> None:
    # The threat: "Alice" beside "alice" is one file in the clone of a person on another file system, and one is lost.
    folded = Counter(fold_login(login) for login in users)
    if len(folded) == len(users):
        return
    names = sorted(login for login in users if folded[fold_login(login)] > 1)
    raise BadTree(f"{FOLDER}/{names[0]}{SUFFIX}", f"differs from {names[1]}{SUFFIX} in case or form only")
