"""What a sender asks of reports on the delivery of a message: RET and ENVID of MAIL, NOTIFY and ORCPT of RCPT.

Values are kept as they stood on the wire, because a relay must pass on the same ones (RFC 3461 section 5.2.1).
RFC 3461 section 4; RFC 6533 section 3 (addresses beyond ASCII).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_ENVID = 100  # RFC 3461 section 4.4
MAX_ORCPT = 500  # RFC 3461 section 4.2

XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 3461 section 4
_HEX = re.compile(r"\+([0-9A-F]{2})")
_PRINTABLE = re.compile(r"[ -~]+")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
# RFC 6533 section 3: with SMTPUTF8 an address of this type may stand as it is.
_UNITEXT = re.compile(r"[!-*,-<>-\[\]-~\x80-\U0010ffff]+")
_UTF_8 = "utf-8"


class Notify(StrEnum):
    """When a recipient's fate is to be reported (RFC 3461 section 4.1)."""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


DEFAULT_NOTIFY = frozenset({Notify.FAILURE, Notify.DELAY})
"""What no NOTIFY means: one of the two readings of RFC 3461 section 4.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientRequest:
    """What was asked for one recipient."""

    notify: frozenset[Notify] | None = None
    """None without the parameter."""
    original_recipient: str = ""
    """ORCPT as on the wire: type, semicolon, address in xtext; empty without the parameter."""

    def wants(self, event: Notify) -> bool:
        """Tell whether a report of this event may be sent (RFC 3461 sections 5.2.2 to 5.2.6)."""
        return event in (DEFAULT_NOTIFY if self.notify is None else self.notify)


NO_REQUEST = RecipientRequest()
NEVER_REPORT = RecipientRequest(notify=frozenset({Notify.NEVER}))
"""What a report itself is sent with (RFC 3461 section 6.1)."""


def is_ret(value: str | None) -> bool:
    """Tell whether a value of RET is one (RFC 3461 section 4.3)."""
    return value is not None and value.upper() in {"FULL", "HDRS"}


def is_envid(value: str | None) -> bool:
    """Tell whether a value of ENVID is one: printable ASCII in xtext (RFC 3461 section 4.4)."""
    return value is not None and len(value) <= MAX_ENVID and _is_printable_xtext(value)


def is_notify(value: str | None) -> bool:
    """Tell whether a value of NOTIFY is one: NEVER alone, or a list of the others (RFC 3461 section 4.1)."""
    words = (value or "").upper().split(",")
    return words == [Notify.NEVER] or (set(words) <= {"SUCCESS", "FAILURE", "DELAY"} and len(set(words)) == len(words))


def is_orcpt(value: str | None, *, smtputf8: bool) -> bool:
    """Tell whether a value of ORCPT is one (RFC 3461 section 4.2, RFC 6533 section 3)."""
    if value is None or len(value.encode()) > MAX_ORCPT:
        return False
    address_type, separator, address = value.partition(";")
    if not separator or not _ADDRESS_TYPE.fullmatch(address_type):
        return False
    if smtputf8 and address_type.lower() == _UTF_8 and not address.isascii():
        return _UNITEXT.fullmatch(address) is not None
    return _is_printable_xtext(address)


def parse_notify(value: str | None) -> frozenset[Notify] | None:
    """Read a value that `is_notify`, or the absence of one."""
    return None if value is None else frozenset(Notify(word) for word in value.upper().split(","))


def format_notify(notify: Iterable[Notify]) -> str:
    """Write a value of NOTIFY."""
    return ",".join(sorted(notify))


def decode_xtext(text: str) -> str:
    """Decode xtext; what is none is left as it stands."""
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def escape_address(text: str) -> str:
    """Write an address in ASCII: utf-8-addr-xtext of RFC 6533 section 3."""
    return "".join(character if character.isascii() else f"\\x{{{ord(character):X}}}" for character in text)


def _is_printable_xtext(text: str) -> bool:
    return XTEXT.fullmatch(text) is not None and _PRINTABLE.fullmatch(decode_xtext(text)) is not None
