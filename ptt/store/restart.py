"""After Redis was away, the owners of leases get time to finish before their leases count as ended.

While Redis is away nobody can renew or record: at its return, work that is done would otherwise be done again. A lease
that was given or renewed since the restart needs no such grace.
"""

import time
from typing import Protocol

from ptt.store import keys
from ptt.store.scripts import translating

_ASK_EVERY_S = 1.0


class _Info(Protocol):
    def info(self, section: str, /) -> object: ...


class RestartGuard:
    """Remembers for a second whether Redis has restarted lately."""

    def __init__(self) -> None:
        """Ask at the first use."""
        self._asked_at = float("-inf")
        self.restarted_ms = 0
        """When Redis started, by its own clock, if that was within the grace; else 0. As it was asked last."""
        self._ahead_ms = 0.0
        """By how much the clock of Redis is ahead of our monotonic one, or a little less."""

    def ask(self, client: _Info) -> int:
        """Give `restarted_ms` as of now (synchronous client).

        Raises:
            Unavailable: Redis is away.
        """
        if not self.is_fresh():
            with translating():
                self.learn(client.info("server"))
        return self.restarted_ms

    def give_up_ms(self, timeout_s: float) -> int:
        """Give when somebody who asks now gives up, by the clock of Redis; rather too early than too late."""
        return int((time.monotonic() + timeout_s) * 1000 + self._ahead_ms)

    def is_fresh(self) -> bool:
        """Tell whether the last answer is young enough."""
        return time.monotonic() - self._asked_at < _ASK_EVERY_S

    def learn(self, info: object) -> int:
        """Take in the ``server`` section of INFO and give `restarted_ms`."""
        fields = info if isinstance(info, dict) else {}
        up_ms = int(fields.get("uptime_in_seconds", 0)) * 1000
        now_ms = int(fields.get("server_time_usec", time.time() * 1e6)) // 1000
        self._asked_at = time.monotonic()
        self._ahead_ms = now_ms - self._asked_at * 1000
        self.restarted_ms = 0 if up_ms > keys.RESTART_GRACE_MS else now_ms - up_ms
        return self.restarted_ms
