"""Watches an event loop: while something blocks it, no client is answered, no mail goes out and no lease is renewed."""

import asyncio

from ptt import maillog

LOOK_EVERY_S = 0.5
"""How often the loop is looked at: two timers a second cost nothing."""
MAX_LAG_S = 0.5
"""A delay that is worth a line: clients notice it, and far below the shortest lease."""


async def watch_lag() -> None:
    """Log each delay of this loop of MAX_LAG_S or more; runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due_at = loop.time() + LOOK_EVERY_S
        await asyncio.sleep(LOOK_EVERY_S)
        lag_s = loop.time() - due_at
        if lag_s >= MAX_LAG_S:
            maillog.emit("loop.lagged", maillog.WARNING, delay_s=round(lag_s, 3))
