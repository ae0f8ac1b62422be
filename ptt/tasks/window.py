"""How much one relay process has in hand: of each destination, and of messages that may have killed workers."""

import asyncio
from collections import deque
from collections.abc import Sequence

from ptt.store.entries import RelayEntry, Room
from ptt.store.relay_queue import MAX_CLAIMS

WINDOW = 50
"""Most messages of one destination in hand at once."""
FIRST_WINDOW = 10
"""Messages in hand of a destination that has not yet answered: a thousand dead ones must not fill the memory."""
MAX_SUSPECTS = 10
"""Messages in hand at once whose worker died once: if one of them does it again, the others are suspected even more."""
ROOM_WAIT_S = 1.0
"""How long a wake-up keeps its place for suspects that find no room; the sweep comes again."""
MAX_PROBES = 300
"""Destinations that are probed at once: each may take minutes to fail."""
SUSPECT_S = 5.0
"""What was in hand for so long without harm makes room for the next: a slow host must not hold up all suspects."""


class Window:
    """The deliveries of one destination, topped up when half of them are done; it opens as the destination answers."""

    def __init__(self) -> None:
        """Start with nothing in hand."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.wakeups = 0
        """How many wake-ups of this destination are being served."""
        self.is_claiming = False
        """Whether one of them claims: the others leave it to that one."""
        self.is_woken = False
        """Whether a wake-up came since the last claim of nothing began."""
        self._size = FIRST_WINDOW
        self._room = asyncio.Event()

    @property
    def room(self) -> int:
        """Give how many more it takes."""
        return self._size - len(self.tasks)

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody needs it."""
        return not self.tasks and not self.wakeups

    def open(self) -> None:
        """Take one more at once from now on: the destination answered."""
        self._size = min(self._size + 1, WINDOW)

    def add(self, task: asyncio.Task[None]) -> None:
        """Take a delivery in hand."""
        self.tasks.add(task)
        task.add_done_callback(self._done)

    async def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until half of it is done; tell whether it is."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.tasks) > self._size // 2:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            return False
        return True

    async def wait_for_all(self, timeout_s: float) -> None:
        """Wait until all of it is done, or for so long."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=timeout_s)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._room.set()


class Suspicion:
    """Room for messages whose workers died, and for probes of destinations that could not be reached."""

    def __init__(self) -> None:
        """Start with all the room."""
        self._suspects = MAX_SUSPECTS
        self._last_tries = 1
        self._probes = MAX_PROBES
        self._waiters: deque[asyncio.Future[None]] = deque()

    def reserve(self) -> Room:
        """Take all the room there is, for one claim; `settle` gives back what it did not need."""
        room = Room(suspects=self._suspects, last_tries=self._last_tries, may_probe=self._probes > 0)
        self._suspects = self._last_tries = 0
        return room

    def settle(self, room: Room, entries: Sequence[RelayEntry]) -> None:
        """Give back what the claim did not need; ``entries`` are what it gave."""
        self._suspects += room.suspects - sum(_is_suspect(entry) for entry in entries)
        self._last_tries += room.last_tries - sum(_is_last_try(entry) for entry in entries)
        self._probes -= sum(entry.failures > 0 for entry in entries)

    def watch(self, entry: RelayEntry, task: asyncio.Task[None]) -> None:
        """Give the room of a message back when its delivery is done, or has gone on for long without harm."""
        if entry.failures:
            task.add_done_callback(self._end_probe)
        if not entry.claims:
            return
        freeing = asyncio.get_running_loop().call_later(SUSPECT_S, self._free, entry)
        task.add_done_callback(lambda _: self._free_early(freeing, entry))

    async def wait(self) -> bool:
        """Wait until a message gives its room back; tell whether one did.

        Each wakes one who waits: if a claim that got nothing did, two of them would wake each other for ever.
        """
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(ROOM_WAIT_S):
                await waiter
        except TimeoutError:
            self._waiters.remove(waiter)
            return False
        return True

    def _end_probe(self, _: object) -> None:
        self._probes += 1

    def _free_early(self, freeing: asyncio.TimerHandle, entry: RelayEntry) -> None:
        if freeing.when() > asyncio.get_running_loop().time() and not freeing.cancelled():
            freeing.cancel()
            self._free(entry)

    def _free(self, entry: RelayEntry) -> None:
        self._suspects += _is_suspect(entry)
        self._last_tries += _is_last_try(entry)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():  # it has waited long enough, and the sweep wakes again
                waiter.set_result(None)
                return


def _is_suspect(entry: RelayEntry) -> bool:
    return 0 < entry.claims < MAX_CLAIMS - 1


def _is_last_try(entry: RelayEntry) -> bool:
    return entry.claims >= MAX_CLAIMS - 1
