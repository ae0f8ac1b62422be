"""When to try again. RFC 5321 section 4.5.4.1: delay after a failure, two tries in the first hour, days in all."""

from collections.abc import Sequence
from datetime import timedelta

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
