"""What is left of a program that was killed: processes that finish what it had in hand, and then end by themselves.

Each program is the first of a session of its own, which has its pid for a number as long as one of its processes lives.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

POLL_S = 0.02
BURY_S = 1.0
"""Longest wait for the dead: where the first process of a container takes no note of them, they stay."""


def has_heirs(session: int) -> bool:
    """Tell whether a process of the session is left, now that its first one was waited for.

    The dead count for as long as nobody has taken note of them.
    """
    with suppress(ChildProcessError):
        # They are our children when nobody else adopts them: we are the first process of a container.
        while os.waitpid(-session, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


def kill_session(session: int) -> None:
    """Kill all who are left of a session."""
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


async def bury(session: int) -> None:
    """Wait until nobody is left of a session that was killed, if somebody takes note of its dead."""
    with suppress(TimeoutError):
        async with asyncio.timeout(BURY_S):
            while has_heirs(session):  # noqa: ASYNC110 - the kernel tells their parent only
                await asyncio.sleep(POLL_S)


class Heirs:
    """The sessions of one program's earlier lives in which somebody is left."""

    def __init__(self) -> None:
        """Start with none."""
        self._followers: dict[int, asyncio.Task[None]] = {}
        self._are_killed = False

    def follow(self, session: int, on_end: Callable[[], Awaitable[None]]) -> None:
        """Keep an eye on a session until nobody is left, then await ``on_end``."""
        self._followers[session] = asyncio.create_task(self._wait(session, on_end), name=f"heirs-{session}")

    def kill(self) -> None:
        """Kill all who are left, and wait for them no longer: the dead stay until their new parent takes note."""
        self._are_killed = True
        for session in filter(has_heirs, self._followers):
            kill_session(session)

    async def wait(self) -> None:
        """Wait until nobody is left."""
        while self._followers:
            await asyncio.wait(self._followers.values())

    async def _wait(self, session: int, on_end: Callable[[], Awaitable[None]]) -> None:
        # Often enough that the number is given to nobody else meanwhile.
        while has_heirs(session) and not self._are_killed:  # noqa: ASYNC110 - the kernel tells their parent only
            await asyncio.sleep(POLL_S)
        await on_end()
        del self._followers[session]
