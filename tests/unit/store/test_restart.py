"""Since when Redis serves, as far as INFO tells a worker."""

from typing import Any

import pytest

from ptt.store import keys
from ptt.store.restart import RestartGuard

NOW_S = 1_700_000_000


def info(run_id: str, now_s: int, up_s: int) -> dict[str, Any]:
    """Make the ``server`` section."""
    return {"run_id": run_id, "server_time_usec": now_s * 1_000_000, "uptime_in_seconds": up_s}


@pytest.mark.parametrize(("up_s", "since_s"), [(5, NOW_S - 5), (31, None)])
def test_first_run_that_is_seen_counts_from_its_start(up_s: int, since_s: int | None) -> None:
    """A worker that has just started knows no more than INFO tells."""
    assert RestartGuard().learn(info("a", NOW_S, up_s)) == (since_s or 0) * 1000


def test_run_that_follows_another_counts_from_its_first_answer() -> None:
    """It loaded its file for five minutes: the owners of leases get their time from when they can use it."""
    guard = RestartGuard()
    guard.learn(info("a", NOW_S - 400, 100_000))
    assert guard.learn(info("b", NOW_S, 300)) == NOW_S * 1000
    assert guard.learn(info("b", NOW_S + 20, 320)) == NOW_S * 1000
    assert guard.learn(info("b", NOW_S + keys.RESTART_GRACE_MS // 1000 + 1, 331)) == 0


@pytest.mark.parametrize("known", ["a", ""])
def test_run_that_is_loading_does_not_serve_yet(known: str) -> None:
    """INFO is answered while it loads: what counts is the end of that, also for a worker that has just started."""
    guard = RestartGuard()
    guard.run_id = known
    assert guard.learn({**info("b", NOW_S, 90), "loading": 1}) == NOW_S * 1000
    assert guard.learn({**info("b", NOW_S + 50, 140), "loading": 1}) == (NOW_S + 50) * 1000
    assert guard.learn({**info("b", NOW_S + 51, 141), "loading": 0}) == (NOW_S + 51) * 1000
    assert guard.learn({**info("b", NOW_S + 82, 172), "loading": 0}) == 0


def test_other_server_that_took_over_counts_as_restarted() -> None:
    """After a failover leases have ended just as well, though the new master was up all the time."""
    guard = RestartGuard()
    guard.learn(info("a", NOW_S - 90, 100_000))
    assert guard.learn(info("b", NOW_S, 100_000)) == NOW_S * 1000


def test_giving_up_is_told_by_the_clock_of_redis() -> None:
    """Workers and Redis need not agree on the time."""
    guard = RestartGuard()
    guard.learn(info("a", NOW_S, 100_000))
    assert 0 <= guard.give_up_ms(5) - (NOW_S + 5) * 1000 < 60_000  # as long as a busy machine takes for this line
