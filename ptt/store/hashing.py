"""The threads that hash passwords: few of them, the most trusted first, and never all of them for those who guess."""

import asyncio
import heapq
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from ptt.core.errors import Unavailable
from ptt.core.guessing import Trust

MAX_WAITING: Mapping[Trust, int] = {Trust.KNOWN: 1024, Trust.FRESH: 64, Trust.SUSPECT: 32}
"""Who waits in line; one more hears 454. The threat: guesses by the thousand make everybody wait for minutes."""
SUSPECT_SHARE = 2
"""One in so many threads checks passwords from networks that have guessed wrong."""


class HashingPool:
    """Runs hashing on as many threads as there are CPUs: each takes 19 MiB and all of a CPU."""

    def __init__(self, threads: int | None = None) -> None:
        """Start no thread yet."""
        self._size = threads or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="argon2")
        self._running: Counter[Trust] = Counter()
        self._waiting: Counter[Trust] = Counter()
        self._same_login: Counter[str] = Counter()
        self._line: list[tuple[Trust, int, int, asyncio.Future[None]]] = []
        self._number = 0

    async def run(self, trust: Trust, login: str, check: Callable[[], bool]) -> bool:
        """Run a check when its turn comes: by trust, then the logins for which the fewest wait.

        Raises:
            Unavailable: too many wait already.
        """
        if self._waiting[trust] >= MAX_WAITING[trust]:
            raise Unavailable("too many passwords are being checked")
        self._same_login[login] += 1
        try:
            await self._wait_for_turn(trust, self._same_login[login])
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, check)
            finally:
                self._running[trust] -= 1
                self._call_next()
        finally:
            self._same_login[login] -= 1
            if not self._same_login[login]:
                del self._same_login[login]

    def close(self) -> None:
        """Start no further check."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _wait_for_turn(self, trust: Trust, same_login: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._number += 1
        # The threat: a thousand places guess at one login, each for the first time, and all others wait behind them.
        heapq.heappush(self._line, (trust, same_login, self._number, turn))
        self._waiting[trust] += 1
        self._call_next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._running[trust] -= 1
                self._call_next()
            raise

    def _call_next(self) -> None:
        while self._line and self._running.total() < self._size:
            trust, _, _, turn = self._line[0]
            if trust is Trust.SUSPECT and self._running[trust] >= max(1, self._size // SUSPECT_SHARE):
                return
            heapq.heappop(self._line)
            self._waiting[trust] -= 1
            if not turn.done():
                self._running[trust] += 1
                turn.set_result(None)
