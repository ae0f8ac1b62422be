"""After Redis was away, the owners of leases get time to finish before their leases count as ended.

While Redis is away nobody can renew or record: at its return, work that is done would otherwise be done again. A lease
that was given or renewed since the restart needs no such grace.

Redis tells for how long it has been up, the loading of its append-only file included, and whether it is loading, but
not since when it serves. So who knew an earlier run of it, or another server at its address, or has seen it loading,
counts from when it first saw the new one serve.
"""

import time
from typing import Protocol

from ptt.store import keys
from ptt.store.scripts import translating

_ASK_EVERY_S = 1.0
SECTIONS = ("server", "persistence")
"""What `RestartGuard` learns from; Redis answers INFO while it is loading."""

_LOADING = "loading"
"""Stands for a run that does not serve yet."""


class _Info(Protocol):
    def info(self, *sections: str) -> object: ...


class RestartGuard:
    """Remembers for a second whether Redis has restarted lately."""

    def __init__(self) -> None:
        """Ask at the first use."""
        self._asked_at = float("-inf")
        self.restarted_ms = 0
        """Since when Redis serves, by its own clock, if that is within the grace; else 0. As it was asked last."""
        self.run_id = ""
        """Which run of Redis answered last; none yet."""
        self._changed_ms = 0
        """When that was first seen, if it was another before."""
        self._ahead_ms = 0.0
        """By how much the clock of Redis is ahead of our monotonic one, or a little less."""

    def ask(self, client: _Info) -> int:
        """Give `restarted_ms` as of now (synchronous client).

        Raises:
            Unavailable: Redis is away.
        """
        if not self.is_fresh():
            with translating():
                self.learn(client.info(*SECTIONS))
        return self.restarted_ms

    def give_up_ms(self, timeout_s: float) -> int:
        """Give when somebody who asks now gives up, by the clock of Redis; rather too early than too late."""
        return int((time.monotonic() + timeout_s) * 1000 + self._ahead_ms)

    def is_fresh(self) -> bool:
        """Tell whether the last answer is young enough."""
        return time.monotonic() - self._asked_at < _ASK_EVERY_S

    def learn(self, info: object) -> int:
        """Take in SECTIONS of INFO and give `restarted_ms`."""
        fields = info if isinstance(info, dict) else {}
        up_ms = int(fields.get("uptime_in_seconds", 0)) * 1000
        now_ms = int(fields.get("server_time_usec", time.time() * 1e6)) // 1000
        self._asked_at = time.monotonic()
        self._ahead_ms = now_ms - self._asked_at * 1000
        run_id = _LOADING if fields.get("loading") else str(fields.get("run_id", self.run_id))
        if run_id == _LOADING or self.run_id not in ("", run_id):
            self._changed_ms = now_ms
        self.run_id = run_id
        serves_since_ms = max(now_ms - up_ms, self._changed_ms)
        self.restarted_ms = 0 if now_ms - serves_since_ms > keys.RESTART_GRACE_MS else serves_since_ms
        return self.restarted_ms
