"""Connections kept between messages: at most so many to one host, closed when idle; and hosts known to be dead.

It knows nothing of messages. A session that is borrowed is given back by `release` whatever became of it.
"""

import asyncio
from dataclasses import dataclass

from ptt.core.outcome import Failed
from ptt.core.verdict import Phase
from ptt.smtp.faults import SessionLost
from ptt.smtp.session import Dialler, Line, Session
from ptt.smtp.slots import Slots

MAX_IDLE = 200
"""Idle connections of one process: mail to ten thousand domains must not leave as many sockets and TLS states."""

MAX_DEAD = 10_000
"""Dead hosts that are remembered: their names come from strangers' zones."""

_SWEEP_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections are kept, and for how long."""

    connections_per_host: int
    messages_per_connection: int
    idle_s: float
    dead_s: float
    max_idle: int = MAX_IDLE
    max_dead: int = MAX_DEAD


class Connections:
    """All connections of one process; used from one event loop."""

    def __init__(self, dialler: Dialler, limits: Limits) -> None:
        """Start with none."""
        self._dialler = dialler
        self._limits = limits
        self._slots: dict[Line, Slots] = {}
        self._dead: dict[Line, tuple[float, SessionLost]] = {}
        """Until when a line is not tried, and what happened."""
        self._open: set[Session] = set()
        self._idle: dict[Session, float] = {}
        """Since when each idle session is so; the oldest first."""
        self._closing: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def acquire(self, line: Line, *, fresh: bool = False) -> Session:
        """Give a session that is ready for MAIL, waiting while the host has as many as it may.

        Args:
            line: where to and how.
            fresh: never one that was used before.

        Raises:
            SessionLost: the host cannot be reached or greeted, or could not a moment ago.
        """
        session = None
        while session is None:
            slots = self._slots.get(line)
            if slots is None:
                slots = self._slots[line] = Slots(self._limits.connections_per_host)
                self._schedule_sweep()
            session = await self._take(slots)
            if session is not None and fresh:
                session = await self._replace(session, slots)
            elif session is None:
                session = await self._try_open(line, slots)
        return session

    def release(self, session: Session) -> None:
        """Take back a session: hand it on, keep it or close it."""
        slots = self._slots[session.line]
        if not session.is_usable:
            self._drop(session, slots)
        elif self._is_closed or session.is_used_up or session.transactions >= self._limits.messages_per_connection:
            self._retire(session)
        else:
            self._hand_on(session, slots)

    async def close(self) -> None:
        """Say QUIT on idle connections and cut those that are still in use."""
        self._is_closed = True
        for session in list(self._idle):
            self._retire(session)
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*self._closing)
        for session in self._open:
            session.abort()

    async def _take(self, slots: Slots) -> Session | None:
        """Wait for a place in a line; None: it comes without a session."""
        while slots.idle:
            session = slots.idle.pop()  # the one used last: the others grow old and are closed
            del self._idle[session]
            if session.is_usable:
                return session
            self._drop(session, slots)
        if slots.try_take():
            return None
        place = slots.queue()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give_back(place.result(), slots)
            raise

    async def _try_open(self, line: Line, slots: Slots) -> Session | None:
        """Open a session in the place we hold; None if the host wants no more than it has: wait for one of those."""
        session = Session(line, self._dialler)
        try:
            self._forbid_dead(line)
            await session.open()
        except SessionLost as lost:
            session.abort()
            # Some servers answer 421 to one connection more than they like: make do with those that are open.
            is_full = lost.phase is Phase.GREETING and slots.taken > 1
            if is_full:
                slots.limit = slots.taken - 1
            else:
                self._note_death(line, lost)
            self._free(slots)
            if is_full:
                return None
            raise
        except BaseException:
            session.abort()
            self._free(slots)
            raise
        self._open.add(session)
        return session

    async def _replace(self, used: Session, slots: Slots) -> Session | None:
        """Close a used session and open one in its place."""
        try:
            await used.quit()
        except BaseException:
            self._drop(used, slots)
            raise
        self._open.discard(used)
        return await self._try_open(used.line, slots)

    def _hand_on(self, session: Session, slots: Slots) -> None:
        if slots.hand_on(session):
            return
        slots.idle.append(session)
        self._idle[session] = asyncio.get_running_loop().time()
        if len(self._idle) > self._limits.max_idle:
            self._retire(next(iter(self._idle)))

    def _give_back(self, session: Session | None, slots: Slots) -> None:
        if session is None:
            self._free(slots)
        else:
            self.release(session)

    def _retire(self, session: Session) -> None:
        if self._idle.pop(session, None) is not None:
            self._slots[session.line].idle.remove(session)
        task = asyncio.get_running_loop().create_task(self._quit(session))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _quit(self, session: Session) -> None:
        # Its place is free only after the peer has closed: the limit holds for the peer's count too.
        await session.quit()
        self._drop(session, self._slots[session.line])

    def _drop(self, session: Session, slots: Slots) -> None:
        session.abort()
        self._open.discard(session)
        self._free(slots)

    def _free(self, slots: Slots) -> None:
        if not slots.hand_on(None):
            slots.taken -= 1

    def _forbid_dead(self, line: Line) -> None:
        until, lost = self._dead.get(line, (0.0, None))
        if lost is not None and asyncio.get_running_loop().time() < until:
            raise SessionLost(lost.failure, lost.phase, lost.fault)

    def _note_death(self, line: Line, lost: SessionLost) -> None:
        if isinstance(lost.failure, Failed):
            return  # A refusal for good is for the message that heard it: the next one asks for itself.
        now = asyncio.get_running_loop().time()
        if self._dead.get(line, (0.0, None))[0] > now:
            return  # It is this memory that has just said so: that must not keep it alive.
        if len(self._dead) >= self._limits.max_dead:
            del self._dead[next(iter(self._dead))]
        self._dead[line] = (now + self._limits.dead_s, lost.with_traceback(None))

    def _schedule_sweep(self) -> None:
        if self._sweeper is None and not self._is_closed:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Close what was idle for too long, and forget what is over."""
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for session, since in list(self._idle.items()):
            if now - since >= self._limits.idle_s or not session.is_usable:
                self._retire(session)
        self._dead = {line: death for line, death in self._dead.items() if death[0] > now}
        self._slots = {line: slots for line, slots in self._slots.items() if not slots.is_unused}
        if self._slots or self._dead:
            self._schedule_sweep()
