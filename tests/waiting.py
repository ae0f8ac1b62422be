"""Waiting for a condition instead of sleeping."""

import asyncio
import time
from collections.abc import Callable

TIMEOUT_S = 60.0
"""Longest wait of a test; what starts in a second may take half a minute while the machine is busy."""


def wait_until(predicate: Callable[[], object], description: str, timeout_s: float = TIMEOUT_S) -> None:
    """Return once the predicate is true; fail with the description when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {description}")
        time.sleep(0.02)


async def wait_until_async(predicate: Callable[[], object], description: str, timeout_s: float = TIMEOUT_S) -> None:
    """As `wait_until`, without blocking the event loop."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {description}")
        await asyncio.sleep(0.02)
