"""Mail addresses and domains, parsed once at the edge and compared only after. RFC 5321 section 4.1.2, RFC 6531.

Refuses what could reach a machine by accident: ports, bare IPv4 addresses as names, single-label domains.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NewType

from typing_extensions import override

from ptt.core.errors import MalformedInput

Domain = NewType("Domain", str)
"""A domain in lower-case A-labels, or an address literal in brackets."""

MAX_LOCAL_PART = 64  # octets; RFC 5321 section 4.5.3.1.1
MAX_DOMAIN = 255  # octets; RFC 5321 section 4.5.3.1.2
MAX_LABEL = 63  # octets; RFC 1035 section 2.3.4

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_ATOM = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_DOT_ATOM_UTF8 = re.compile(rf"[{_ATEXT}\x80-\U0010ffff]+(?:\.[{_ATEXT}\x80-\U0010ffff]+)*")
_QUOTED = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"')
_QUOTED_UTF8 = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\U0010ffff]|\\[\x20-\x7e])*"')
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?|_[a-z0-9_-]{0,62}")
_COMMON = re.compile(rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@((?:[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.)+[a-z]{{2,63}})")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and what Python decodes to where the octets are no UTF-8: it could be written down nowhere."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox. ``local`` is as on the wire: case kept, quotes kept (RFC 5321 section 2.4)."""

    local: str
    domain: Domain

    @override
    def __str__(self) -> str:
        """Give ``local@domain``."""
        return f"{self.local}@{self.domain}"

    @property
    def is_ascii(self) -> bool:
        """Tell whether it can be sent to a server without SMTPUTF8 (RFC 6531 section 3.2)."""
        return self.local.isascii()


ReversePath = Address | None
"""Where reports go; None is the null reverse-path ``<>`` (RFC 5321 section 4.5.5)."""


def parse_domain(text: str, to_ascii: Callable[[str], str] | None = None) -> Domain:
    """Parse the domain of an address.

    Args:
        text: a domain of at least two labels, or an address literal such as ``[192.0.2.1]``.
        to_ascii: turns U-labels into A-labels and raises ValueError; without it only ASCII is taken.

    Returns:
        The domain in lower-case A-labels, without a final dot.

    Raises:
        MalformedInput: if it is neither, or could be read as a port, a bare IPv4 address or a single label.
    """
    if text.startswith("["):
        return _parse_literal(text)
    if not text.isascii():
        text = _encode(text, to_ascii)
    name = text.lower()
    labels = name.split(".")
    if len(name) > MAX_DOMAIN or not all(len(label) <= MAX_LABEL and _LABEL.fullmatch(label) for label in labels):
        raise MalformedInput("malformed domain")
    # RFC 6409 section 4.2: only fully qualified domains; a number as the last label is an IPv4 address (RFC 1123 2.1).
    if len(labels) == 1 or labels[-1].isdigit():
        raise MalformedInput("domain is not fully qualified")
    if any(label.startswith("xn--") for label in labels):
        _check_a_labels(name, to_ascii)
    return Domain(name)


def parse_address(text: str, *, smtputf8: bool = False, to_ascii: Callable[[str], str] | None = None) -> Address:
    """Parse ``local@domain`` without angle brackets.

    Args:
        text: the mailbox, decoded as UTF-8.
        smtputf8: whether the local part may hold non-ASCII characters (RFC 6531 section 3.3).
        to_ascii: as for `parse_domain`.

    Raises:
        MalformedInput: if it is no mailbox of RFC 5321 section 4.1.2.
    """
    if len(text) <= MAX_LOCAL_PART and (common := _COMMON.fullmatch(text)) and "xn--" not in text:
        return Address(common[1], Domain(common[2]))
    local, at, domain = text.rpartition("@")
    if not at:
        raise MalformedInput("no domain in the address")
    if _UNPRINTABLE.search(local):
        raise MalformedInput("control character, or no UTF-8, in the address")
    if len(local.encode()) > MAX_LOCAL_PART:
        raise MalformedInput("local part is over 64 octets")
    patterns = (_DOT_ATOM_UTF8, _QUOTED_UTF8) if smtputf8 else (_DOT_ATOM, _QUOTED)
    if not any(pattern.fullmatch(local) for pattern in patterns):
        raise MalformedInput("malformed local part")
    return Address(local, parse_domain(domain, to_ascii))


def _encode(text: str, to_ascii: Callable[[str], str] | None) -> str:
    if to_ascii is None:
        raise MalformedInput("domain is not ASCII: write its A-labels (xn--)")
    try:
        return to_ascii(text)
    except ValueError as error:
        raise MalformedInput("malformed internationalised domain") from error


def _check_a_labels(name: str, to_ascii: Callable[[str], str] | None) -> None:
    if to_ascii is not None:
        _encode(name, to_ascii)


def _parse_literal(text: str) -> Domain:
    if not text.endswith("]"):
        raise MalformedInput("malformed address literal")
    inner = text[1:-1]
    if "%" in inner:  # a zone names a link of this very machine
        raise MalformedInput("malformed address literal")
    try:
        # RFC 5321 section 4.1.3: an IPv6 literal carries the tag, an IPv4 literal carries none.
        if inner[:5].lower() == "ipv6:":
            return Domain(f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]")
        return Domain(f"[{ipaddress.IPv4Address(inner)}]")
    except ValueError as error:
        raise MalformedInput("malformed address literal") from error
