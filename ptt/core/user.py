"""A user who may submit mail: one TOML file in the users repository, and what it allows."""

import hashlib
import tomllib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ptt.core.address import Address, Domain, parse_address, parse_domain
from ptt.core.credentials import ApplicationPassword, parse_application_password, parse_certificate
from ptt.core.errors import MalformedInput
from ptt.core.scram import ScramVerifier, parse_verifier

PASSWORD_PREFIX = "$argon2id$"  # noqa: S105 - the name of the hash, not a password
BLAKE2B = "blake2b-512"
MAX_APPLICATION_PASSWORDS = 100  # each is compared at a login with a wrong password
MAX_LOGIN = 200  # octets; with ``.toml`` still a file name everywhere (255)
_KEYS = {
    "password": str,
    "addresses": list,
    "rate_per_hour": int,
    "rate_per_day": int,
    "recipients_per_day": int,
    "enabled": bool,
    "prehash": str,
    "scram": str,
    "certificates": list,
    "application_passwords": list,
}
_RATES = ("rate_per_hour", "rate_per_day", "recipients_per_day")
_Raw = TypeVar("_Raw")
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user; ``addresses`` and ``domains`` are what may stand in MAIL FROM and From."""

    login: str
    password_hash: str
    addresses: frozenset[Address]
    domains: frozenset[Domain]
    """The domains of the ``*@domain`` patterns: any local part is allowed there."""
    rate_per_hour: int | None = None
    """Limits: none with 0, that of the server with None."""
    rate_per_day: int | None = None
    recipients_per_day: int | None = None
    enabled: bool = True
    prehash: str = ""
    """What was done to the password before it was hashed: nothing, or `BLAKE2B` in a user that was imported."""
    scram: ScramVerifier | None = None
    """The same password in the form that SCRAM needs; without it this user cannot use SCRAM."""
    certificates: frozenset[str] = frozenset()
    """Client certificates that may log in without a password, as `ptt.core.credentials` names them."""
    application_passwords: tuple[ApplicationPassword, ...] = ()

    def prepare_password(self, password: bytes) -> bytes:
        """Give what the hash in the file was made of."""
        return hashlib.blake2b(password).hexdigest().encode() if self.prehash else password

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
        rate_per_day=fields.get("rate_per_day"),
        recipients_per_day=fields.get("recipients_per_day"),
        enabled=fields.get("enabled", True),
        prehash=_name_key("prehash", _parse_prehash, fields.get("prehash", "")),
        scram=_name_key("scram", parse_verifier, fields["scram"]) if "scram" in fields else None,
        certificates=frozenset(
            _name_key("certificates", parse_certificate, text) for text in fields.get("certificates", ())
        ),
        application_passwords=_parse_application_passwords(fields.get("application_passwords", ())),
    )


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
    for key in _RATES:
        rate = fields.get(key)
        if isinstance(rate, int) and rate < 0:
            raise MalformedInput(f"{key}: must not be negative")


def _parse_prehash(name: str) -> str:
    if name not in {"", BLAKE2B}:
        raise MalformedInput(f"must be {BLAKE2B}")
    return name


def _name_key(key: str, parse: Callable[[_Raw], _Parsed], value: _Raw) -> _Parsed:
    try:
        return parse(value)
    except MalformedInput as error:
        raise MalformedInput(f"{key}: {error}") from error


def _parse_application_passwords(tables: Sequence[object]) -> tuple[ApplicationPassword, ...]:
    key = "application_passwords"
    if len(tables) > MAX_APPLICATION_PASSWORDS:
        raise MalformedInput(f"{key}: more than {MAX_APPLICATION_PASSWORDS}")
    found = tuple(_name_key(key, parse_application_password, table) for table in tables)
    if len({one.name for one in found}) < len(found):
        raise MalformedInput(f"{key}: two have the same name")
    return found


def _parse_pattern(pattern: object) -> Address | Domain:
    if not isinstance(pattern, str):
        raise MalformedInput("addresses: each must be text")
    try:
        return parse_domain(pattern[2:]) if pattern.startswith("*@") else parse_address(pattern, smtputf8=True)
    except MalformedInput as error:
        raise MalformedInput(f"addresses: {pattern!r}: {error}") from error
