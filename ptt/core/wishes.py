"""The parameters of MAIL that ask something of the way: read as they were said, judged, and turned into options.

RFC 8689 (REQUIRETLS), RFC 4865 (HOLDFOR, HOLDUNTIL), RFC 2852 (BY), RFC 6710 (MT-PRIORITY).
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ptt.core.errors import Refused
from ptt.core.options import NO_OPTIONS, ByMode, Deadline, Options, TlsDemand
from ptt.core.reply import Reply

# RFC 4865 section 3: a number of seconds without zeros in front, or a date and time of RFC 3339 in UTC.
_HOLD_FOR = re.compile(r"[1-9][0-9]{0,8}")
_HOLD_UNTIL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z", re.IGNORECASE)
# RFC 2852 section 4: seconds, which may be used up already; return or notify; trace.
_BY = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)
_PRIORITY = re.compile(r"0|-?[1-9]")  # RFC 6710 section 4.1

HOLD_TOO_LONG = Reply(501, "5.5.4", "Hold is longer than this server allows, or named twice")
HOLD_IS_OVER = Reply(501, "5.5.4", "HOLDUNTIL has passed")
BY_HAS_PASSED = Reply(501, "5.5.4", "BY with mode R needs time that is not used up, and that the hold leaves over")
BY_TOO_SOON = Reply(555, "5.5.4", "BY is less than this server promises")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was asked, in the terms of the client; the default is nothing."""

    requires_tls: bool = False
    hold_for_s: int = 0
    hold_until: float = 0.0
    """Seconds since 1970."""
    is_held_twice: bool = False
    by_s: int = 0
    by_mode: ByMode | None = None
    """None without a deadline."""
    is_traced: bool = False
    priority: int = 0


NO_WISHES = Wishes()


@dataclass(frozen=True, slots=True, kw_only=True)
class WishLimits:
    """What may be asked."""

    max_hold_s: int = 604_800
    """Longest hold; 0: none is offered."""
    min_by_s: int = 60
    """Least time to a deadline that ends in a return."""


USUAL_LIMITS = WishLimits()


def parse_wishes(parameters: Mapping[str, str | None]) -> Wishes:
    """Read parameters that `WISH_CHECKS` has passed."""
    if parameters.keys().isdisjoint(WISH_CHECKS):
        return NO_WISHES
    by = _BY.fullmatch(parameters.get("BY") or "")
    until = parameters.get("HOLDUNTIL")
    return Wishes(
        requires_tls="REQUIRETLS" in parameters,
        hold_for_s=int(parameters.get("HOLDFOR") or 0),
        hold_until=datetime.fromisoformat(until.upper()).timestamp() if until else 0.0,
        is_held_twice="HOLDFOR" in parameters and until is not None,
        by_s=int(by[1]) if by else 0,
        by_mode=ByMode(by[2].upper()) if by else None,
        is_traced=bool(by and by[3]),
        priority=int(parameters.get("MT-PRIORITY") or 0),
    )


def check_wishes(wishes: Wishes, limits: WishLimits, now_s: float) -> None:
    """Check whether what is asked can be promised.

    Args:
        wishes: what is asked.
        limits: what may be asked.
        now_s: seconds since 1970.

    Raises:
        Refused: 501 or 555.
    """
    hold_s = max(wishes.hold_for_s, wishes.hold_until - now_s)
    # RFC 4865 section 4.2: not both, and neither beyond what EHLO said.
    if wishes.is_held_twice or hold_s > limits.max_hold_s:
        raise Refused(HOLD_TOO_LONG)
    if wishes.hold_until and wishes.hold_until < now_s:
        raise Refused(HOLD_IS_OVER)
    if wishes.by_mode is not ByMode.RETURN:
        return
    # RFC 2852 section 4: time that is used up may be passed on for a notice, never for a return.
    if wishes.by_s <= hold_s or wishes.by_s <= 0:
        raise Refused(BY_HAS_PASSED)
    if wishes.by_s < limits.min_by_s:
        raise Refused(BY_TOO_SOON)


def decide_options(wishes: Wishes, now_s: float, *, asks_no_tls: bool) -> Options:
    """Turn what was asked into instants.

    Args:
        wishes: what MAIL asked.
        now_s: when the message is accepted, seconds since 1970.
        asks_no_tls: whether its header says ``TLS-Required: No``.
    """
    if wishes is NO_WISHES and not asks_no_tls:
        return NO_OPTIONS
    # RFC 8689 section 4.1: the parameter counts for more than the field.
    tls = TlsDemand.REQUIRED if wishes.requires_tls else TlsDemand.OPTIONAL if asks_no_tls else TlsDemand.POLICY
    release_at = wishes.hold_until or (now_s + wishes.hold_for_s if wishes.hold_for_s else 0)
    deadline = None
    if wishes.by_mode is not None:
        deadline = Deadline(at=int(now_s + wishes.by_s), mode=wishes.by_mode, is_traced=wishes.is_traced)
    # RFC 4865 section 4.2: never before the instant.
    return Options(tls=tls, release_at=math.ceil(release_at), deadline=deadline, priority=wishes.priority)


def _matches(pattern: re.Pattern[str]) -> Callable[[str | None], bool]:
    return lambda value: value is not None and pattern.fullmatch(value) is not None


def _is_date(value: str | None) -> bool:
    if value is None or not _HOLD_UNTIL.fullmatch(value):
        return False
    try:
        # The first instant of 1970 and all before it: nobody can mean these, and 0 stands for no hold.
        return datetime.fromisoformat(value.upper()).timestamp() > 0
    except ValueError:
        return False


WISH_CHECKS: Mapping[str, Callable[[str | None], bool]] = {
    "REQUIRETLS": lambda value: value is None,
    "BY": _matches(_BY),
    "HOLDFOR": _matches(_HOLD_FOR),
    "HOLDUNTIL": _is_date,
    "MT-PRIORITY": _matches(_PRIORITY),
}
"""The form of each parameter."""
