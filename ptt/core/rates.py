"""How much a user may send in an hour and a day, and what who wants more is told. RFC 3463 section 3.8 (X.7.1)."""

import math
from dataclasses import dataclass

from ptt.core.reply import Reply
from ptt.core.user import User

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Limits; 0 means none."""

    messages_per_hour: int = 0
    messages_per_day: int = 0
    recipients_per_day: int = 0


UNLIMITED = Rates()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a message counts against: whose it is, how many recipients it has, what that user may send."""

    login: str
    recipients: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Overrun:
    """A limit that is reached."""

    limit: int
    unit: str
    """``messages an hour`` and so on, as the client reads it."""
    left: int
    """What would still be within the limit: some recipients, but fewer than the message has."""


def choose_rates(user: User, defaults: Rates) -> Rates:
    """Give the limits of a user: those of the user's file, also 0, and the defaults where it says nothing."""
    return Rates(
        messages_per_hour=_choose(user.rate_per_hour, defaults.messages_per_hour),
        messages_per_day=_choose(user.rate_per_day, defaults.messages_per_day),
        recipients_per_day=_choose(user.recipients_per_day, defaults.recipients_per_day),
    )


def _choose(own: int | None, default: int) -> int:
    return default if own is None else own


def name_overrun(quota: Quota, number: int, left: int) -> Overrun:
    """Name the limit of this number, as ``spool.lua`` counts them: 1 to 3, in the order of `Rates`."""
    rates = quota.rates
    return (
        Overrun(rates.messages_per_hour, "messages an hour", left),
        Overrun(rates.messages_per_day, "messages a day", left),
        Overrun(rates.recipients_per_day, "recipients a day", left),
    )[number - 1]


def refuse_overrun(overrun: Overrun, wait_s: float) -> Reply:
    """Say which limit is reached and when to come back."""
    left = f", {overrun.left} are left" if overrun.left > 0 else ""
    code = 452 if "recipients" in overrun.unit else 451
    text = f"You may send {overrun.limit} {overrun.unit}{left}; try again in {format_wait(wait_s)}"
    return Reply(code, "4.7.1", text)


def refuse_for_ever(quota: Quota) -> Reply | None:
    """Refuse a message that alone has more recipients than a day may have: to come back would not help."""
    limit = quota.rates.recipients_per_day
    if not limit or quota.recipients <= limit:
        return None
    return Reply(550, "5.7.1", f"You may send to {limit} recipients a day, and this message has {quota.recipients}")


def format_wait(wait_s: float) -> str:
    """Write a time, rounded up, in the unit that a person would use."""
    for name, size_s in (("hour", 3600), ("minute", 60)):
        if wait_s > 2 * size_s:
            return f"{math.ceil(wait_s / size_s)} {name}s"
    seconds = max(1, math.ceil(wait_s))
    return f"{seconds} second{'s' if seconds > 1 else ''}"
