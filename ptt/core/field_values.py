"""Whether Date and Message-ID say what they are for: a date and time, and one message-id.

The whole grammar of RFC 5322 sections 3.3 and 3.6.4 is taken, of the obsolete one (section 4.3) what living software
writes: years of two digits, named zones, comments in all places, of which one may stand within another. RFC 6532
section 3.2 (UTF-8).
"""

import re
from datetime import date

MAX_VALUE = 2000
"""Octets of a value that is looked at: ten times what anybody writes."""

_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_DAYS = (b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun")
# Quantifiers are possessive, so that the time is linear.
_PLAIN = rb"[^()\\]|\\."
_COMMENT = rb"\((?:%b|\((?:%b)*+\))*+\)" % (_PLAIN, _PLAIN)
_C = rb"(?:[ \t]|%b)*+" % _COMMENT
_DATE = re.compile(
    rb"%(c)b(?:(?P<weekday>%(days)b)%(c)b,%(c)b)?(?P<day>[0-9]{1,2})%(c)b(?P<month>%(months)b)%(c)b(?P<year>[0-9]{2,4})"
    rb"(?=[ \t(])%(c)b(?P<hour>[0-9]{2})%(c)b:%(c)b(?P<minute>[0-9]{2})(?:%(c)b:%(c)b(?P<second>[0-9]{2}))?+"
    rb"(?:(?=[ \t(])%(c)b[+-][0-9]{2}(?P<offset>[0-9]{2})|%(c)b[a-z]{1,5})%(c)b"
    % {b"c": _C, b"days": b"|".join(_DAYS), b"months": b"|".join(_MONTHS)},
    re.IGNORECASE,
)
_DOT_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]++(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]++)*+"
_QUOTED = rb'"(?:[^"\\\r\n]|\\.)*+"'
_LITERAL = rb"\[[!-Z^-~\x80-\xff]*+\]"
_MESSAGE_ID = re.compile(rb"%b<(?:%b|%b)@(?:%b|%b)>%b" % (_C, _DOT_ATOM, _QUOTED, _DOT_ATOM, _LITERAL, _C))


def is_date(value: bytes) -> bool:
    """Tell whether a value is a date and time that exists (RFC 5322 section 3.3).

    Args:
        value: of a Date field, also folded.
    """
    found = _DATE.fullmatch(_unfold(value))
    if found is None:
        return False
    # A minute is two digits, and so is the end of a zone; a second may be a leap second.
    clock = (int(found["hour"]), int(found["minute"]), int(found["second"] or 0), int(found["offset"] or 0))
    if any(number > most for number, most in zip(clock, (23, 59, 60, 59), strict=True)):
        return False
    try:
        day = date(_read_year(found["year"]), _MONTHS.index(found["month"].lower()) + 1, int(found["day"]))
    except ValueError:
        return False
    return found["weekday"] is None or _DAYS.index(found["weekday"].lower()) == day.weekday()


def is_message_id(value: bytes) -> bool:
    """Tell whether a value is one message-id (RFC 5322 section 3.6.4).

    Args:
        value: of a Message-ID field, also folded.
    """
    return _MESSAGE_ID.fullmatch(_unfold(value)) is not None


def _unfold(value: bytes) -> bytes:
    # Unfolding removes the CRLF alone (RFC 5322 section 2.2.3).
    return value.replace(b"\r\n", b"") if len(value) <= MAX_VALUE else b""


def _read_year(digits: bytes) -> int:
    # RFC 5322 section 4.3: two digits are of 1950 to 2049, three count from 1900.
    year = int(digits)
    if len(digits) > 3:  # noqa: PLR2004 - a year as it is
        return year if year >= 1900 else 0  # noqa: PLR2004 - RFC 5322 section 3.3: 1900 or later
    return year + (2000 if len(digits) == 2 and year < 50 else 1900)  # noqa: PLR2004 - see above
