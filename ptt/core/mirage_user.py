"""A user of mirage/ptt: one JSON file at the root of its repository, named after the local part.

Its server took unsalted BLAKE2B-512 of the password, which whoever has it can try passwords on by the billion. So it is
never stored here: `ptt user import-ptt` puts Argon2id around it, and a login makes the same digest on its way.
"""

import json
import re
from dataclasses import dataclass

from ptt.core.address import Address, Domain, parse_address
from ptt.core.errors import MalformedInput
from ptt.core.user import parse_login

_DIGEST = re.compile(r"[0-9a-f]{128}")
_KEYS = {"password", "targets", "insecure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MirageUser:
    """What a file says."""

    login: str
    """The local part: what a client of mirage/ptt logs in with."""
    address: Address
    """The one reverse-path that its server allowed."""
    digest: bytes
    """BLAKE2B-512 of the password, in hexadecimal."""
    targets: tuple[str, ...]
    """Where mail for the user was forwarded to; ptt receives none."""


def parse_mirage_user(name: str, data: bytes, domain: Domain) -> MirageUser:
    """Read a user's file.

    Args:
        name: of the file.
        data: its content.
        domain: of the mail that its server took.

    Raises:
        MalformedInput: it is no such file.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedInput(f"no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MalformedInput("no JSON object")
    if unknown := sorted(fields.keys() - _KEYS):
        raise MalformedInput(f"{unknown[0]}: unknown key")
    password, targets = fields.get("password"), fields.get("targets", [])
    if not isinstance(password, str) or not _DIGEST.fullmatch(password.lower()):
        raise MalformedInput("password: no BLAKE2B-512 in hexadecimal")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise MalformedInput("targets: no list of texts")
    return MirageUser(
        login=parse_login(name),
        address=parse_address(f"{name}@{domain}", smtputf8=True),
        digest=password.lower().encode(),
        targets=tuple(targets),
    )
