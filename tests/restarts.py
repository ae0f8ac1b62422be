"""Telling a queue when its Redis has started, whenever the server of the tests really has."""

import math
from typing import Any

from ptt.store.restart import RestartGuard

UP_FOR_LONG: dict[str, Any] = {"uptime_in_seconds": 1000}


def pretend_restart(queue: object, server: dict[str, Any] | None = None) -> None:
    """Let a queue believe for good what the ``server`` section of INFO says: by default, that Redis is up for long.

    A guard that has only learnt it asks the real server after a second, which a busy machine needs for less.
    """
    guard = queue._guard  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way to make a server old
    assert isinstance(guard, RestartGuard)
    guard.learn(server or UP_FOR_LONG)
    guard._asked_at = math.inf  # noqa: SLF001 - never again
