"""Read the users of mirage/ptt from its repository: JSON files at the root, of which a bad one spoils no other."""

from dataclasses import dataclass, field

import pygit2
from pygit2.enums import FileMode

from ptt.core.address import Domain
from ptt.core.errors import MalformedInput, Unavailable
from ptt.core.mirage_user import MirageUser, parse_mirage_user
from ptt.store.users_commit import open_access
from ptt.store.users_repository import find_commit
from ptt.store.users_transfer import Access
from ptt.store.users_tree import MAX_FILE_BYTES


@dataclass(frozen=True, slots=True)
class Import:
    """What was found: users, and by file name why others are none."""

    users: list[MirageUser] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def read_mirage_users(access: Access, domain: Domain) -> Import:
    """Read all users of the branch.

    Args:
        access: the repository of mirage/ptt.
        domain: of the mail that its server took.

    Raises:
        ConfigError: there is no such repository on this host.
        Unavailable: it cannot be read now, or has no such branch.
    """
    found = Import()
    with open_access(access) as repository:
        tip = find_commit(repository, access.ref)
        if tip is None:
            raise Unavailable(f"the repository has no branch {access.branch}")
        for entry in tip.tree:
            # mirage/ptt looks at files of the root only.
            if isinstance(entry, pygit2.Tree):
                continue
            name = (entry.raw_name or b"").decode(errors="surrogateescape")
            try:
                found.users.append(_read(entry, name, domain))
            except MalformedInput as error:
                found.problems[name] = str(error)
    return found


def _read(entry: pygit2.Object, name: str, domain: Domain) -> MirageUser:
    if not isinstance(entry, pygit2.Blob) or entry.filemode == FileMode.LINK:
        raise MalformedInput("is no plain file")
    if entry.size > MAX_FILE_BYTES:
        raise MalformedInput(f"has {entry.size} octets, over {MAX_FILE_BYTES}")
    return parse_mirage_user(name, entry.data, domain)
