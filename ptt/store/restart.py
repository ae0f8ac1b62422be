"""After Redis was away, the owners of leases get time to finish before their leases count as ended.

While Redis is away nobody can renew or record: at its return, work that is done would otherwise be done again.
"""

import time
from typing import Protocol

from ptt.store.scripts import translating

GRACE_S = 30.0
"""Longer than the slowest renewal or retried record takes to arrive."""
_ASK_EVERY_S = 1.0


class _Info(Protocol):
    def info(self, section: str, /) -> object: ...


class RestartGuard:
    """Remembers for a second whether Redis has been up for long enough."""

    def __init__(self) -> None:
        """Ask at the first use."""
        self._asked_at = float("-inf")
        self._up_long = False

    def may_take_expired(self, client: _Info) -> bool:
        """Tell whether a lease that ended may be taken over now (synchronous client).

        Raises:
            Unavailable: Redis is away.
        """
        if not self.is_fresh():
            with translating():
                self.learn(client.info("server"))
        return self._up_long

    def is_fresh(self) -> bool:
        """Tell whether the last answer is young enough."""
        return time.monotonic() - self._asked_at < _ASK_EVERY_S

    def learn(self, info: object) -> bool:
        """Take in the ``server`` section of INFO and give the answer of `may_take_expired`."""
        uptime = info.get("uptime_in_seconds", 0) if isinstance(info, dict) else 0
        self._asked_at = time.monotonic()
        self._up_long = float(uptime) > GRACE_S
        return self._up_long

    @property
    def may_take(self) -> bool:
        """Give the last answer."""
        return self._up_long
