"""Ending a task that talks to Redis."""

import asyncio


async def end(task: "asyncio.Task[None] | None") -> None:
    """Cancel a task until it has ended.

    Once is not enough: redis-py may turn a cancellation that meets a reply under way into a connection error, which
    the task then takes for one and goes on.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)
