"""Changes of a user's file: text in, text out; what a person wrote beside the change stays as it is."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from ptt.core.credentials import ApplicationPassword, format_application_password
from ptt.core.errors import MalformedInput
from ptt.core.mirage_user import MirageUser
from ptt.core.scram import ScramVerifier
from ptt.core.user import BLAKE2B, User, parse_user

_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)


def format_user(password_hash: str, patterns: Sequence[str], scram: ScramVerifier | None = None) -> str:
    """Write a new user's file.

    Args:
        password_hash: an Argon2id hash.
        patterns: addresses, and ``*@domain`` for all of a domain.
        scram: the same password for SCRAM.
    """
    listed = ", ".join(_format_value(pattern) for pattern in patterns)
    text = f"password = {_format_value(password_hash)}\naddresses = [{listed}]\n"
    return text if scram is None else f"{text}scram = {_format_value(str(scram))}\n"


def format_imported_user(user: MirageUser, password_hash: str) -> str:
    """Write the file of a user of mirage/ptt.

    Args:
        user: as it was there.
        password_hash: an Argon2id hash of its digest.
    """
    text = f"{format_user(password_hash, [str(user.address)])}prehash = {_format_value(BLAKE2B)}\n"
    forwarded = " ".join(map(_format_value, user.targets))
    return f"{text}# In mirage/ptt, mail went on to: {forwarded}\n" if forwarded else text


def replace_password(login: str, text: str, password_hash: str, scram: ScramVerifier | None = None) -> str:
    """Put another password into a user's file.

    Args:
        login: whose file.
        text: the file.
        password_hash: an Argon2id hash.
        scram: the same password for SCRAM; without it none stays there, for it would be the old password.

    Raises:
        MalformedInput: the file is wrong, or written in a way that a person has to edit.
    """
    changed = replace(parse_user(login, text), password_hash=password_hash)
    text = _replace(text, "password", password_hash, changed)
    if changed.prehash:
        changed = replace(changed, prehash="")
        text = _replace(text, "prehash", None, changed)
    if scram is None and changed.scram is None:
        return text
    return _replace(text, "scram", str(scram) if scram else None, replace(changed, scram=scram))


def replace_enabled(login: str, text: str, *, enabled: bool) -> str:
    """Enable or disable a user in the file.

    Raises:
        MalformedInput: the file is wrong, or written in a way that a person has to edit.
    """
    return _replace(text, "enabled", enabled, replace(parse_user(login, text), enabled=enabled))


def add_application_password(login: str, text: str, password: ApplicationPassword) -> str:
    """Add a password of one program.

    Raises:
        MalformedInput: the file is wrong, or has one of this name.
    """
    user = parse_user(login, text)
    if any(one.name == password.name for one in user.application_passwords):
        raise MalformedInput(f"application_passwords: {password.name!r} exists already")
    table = (
        f"[[application_passwords]]\nname = {_format_value(password.name)}\n"
        f"hash = {_format_value(format_application_password(password))}\n"
    )
    expected = replace(user, application_passwords=(*user.application_passwords, password))
    return _check(f"{text.rstrip()}\n\n{table}", "application_passwords", expected)


def remove_application_password(login: str, text: str, name: str) -> str | None:
    """Remove a password of one program; None if there is none of this name.

    Raises:
        MalformedInput: the file is wrong, or written in a way that a person has to edit.
    """
    user = parse_user(login, text)
    left = tuple(one for one in user.application_passwords if one.name != name)
    if left == user.application_passwords:
        return None
    head, *tables = re.split(r"(?m)^(?=[ \t]*\[)", text)
    line = f"name = {_format_value(name)}"
    kept = [table for table in tables if line not in map(str.strip, table.splitlines())]
    return _check(
        "".join([head, *kept]).rstrip() + "\n", "application_passwords", replace(user, application_passwords=left)
    )


def _replace(text: str, key: str, value: str | bool | None, expected: User) -> str:  # noqa: FBT001 - a value of TOML
    line = "" if value is None else f"{key} = {_format_value(value)}"
    edited, count = re.subn(rf"^{key}[ \t]*=.*\n?", lambda _: line and f"{line}\n", text, count=1, flags=re.MULTILINE)
    if not count:
        # Behind the header of a table it would be a key of the table.
        table = _TABLE.search(text)
        end = table.start() if table else len(text)
        edited = f"{text[:end].rstrip()}\n{line}\n" + (f"\n{text[end:]}" if table else "")
    return _check(edited, key, expected)


def _check(edited: str, key: str, expected: User) -> str:
    # A value over several lines, or a line that only looks like the key: better no change than a wrong one.
    try:
        is_right = parse_user(expected.login, edited) == expected
    except MalformedInput:
        is_right = False
    if not is_right:
        raise MalformedInput(f"{key}: cannot be replaced in this file; edit it by hand")
    return edited


def _format_value(value: str | bool) -> str:  # noqa: FBT001 - a value of TOML
    # RFC 8259 strings and booleans are TOML ones, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
