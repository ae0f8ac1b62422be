"""A user who may submit mail: one TOML file in the users repository, and what it allows."""

import tomllib
from dataclasses import dataclass

from ptt.core.address import Address, Domain, parse_address, parse_domain
from ptt.core.errors import MalformedInput

PASSWORD_PREFIX = "$argon2id$"  # noqa: S105 - the name of the hash, not a password
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


def parse_user(login: str, text: str) -> User:
    """Read ``users/<login>.toml``.

    Raises:
        MalformedInput: with the key and the reason, if anything in the file is wrong or unknown.
    """
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
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
