"""A Celery pool that runs ``async def`` tasks on one event loop: hundreds of deliveries in flight in one process.

Two threads: Celery's hub thread (kombu: wake-ups come in) and the loop thread (asyncio: tasks run). Requests cross by
a deque and one wake of the loop per burst; all of Celery's callbacks go back to the hub thread by a deque and an
eventfd, so that Celery's state is only ever touched by the thread that owns it.

Not supported, because wake-ups need none of it: results, self.retry, time limits, revoke, remote control.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from celery.concurrency.base import BasePool
from kombu.serialization import loads, prepare_accept_content
from typing_extensions import override

from ptt import maillog
from ptt.workers.lag import watch_lag

STOP_POLL_S = 0.05
STOP_TIMEOUT_S = 28.0
"""Longest warm stop: SIGTERM promises an exit within 30 s."""


class Service(Protocol):
    """What runs in the loop thread for as long as the pool does."""

    async def start(self) -> None:
        """Begin; called once in the loop before the first task."""

    def close(self) -> None:
        """Take no new work; called in the loop at the begin of a stop."""

    async def stop(self) -> None:
        """Finish what is in hand and release all; called in the loop after the last task."""


@dataclass(eq=False, weakref_slot=True, slots=True, kw_only=True)
class _Job:
    """One wake-up in the pool; Celery's request keeps a weak reference to it."""

    arguments: Sequence[Any]
    on_done: Callable[[tuple[int, object, float]], None] | None

    def terminate(self, signal: object = None) -> None:
        """Do nothing: a wake-up that is revoked would only be pushed again."""


class AsyncioPool(BasePool):
    """The pool of the relay role; ``app.service`` is what its tasks work with."""

    body_can_be_buffer = True
    signal_safe = False
    task_join_will_block = False
    uses_semaphore = False

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's own signature
        """Prepare; the loop starts with `on_start`."""
        super().__init__(*arguments, **options)
        self._jobs: set[_Job] = set()
        self._incoming: deque[_Job] = deque()
        self._outgoing: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="asyncio-pool", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._accept: Any = None

    # -- hub thread

    @override
    def on_start(self) -> None:
        """Start the loop thread and the service in it; an error of the service ends the worker."""
        self._accept = prepare_accept_content(self.app.conf.accept_content)
        self._thread.start()
        self._call(self.app.service.start())

    @override
    def register_with_event_loop(self, loop: Any) -> None:
        """Let the hub run what comes back; called again after each reconnection of the broker."""
        loop.add_reader(self._eventfd, self._on_outgoing)

    @override
    def on_apply(self, *args: Any, **kwargs: Any) -> _Job:  # type: ignore[override]
        """Take one wake-up."""
        arguments: Sequence[Any] = kwargs.get("args") or args[1]
        job = _Job(arguments=arguments, on_done=kwargs.get("callback"))
        if accept := kwargs.get("accept_callback"):
            # Acknowledged here and now: what kombu holds as unacknowledged when a connection breaks runs twice.
            accept(os.getpid(), monotonic())
        self._jobs.add(job)
        self._incoming.append(job)
        if len(self._incoming) == 1:
            self._loop.call_soon_threadsafe(self._start_incoming)
        return job

    @override
    def on_close(self) -> None:
        """Tell the service that a stop has begun."""
        self._loop.call_soon_threadsafe(self.app.service.close)

    @override
    def on_stop(self) -> None:
        """Wait for what is in hand, at most STOP_TIMEOUT_S, then end the loop."""
        deadline = monotonic() + STOP_TIMEOUT_S
        while self._jobs and monotonic() < deadline:
            self._drain_outgoing()  # nobody runs the hub any more
            threading.Event().wait(STOP_POLL_S)
        self._drain_outgoing()
        self._end_loop(max(1.0, deadline - monotonic()))

    @override
    def on_terminate(self) -> None:
        """End the loop at once; leases end by themselves."""
        self._end_loop(0)

    def _call(self, coroutine: Coroutine[Any, Any, None], timeout_s: float | None = None) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def _end_loop(self, timeout_s: float) -> None:
        if not self._thread.is_alive():
            return
        if timeout_s:
            try:
                self._call(self.app.service.stop(), timeout_s)
            except TimeoutError:
                maillog.emit("relay.stop_timed_out", maillog.WARNING)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _on_outgoing(self, *_: object) -> None:
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return
        self._drain_outgoing()

    def _drain_outgoing(self) -> None:
        while self._outgoing:
            callback, arguments = self._outgoing.popleft()
            callback(*arguments)

    def _finish(self, job: _Job, runtime_s: float) -> None:
        self._jobs.discard(job)
        if job.on_done is not None:
            job.on_done((0, None, runtime_s))

    # -- loop thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._tasks.add(self._loop.create_task(watch_lag(), name="lag"))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _start_incoming(self) -> None:
        while self._incoming:
            job = self._incoming.popleft()
            task = self._loop.create_task(self._execute(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _execute(self, job: _Job) -> None:
        started = monotonic()
        name, _, _, body, content_type, content_encoding = job.arguments
        try:
            arguments, keywords, _ = loads(body, content_type, content_encoding, accept=self._accept)
            await self.app.tasks[name].run(*arguments, **keywords)
        except Exception:  # noqa: BLE001 - the top of a task: the sweep wakes again, the others go on
            maillog.emit("task.failed", maillog.ERROR, exc_info=True, task=name)
        finally:
            self._hand_back(self._finish, job, monotonic() - started)

    def _hand_back(self, callback: Callable[..., object], *arguments: object) -> None:
        self._outgoing.append((callback, arguments))
        if len(self._outgoing) == 1:
            os.eventfd_write(self._eventfd, 1)
