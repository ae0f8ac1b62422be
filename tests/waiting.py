"""Waiting for a condition instead of sleeping.

A limit is there so that nothing hangs for ever; it says nothing of how long a thing should take.
"""

import asyncio
import time
from collections.abc import Callable

TIMEOUT_S = 60.0
"""Longest wait of a test; what starts in a second may take half a minute while the machine is busy."""


def wait_until(predicate: Callable[[], object], description: str, timeout_s: float = TIMEOUT_S) -> None:
    """Return once the predicate is true; fail with the description when it is not in time."""
    deadline = time.monotonic() + timeout_s
    is_last = False
    while not predicate():
        assert not is_last, f"not within {timeout_s} s: {description}"
        time.sleep(0.02)
        is_last = time.monotonic() > deadline  # and once more: we may have been kept from looking ourselves


async def wait_until_async(predicate: Callable[[], object], description: str, timeout_s: float = TIMEOUT_S) -> None:
    """As `wait_until`, without blocking the event loop."""
    deadline = time.monotonic() + timeout_s
    is_last = False
    while not predicate():
        assert not is_last, f"not within {timeout_s} s: {description}"
        await asyncio.sleep(0.02)
        is_last = time.monotonic() > deadline
