"""How many connections one line has, and who waits for one. Knows nothing of how they are opened or closed."""

import asyncio
from collections import deque

from ptt.smtp.session import Session


class Slots:
    """The places of one line: ``taken`` counts sessions in use, idle, being opened and being closed."""

    def __init__(self, limit: int) -> None:
        """Start with none taken."""
        self.limit = limit
        self.taken = 0
        self.idle: list[Session] = []
        self._waiters: deque[asyncio.Future[Session | None]] = deque()

    @property
    def is_unused(self) -> bool:
        """Tell whether nobody has or wants a place."""
        return not self.taken and all(waiter.done() for waiter in self._waiters)

    def try_take(self) -> bool:
        """Take a free place if there is one."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def queue(self) -> "asyncio.Future[Session | None]":
        """Stand in line for a place; it comes with the session of who had it, or with None: open one."""
        waiter: asyncio.Future[Session | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def hand_on(self, session: Session | None) -> bool:
        """Give a taken place, with its session if it has one, to who waits longest; tell whether somebody did.

        A place above the limit, which may have been lowered, goes to nobody.
        """
        while self._waiters and (session is not None or self.taken <= self.limit):
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(session)
                return True
        return False
