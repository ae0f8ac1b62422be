"""The messages of OAUTHBEARER. RFC 7628 sections 3.1 and 3.2.2, RFC 6750 section 2.1."""

import json
import re
from dataclasses import dataclass, field

from ptt.core.errors import MalformedInput

_MESSAGE = re.compile(
    rb"(?P<flag>[ny]|p=[A-Za-z0-9.-]+),(?:a=(?P<authzid>[^,\x01]+))?,\x01(?P<pairs>(?:[A-Za-z]+=[^\x01]*\x01)*)\x01"
)
_TOKEN = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_ESCAPES = {"2C": ",", "3D": "="}


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a client claims: a token, and who it is if it says so."""

    token: str = field(repr=False)
    authzid: str


def parse_bearer(message: bytes) -> Bearer:
    """Read the client's message.

    Raises:
        MalformedInput: it is none, or has no bearer token in it.
    """
    found = _MESSAGE.fullmatch(message)
    if found is None or found["flag"].startswith(b"p"):
        raise MalformedInput("malformed response")
    pairs = dict(pair.split(b"=", 1) for pair in found["pairs"].split(b"\x01") if pair)
    token = _TOKEN.fullmatch(pairs.get(b"auth", b""))
    if token is None:
        raise MalformedInput("no bearer token")
    try:
        authzid = (found["authzid"] or b"").decode()
    except UnicodeDecodeError as error:
        raise MalformedInput("the user name is not UTF-8") from error
    return Bearer(token[1].decode(), re.sub("=(2C|3D)", lambda escape: _ESCAPES[escape[1]], authzid))


def format_problem(status: str, scope: str) -> bytes:
    """Write what is wrong with a token, for the client's library."""
    return json.dumps({"status": status, "schemes": "bearer"} | ({"scope": scope} if scope else {})).encode()
