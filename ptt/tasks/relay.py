"""What a wake-up of the relay role does: claim messages of one destination, deliver, record each outcome."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from celery import Celery

from ptt import maillog
from ptt.core.address import Domain
from ptt.core.errors import LeaseLost, PttError
from ptt.core.ports import Courier
from ptt.core.wakeup import RELAY_TASK
from ptt.store.entries import RelayEntry
from ptt.store.relay_queue import RelayQueue
from ptt.store.sweep import SWEEP_EVERY_S
from ptt.tasks.attempt import AttemptPolicy, attempt

WINDOW = 50
"""Most messages of one destination in hand at once."""
STOP_GRACE_S = 20.0
"""How long deliveries may go on after SIGTERM; what is left then is given up by its lease."""


class _Window:
    """The deliveries of one destination: at most WINDOW at once, topped up when half of them are done."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.wakeups = 0
        """How many wake-ups of this destination are being served."""
        self.is_claiming = False
        """Whether one of them claims: the others leave it to that one."""
        self.is_woken = False
        """Whether a wake-up came since the last claim of nothing began."""
        self._room = asyncio.Event()

    def add(self, task: asyncio.Task[None]) -> None:
        self.tasks.add(task)
        task.add_done_callback(self._done)

    async def wait_for_room(self) -> None:
        while len(self.tasks) > WINDOW // 2:
            self._room.clear()
            await self._room.wait()

    async def wait_for_all(self) -> None:
        if self.tasks:
            await asyncio.wait(self.tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._room.set()


class RelayService:
    """Delivers what is due; one in each relay process, in its event loop."""

    def __init__(
        self,
        queue: RelayQueue,
        courier: Courier,
        policy: AttemptPolicy,
        lease_s: float,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Work on this queue with this courier; ``release`` is awaited at the end, after the courier is closed."""
        self._release = release
        self._queue = queue
        self._courier = courier
        self._policy = policy
        self._renew_every_s = lease_s / 4
        self._in_hand: dict[asyncio.Task[None], RelayEntry] = {}
        self._windows: dict[Domain, _Window] = {}
        self._chores: list[asyncio.Task[None]] = []
        self._closing = False

    async def start(self) -> None:
        """Begin to sweep and to renew leases."""
        self._queue.start()
        self._chores = [asyncio.create_task(self._sweep()), asyncio.create_task(self._renew())]

    def close(self) -> None:
        """Claim nothing any more, and give deliveries in hand some time to end."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_later(STOP_GRACE_S, self._give_up)

    async def stop(self) -> None:
        """Release all; what is still in hand is given back."""
        self._closing = True
        self._give_up()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, *self._in_hand, return_exceptions=True)
        await self._courier.close()
        if self._release is not None:
            await self._release()
        await self._queue.close()

    async def serve(self, destination: Domain) -> None:
        """Serve one wake-up: deliver until nothing of this destination is due.

        Wake-ups come with each signed batch and each sweep. Those of one destination share one window, or a slow host
        would let ever more messages be claimed: they fill the memory, and a crash counts against all of them.
        """
        window = self._windows.setdefault(destination, _Window())
        window.wakeups += 1
        try:
            await self._queue.begin(destination)
            window.is_woken = True
            if not window.is_claiming:
                await self._claim_all(destination, window)
        except PttError as error:
            # Redis is away: what is in hand goes on, and a sweep wakes again.
            maillog.emit("redis.unavailable", maillog.WARNING, reason=str(error), destination=destination)
        await window.wait_for_all()
        window.wakeups -= 1
        if not window.wakeups:
            self._windows.pop(destination, None)

    async def _claim_all(self, destination: Domain, window: _Window) -> None:
        window.is_claiming = True
        try:
            while window.is_woken:
                window.is_woken = False
                while await self._claim(destination, window):
                    pass
        finally:
            window.is_claiming = False

    async def _claim(self, destination: Domain, window: _Window) -> bool:
        """Claim what there is room for and begin with it; tell whether there was anything."""
        await window.wait_for_room()
        if self._closing:
            return False
        entries, parked = await self._queue.claim(destination, WINDOW - len(window.tasks))
        for queue_id in parked:
            maillog.emit(
                "recipient.parked",
                maillog.ERROR,
                queue_id=queue_id,
                destination=destination,
                reason="its workers died",
            )
        for entry in entries:
            window.add(self._begin(entry))
        return bool(entries)

    def _give_up(self) -> None:
        for task in self._in_hand:
            task.cancel()

    def _begin(self, entry: RelayEntry) -> asyncio.Task[None]:
        task = asyncio.create_task(self._deliver(entry), name=f"deliver-{entry.queue_id}-{entry.destination}")
        self._in_hand[task] = entry
        task.add_done_callback(self._in_hand.pop)
        return task

    async def _deliver(self, entry: RelayEntry) -> None:
        maillog.queue_id_var.set(entry.queue_id)
        try:
            await attempt(self._queue, self._courier, self._policy, entry)
        except LeaseLost:
            maillog.emit("lease.lost", maillog.WARNING, destination=entry.destination)
        except Exception:  # noqa: BLE001 - the top of a delivery: its lease ends and its claims are counted
            maillog.emit("relay.failed", maillog.ERROR, exc_info=True, destination=entry.destination)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            with contextlib.suppress(PttError):  # the next sweep makes up for this one
                await self._queue.sweep()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_every_s)
            entries = list(self._in_hand.values())
            # A lease that is lost shows again at the commit, where it matters.
            await asyncio.gather(*(self._queue.renew(entry) for entry in entries), return_exceptions=True)


def register(app: Celery, get_service: Callable[[], RelayService]) -> None:
    """Register the task of the relay role."""

    @app.task(name=RELAY_TASK)
    async def relay(destination: str) -> None:
        """Serve one wake-up."""
        await get_service().serve(Domain(destination))
