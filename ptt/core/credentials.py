"""What beside a password lets a user in: passwords of single programs, and names of client certificates."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from ptt.core.errors import MalformedInput

MAX_NAME = 64  # characters; it stands in lists and in the log
DIGEST_PREFIX = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}")
_CERTIFICATE_NAME = re.compile(r"(dns|email):[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class ApplicationPassword:
    """A password that one program has; made up by us.

    It has 192 bits of chance, so that a fast hash is enough: nobody guesses it, whatever a guess costs.
    """

    name: str
    digest: bytes = field(repr=False)

    def is_right(self, password: bytes) -> bool:
        """Compare, in the same time whatever is wrong."""
        return hmac.compare_digest(hashlib.sha256(password).digest(), self.digest)


def make_application_password(name: str, password: bytes) -> ApplicationPassword:
    """Hash a password that was made up with at least 128 bits of chance.

    Raises:
        MalformedInput: the name cannot be used.
    """
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise MalformedInput(f"name: must have 1 to {MAX_NAME} characters that can be seen")
    return ApplicationPassword(name, hashlib.sha256(password).digest())


def parse_application_password(table: object) -> ApplicationPassword:
    """Read one ``[[application_passwords]]`` table.

    Raises:
        MalformedInput: anything in it is wrong or unknown.
    """
    if not isinstance(table, dict) or set(table) != {"name", "hash"}:
        raise MalformedInput("each must be a table of name and hash")
    name, text = table["name"], table["hash"]
    if not isinstance(name, str) or not isinstance(text, str):
        raise MalformedInput("name and hash must be text")
    digest = text.removeprefix(DIGEST_PREFIX)
    if digest == text or not _HEX.fullmatch(digest):
        raise MalformedInput("hash: must be sha256: and 64 hexadecimal digits; `ptt user add-password` makes one")
    return ApplicationPassword(make_application_password(name, b"").name, bytes.fromhex(digest))


def format_application_password(password: ApplicationPassword) -> str:
    """Write the hash as it stands in a user's file."""
    return DIGEST_PREFIX + password.digest.hex()


def parse_certificate(text: object) -> str:
    """Read the name of a client certificate.

    Returns:
        ``sha256:`` and the fingerprint of the whole certificate, or ``dns:`` or ``email:`` and a name in it, in lower
        case.

    Raises:
        MalformedInput: it is none of these.
    """
    if not isinstance(text, str):
        raise MalformedInput("each must be text")
    name = text.lower()
    # openssl x509 -fingerprint writes colons between the octets.
    fingerprint = name.removeprefix(DIGEST_PREFIX).replace(":", "")
    if name.startswith(DIGEST_PREFIX) and _HEX.fullmatch(fingerprint):
        return DIGEST_PREFIX + fingerprint
    if not _CERTIFICATE_NAME.fullmatch(name) or "*" in name:
        raise MalformedInput(f"{text!r}: must be sha256:<fingerprint>, dns:<name> or email:<address>")
    return name
