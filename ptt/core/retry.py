"""When to try again. RFC 5321 section 4.5.4.1: delay after a failure, two tries in the first hour, days in all."""

from collections.abc import Sequence
from datetime import timedelta

from ptt.core.options import ByMode, Options

FIRST_PROBE_S = 60.0
"""A short failure, such as a restart of the resolver, must not hold up new mail for the first step of the schedule."""
JITTER = 0.2
"""A share of the delay: without it all that failed together would come back together."""


def decide_delay(schedule_s: Sequence[float], attempts: int, jitter: float) -> timedelta:
    """Decide how long to wait after a failed attempt.

    Args:
        schedule_s: seconds to wait after the first, second, … attempt; the last value repeats.
        attempts: how many attempts were made, at least 1.
        jitter: a random number between -1 and 1.
    """
    step = schedule_s[min(attempts, len(schedule_s)) - 1]
    return timedelta(seconds=step * (1 + JITTER * jitter))


def decide_backoff(schedule_s: Sequence[float], failures: int, jitter: float) -> timedelta:
    """Decide how long to leave a destination alone of which no host could be reached.

    One message at a time finds out if that has changed; so it may be asked more often than a message is tried.

    Args:
        schedule_s: as for `decide_delay`.
        failures: how often in a row it was not reached, at least 1.
        jitter: a random number between -1 and 1.
    """
    first_s = FIRST_PROBE_S * 2 ** min(failures - 1, 20)
    return timedelta(seconds=min(first_s, schedule_s[min(failures, len(schedule_s)) - 1]) * (1 + JITTER * jitter))


def is_expired(age: timedelta, max_age: timedelta) -> bool:
    """Tell whether a message has been tried for long enough; the age counts from its acceptance."""
    return age >= max_age


def is_overdue(options: Options, left_s: float | None) -> bool:
    """Tell whether a message must come back now because its deadline has passed (RFC 2852 section 4)."""
    deadline = options.deadline
    return deadline is not None and deadline.mode is ByMode.RETURN and left_s is not None and left_s <= 0


def shorten_delay(delay_s: float, left_s: float | None) -> float:
    """Shorten a delay so that a message is looked at when its deadline passes: its sender waits to be told.

    Args:
        delay_s: by the schedule.
        left_s: until the deadline; None without one, less than 0 if it has passed.
    """
    return delay_s if left_s is None or left_s <= 0 else min(delay_s, left_s + 1)
