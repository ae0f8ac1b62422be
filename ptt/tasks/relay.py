"""What a wake-up of the relay role does: claim messages of one destination, deliver, record each outcome."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from celery import Celery

from ptt import maillog
from ptt.core.address import Domain
from ptt.core.errors import LeaseLost, PttError
from ptt.core.outcome import Deferred
from ptt.core.ports import Courier
from ptt.core.wakeup import RELAY_TASK
from ptt.store.entries import Claim, RelayEntry
from ptt.store.relay_queue import RelayQueue
from ptt.store.sweep import SWEEP_EVERY_S
from ptt.tasks.attempt import AttemptPolicy, attempt, settle_untried
from ptt.tasks.telling import shorten
from ptt.tasks.window import Suspicion, Window

LINGER_S = 2.0
"""How long a wake-up keeps its place while its deliveries go on: a thousand slow hosts must not hold up a quick one."""
MAX_IN_HAND_BYTES = 268_435_456
"""Content in memory: what is more waits in the spool."""
MAX_CLAIMS_AT_ONCE = 30
"""Claims under way: each may bring 8 MB that are not counted as in hand yet."""
STOP_GRACE_S = 20.0
"""How long deliveries may go on after SIGTERM; what is left then is given up by its lease."""


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
        self._suspicion = Suspicion()
        self._queue = queue
        self._courier = courier
        self._policy = policy
        self._renew_every_s = lease_s / 4
        self._in_hand: dict[asyncio.Task[None], RelayEntry] = {}
        self._in_hand_bytes = 0
        self._claims = asyncio.Semaphore(MAX_CLAIMS_AT_ONCE)
        self._windows: dict[Domain, Window] = {}
        self._chores: list[asyncio.Task[None]] = []
        self._renewed_at = 0.0
        self._closing = False
        self._ends_at = 0.0

    async def start(self) -> None:
        """Begin to sweep and to renew leases."""
        self._renewed_at = asyncio.get_running_loop().time()
        self._queue.start()
        self._chores = [asyncio.create_task(self._sweep()), asyncio.create_task(self._renew())]

    def close(self) -> None:
        """Claim nothing any more, and give deliveries in hand some time to end."""
        if not self._closing:
            self._closing = True
            self._ends_at = asyncio.get_running_loop().time() + STOP_GRACE_S

    async def stop(self) -> None:
        """Release all; what is still in hand at the end of the grace that `close` began is given back."""
        self._closing = True
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=max(0.0, self._ends_at - asyncio.get_running_loop().time()))
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
        window = self._windows.setdefault(destination, Window())
        window.wakeups += 1
        try:
            await self._queue.begin(destination)
            window.is_woken = True
            if not window.is_claiming:
                await self._claim_all(destination, window)
                await window.wait_for_all(LINGER_S)
        except PttError as error:
            # Redis is away: what is in hand goes on, and a sweep wakes again.
            maillog.emit("redis.unavailable", maillog.WARNING, reason=str(error), destination=destination)
        finally:
            window.wakeups -= 1
            self._close_window(destination, window)

    async def _claim_all(self, destination: Domain, window: Window) -> None:
        window.is_claiming = True
        try:
            while window.is_woken:
                window.is_woken = False
                while await self._claim(destination, window):
                    pass
        finally:
            window.is_claiming = False

    async def _claim(self, destination: Domain, window: Window) -> bool:
        """Claim what there is room for and begin with it; tell whether to ask again."""
        if not await window.wait_for_room(LINGER_S):
            return False  # The next sweep wakes again.
        async with self._claims:
            claim = await self._claim_now(destination, window)
        return bool(claim.entries) or (claim.left > 0 and await self._suspicion.wait())

    async def _claim_now(self, destination: Domain, window: Window) -> Claim:
        if self._closing or self._in_hand_bytes >= MAX_IN_HAND_BYTES:
            return Claim()
        if self._in_hand and asyncio.get_running_loop().time() - self._renewed_at > 2 * self._renew_every_s:
            await self._renew_all()  # This process was frozen: what it owns must not pass for a dead worker's.
        room, claim = self._suspicion.reserve(), Claim()
        try:
            claim = await self._queue.claim(destination, window.room, room)
        finally:
            self._suspicion.settle(room, claim.entries)
        for queue_id in claim.parked:
            maillog.emit(
                "recipient.parked",
                maillog.ERROR,
                queue_id=queue_id,
                destination=destination,
                reason="its workers died",
            )
        for entry in claim.entries:
            task = self._begin(entry, window)
            window.add(task)
            self._suspicion.watch(entry, task)
        return claim

    def _close_window(self, destination: Domain, window: Window) -> None:
        if window.is_idle and self._windows.get(destination) is window:
            del self._windows[destination]

    def _give_up(self) -> None:
        for task in self._in_hand:
            task.cancel()

    def _begin(self, entry: RelayEntry, window: Window) -> asyncio.Task[None]:
        task = asyncio.create_task(self._deliver(entry, window), name=f"deliver-{entry.queue_id}-{entry.destination}")
        self._in_hand[task] = entry
        self._in_hand_bytes += len(entry.content)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[None]) -> None:
        entry = self._in_hand.pop(task)
        self._in_hand_bytes -= len(entry.content)
        if window := self._windows.get(entry.destination):
            window.tasks.discard(task)
            self._close_window(entry.destination, window)

    async def _deliver(self, entry: RelayEntry, window: Window) -> None:
        maillog.queue_id_var.set(entry.queue_id)
        try:
            unreached = await attempt(self._queue, self._courier, self._policy, entry)
            if unreached is None:
                window.open()
            else:
                await self._settle_aged(entry.destination, unreached)
        except LeaseLost:
            maillog.emit("lease.lost", maillog.WARNING, destination=entry.destination)
        except PttError as error:
            maillog.emit("redis.unavailable", maillog.WARNING, reason=str(error), destination=entry.destination)
        except Exception:  # noqa: BLE001 - the top of a delivery: its lease ends and its claims are counted
            maillog.emit("relay.failed", maillog.ERROR, exc_info=True, destination=entry.destination)

    async def _settle_aged(self, destination: Domain, unreached: Deferred) -> None:
        """Fail what is too old and tell of what is late, untried, as no host of the destination can be reached."""
        maillog.emit("destination.deferred", maillog.WARNING, destination=destination, reason=shorten(unreached))
        policy = self._policy
        async for aged in self._queue.list_aged(destination, min(policy.max_age_s, policy.delay_notice_after_s)):
            wanted = aged
            while wanted and not self._closing:
                entries = (await self._queue.claim_aged(destination, wanted, policy.max_age_s)).entries
                await asyncio.gather(*(settle_untried(self._queue, policy, entry, unreached) for entry in entries))
                wanted = wanted[wanted.index(entries[-1].queue_id) + 1 :] if entries else ()

    async def _sweep(self) -> None:
        while True:
            with contextlib.suppress(PttError):  # the next sweep makes up for this one
                await self._queue.sweep()
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_every_s)
            await self._renew_all()

    async def _renew_all(self) -> None:
        self._renewed_at = asyncio.get_running_loop().time()
        entries = list(self._in_hand.values())
        # A lease that is lost shows again at the commit, where it matters.
        await asyncio.gather(*(self._queue.renew(entry) for entry in entries), return_exceptions=True)


def register(app: Celery, get_service: Callable[[], RelayService]) -> None:
    """Register the task of the relay role."""

    @app.task(name=RELAY_TASK)
    async def relay(destination: str) -> None:
        """Serve one wake-up."""
        await get_service().serve(Domain(destination))
