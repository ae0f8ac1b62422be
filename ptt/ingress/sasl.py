"""The SASL exchanges PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login): challenge out, response in.

Login and password are taken as they are, without SASLprep: what differs in one octet differs. RFC 4954 section 4.
"""

import base64
import binascii
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

from ptt.core.errors import Refused
from ptt.core.reply import Reply
from ptt.core.user import MAX_LOGIN

MAX_PASSWORD = 1024  # octets; hashing is meant to be dear, and its price must not be the client's choice
EMPTY_RESPONSE = "="  # RFC 4954 section 4: an initial response of no octets

BAD_BASE64 = Reply(501, "5.5.2", "Response is not base64")
INVALID_CREDENTIALS = Reply(535, "5.7.8", "Authentication credentials invalid")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client claims."""

    login: str
    password: bytes = field(repr=False)


Exchange = Generator[bytes, bytes, Credentials]


def exchange_plain(initial: bytes | None) -> Exchange:
    """Run PLAIN: one response of authorisation identity, login and password with NUL between."""
    response = (yield b"") if initial is None else initial
    authzid, separator, rest = response.partition(b"\0")
    authcid, separator, password = rest.partition(b"\0") if separator else (b"", b"", b"")
    # RFC 4616 section 2: nobody here may act for another, so the authorisation identity says nothing new.
    if not separator or b"\0" in password or authzid not in {b"", authcid}:
        raise Refused(INVALID_CREDENTIALS)
    return make_credentials(authcid, password)


def exchange_login(initial: bytes | None) -> Exchange:
    """Run LOGIN: login and password, each asked for."""
    login = (yield b"Username:") if initial is None else initial
    return make_credentials(login, (yield b"Password:"))


MECHANISMS: Mapping[str, Callable[[bytes | None], Exchange]] = {"PLAIN": exchange_plain, "LOGIN": exchange_login}


def make_credentials(login: bytes, password: bytes) -> Credentials:
    """Check the size and the encoding before anything is hashed.

    Raises:
        Refused: 535.
    """
    if len(login) > MAX_LOGIN or len(password) > MAX_PASSWORD:
        raise Refused(INVALID_CREDENTIALS)
    try:
        return Credentials(login.decode(), password)
    except UnicodeDecodeError as error:
        raise Refused(INVALID_CREDENTIALS) from error


def decode_response(text: bytes) -> bytes:
    """Decode one response; only the canonical form of RFC 4648 section 4 is taken.

    Raises:
        Refused: 501.
    """
    try:
        decoded = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise Refused(BAD_BASE64) from error
    if base64.b64encode(decoded) != text:
        raise Refused(BAD_BASE64)
    return decoded


def decode_initial(text: str) -> bytes:
    """Decode the initial response of the AUTH command.

    Raises:
        Refused: 501.
    """
    return b"" if text == EMPTY_RESPONSE else decode_response(text.encode())
