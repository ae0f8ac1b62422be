"""What users have sent of what they may: counted by ``spool.lua`` for all ingress processes, read here."""

import time
from dataclasses import dataclass

from ptt.core.rates import Overrun, Quota, Rates, name_overrun, refuse_overrun
from ptt.core.reply import Reply
from ptt.store import keys
from ptt.store.connection import RedisAddress, connect
from ptt.store.scripts import translating

MAX_KEPT = 10_000
"""Users that are remembered to be over a limit; more are found out at the spool again."""
_FIELDS = ("hour", "hour_ends", "day", "recipients", "day_ends")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was sent in the windows that run now; a window begins with the first message in it."""

    messages_this_hour: int
    messages_this_day: int
    recipients_this_day: int
    hour_ends_in_s: float
    """0 when none was sent."""
    day_ends_in_s: float


def read_usage(address: RedisAddress, login: str) -> Usage:
    """Read what a user has sent.

    Raises:
        Unavailable: Redis does not answer.
    """
    client = connect(address)
    try:
        with translating():
            seconds, microseconds = client.time()
            found = client.hmget(keys.rate(login), _FIELDS)
    finally:
        client.close()
    now = seconds * 1000 + microseconds // 1000
    hour, hour_ends, day, recipients, day_ends = (int(float(value or 0)) for value in found)
    is_hour, is_day = hour_ends > now, day_ends > now
    return Usage(
        messages_this_hour=hour * is_hour,
        messages_this_day=day * is_day,
        recipients_this_day=recipients * is_day,
        hour_ends_in_s=max(0, hour_ends - now) / 1000,
        day_ends_in_s=max(0, day_ends - now) / 1000,
    )


@dataclass(frozen=True, slots=True)
class _Pause:
    until: float
    rates: Rates
    overrun: Overrun


class Pauses:
    """Who is known to be over a limit: such a user need not send a message to hear it."""

    def __init__(self) -> None:
        """Know nobody."""
        self._pauses: dict[str, _Pause] = {}

    def note(self, quota: Quota, answer: list[int]) -> Reply:
        """Take note of a refusal of ``spool.lua``, and write it.

        Args:
            quota: of the message.
            answer: number of the limit, milliseconds until its window ends, what is left.
        """
        number, wait_ms, left = answer
        overrun = name_overrun(quota, number, left)
        # What is left may be enough for another message.
        if left <= 0:
            if len(self._pauses) >= MAX_KEPT:
                self._pauses.clear()
            self._pauses[quota.login] = _Pause(time.monotonic() + wait_ms / 1000, quota.rates, overrun)
        return refuse_overrun(overrun, wait_ms / 1000)

    def find(self, quota: Quota) -> Reply | None:
        """Give the refusal that a message of this user would meet, if that is known."""
        pause = self._pauses.get(quota.login)
        if pause is None:
            return None
        wait_s = pause.until - time.monotonic()
        # With other limits, by a push to the users repository, nothing is known.
        if wait_s <= 0 or pause.rates != quota.rates:
            del self._pauses[quota.login]
            return None
        return refuse_overrun(pause.overrun, wait_s)
