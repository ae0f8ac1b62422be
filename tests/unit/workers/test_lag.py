"""The watch on the event loop, with loops that are really blocked."""

import asyncio
import threading

import pytest

from ptt.workers.lag import MAX_LAG_S, watch_lag
from tests.waiting import wait_until_async


def block(seconds: float) -> None:
    """Hold up the thread of the loop."""
    threading.Event().wait(seconds)


def list_lags(caplog: pytest.LogCaptureFixture) -> list[float]:
    """Give the delays that were logged."""
    return [
        vars(record)["fields"]["delay_s"] for record in caplog.records if vars(record).get("event") == "loop.lagged"
    ]


async def test_blocked_loop_is_logged_with_its_delay(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each block of half a second or more, with how long it was at least."""
    watching = asyncio.create_task(watch_lag())
    await asyncio.sleep(0)
    block(3 * MAX_LAG_S)
    await wait_until_async(lambda: list_lags(caplog), "the delay is logged")
    watching.cancel()
    (lag_s,) = list_lags(caplog)
    assert lag_s >= MAX_LAG_S
