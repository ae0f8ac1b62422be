"""A user who may submit mail: one TOML file in the users repository, and what it allows."""

import json
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ptt.core.address import Address, Domain, parse_address, parse_domain
from ptt.core.errors import MalformedInput

PASSWORD_PREFIX = "$argon2id$"  # noqa: S105 - the name of the hash, not a password
MAX_LOGIN = 200  # octets; with ``.toml`` still a file name everywhere (255)
_KEYS = {"password": str, "addresses": list, "rate_per_hour": int, "enabled": bool}


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user; ``addresses`` and ``domains`` are what may stand in MAIL FROM and From."""

    login: str
    password_hash: str
    addresses: frozenset[Address]
    domains: frozenset[Domain]
    """The domains of the ``*@domain`` patterns: any local part is allowed there."""
    rate_per_hour: int | None = None
    enabled: bool = True

    def may_send_as(self, address: Address) -> bool:
        """Tell whether this user owns the address (RFC 6409 section 6.1)."""
        return address in self.addresses or address.domain in self.domains


def parse_login(text: str) -> str:
    """Check the name a user logs in with: it must also do as the name of a file.

    Raises:
        MalformedInput: if it is empty, too long, or has a character that means something to a file system or a
            terminal.
    """
    if not text or len(text.encode("utf-8", "surrogateescape")) > MAX_LOGIN:
        raise MalformedInput(f"login: must have 1 to {MAX_LOGIN} octets")
    # The threat: "../x" or ".git" leaves the folder in a checkout; control and bidirectional characters lie to who
    # reads a list of users.
    if text.startswith(".") or ".." in text or "/" in text or "\\" in text:
        raise MalformedInput(f"login: {text!r} is no file name")
    if not text.isprintable() or text != text.strip():
        raise MalformedInput(f"login: {text!r} has a character that cannot be seen")
    return text


def fold_login(login: str) -> str:
    """Give what two logins must not have in common: people and some file systems take them for one."""
    return unicodedata.normalize("NFKC", login).casefold()


def parse_user(login: str, text: str) -> User:
    """Read ``users/<login>.toml``.

    Raises:
        MalformedInput: with the key and the reason, if anything in the file is wrong or unknown.
    """
    try:
        fields = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Beside its own error tomllib lets through those of numbers and of brackets without end.
        raise MalformedInput(str(error)) from error
    _check_keys(fields)
    patterns = [_parse_pattern(pattern) for pattern in fields["addresses"]]
    return User(
        login=login,
        password_hash=fields["password"],
        addresses=frozenset(pattern for pattern in patterns if isinstance(pattern, Address)),
        domains=frozenset(pattern for pattern in patterns if not isinstance(pattern, Address)),
        rate_per_hour=fields.get("rate_per_hour"),
        enabled=fields.get("enabled", True),
    )


def format_user(password_hash: str, patterns: Sequence[str]) -> str:
    """Write a new user's file.

    Args:
        password_hash: an Argon2id hash.
        patterns: addresses, and ``*@domain`` for all of a domain.
    """
    listed = ", ".join(_format_value(pattern) for pattern in patterns)
    return f"password = {_format_value(password_hash)}\naddresses = [{listed}]\n"


def replace_password(login: str, text: str, password_hash: str) -> str:
    """Put another password hash into a user's file and leave all else as it is.

    Raises:
        MalformedInput: the file is wrong, or written in a way that a person has to edit.
    """
    return _replace(text, "password", password_hash, replace(parse_user(login, text), password_hash=password_hash))


def replace_enabled(login: str, text: str, *, enabled: bool) -> str:
    """Enable or disable a user in the file and leave all else as it is.

    Raises:
        MalformedInput: the file is wrong, or written in a way that a person has to edit.
    """
    return _replace(text, "enabled", enabled, replace(parse_user(login, text), enabled=enabled))


def _replace(text: str, key: str, value: object, expected: User) -> str:
    line = f"{key} = {_format_value(value)}"
    edited, count = re.subn(rf"^{key}[ \t]*=.*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    if not count:
        edited = f"{text.rstrip()}\n{line}\n"
    # A value over several lines, or a line that only looks like the key: better no change than a wrong one.
    try:
        is_right = parse_user(expected.login, edited) == expected
    except MalformedInput:
        is_right = False
    if not is_right:
        raise MalformedInput(f"{key}: cannot be replaced in this file; edit it by hand")
    return edited


def _format_value(value: object) -> str:
    # RFC 8259 strings and booleans are TOML ones, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_keys(fields: dict[str, object]) -> None:
    for key, value in fields.items():
        if key not in _KEYS:
            raise MalformedInput(f"{key}: unknown key")
        # bool is an int in Python, but true is no rate.
        if type(value) is not _KEYS[key]:
            raise MalformedInput(f"{key}: must be {_KEYS[key].__name__}, not {type(value).__name__}")
    for key in ("password", "addresses"):
        if key not in fields:
            raise MalformedInput(f"{key}: missing")
    if not str(fields["password"]).startswith(PASSWORD_PREFIX):
        raise MalformedInput("password: not an argon2id hash")
    rate = fields.get("rate_per_hour")
    if isinstance(rate, int) and rate < 1:
        raise MalformedInput("rate_per_hour: must be at least 1")


def _parse_pattern(pattern: object) -> Address | Domain:
    if not isinstance(pattern, str):
        raise MalformedInput("addresses: each must be text")
    try:
        return parse_domain(pattern[2:]) if pattern.startswith("*@") else parse_address(pattern, smtputf8=True)
    except MalformedInput as error:
        raise MalformedInput(f"addresses: {pattern!r}: {error}") from error
