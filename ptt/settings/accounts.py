"""Accounts of this host that `ptt up --user-per-role` runs the roles as, from the names in ``[up]``."""

import pwd
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of the system with one group."""

    name: str
    """As `chown` takes it."""
    group: str
    """The same of its group."""
    uid: int
    gid: int
    home: str = "/"


def find_account(text: str) -> Account:
    """Find an account by name, or take ``uid:gid`` as it is.

    Raises:
        ValueError: there is no such user, or it is root.
    """
    uid, colon, gid = text.partition(":")
    if colon and uid.isdecimal() and gid.isdecimal():
        found = Account(name=uid, group=gid, uid=int(uid), gid=int(gid))
    else:
        try:
            entry = pwd.getpwnam(text)
        except KeyError:
            raise ValueError(f"no user {text!r} on this host: useradd --system --user-group {text}") from None
        found = Account(name=text, group=str(entry.pw_gid), uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir)
    if not found.uid or not found.gid:
        raise ValueError(f"{text} has the rights of root")
    return found


def find_double(accounts: Iterable[Account]) -> str:
    """Name a user or group that two accounts have in common: they could read each other's files."""
    users, groups = set[int](), set[int]()
    for account in accounts:
        if account.uid in users or account.gid in groups:
            return account.name
        users.add(account.uid)
        groups.add(account.gid)
    return ""
