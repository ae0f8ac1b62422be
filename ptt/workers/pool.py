"""A Celery pool whose tasks run in processes of their own, hundreds at once on the event loop of each.

The Celery worker only passes wake-ups on; `relay_process.py` is the other end. So a worker that is killed takes no
delivery with it: its processes hear that it is gone, finish what they have in hand and end. One of the processes that
is killed takes what it had in hand alone, and another takes its place.

Each has a socket to the worker, on which packets go: down ``[number, task, arguments]`` as JSON, up the number of a
wake-up that is done. The end of the socket means: stop.

Not supported, because wake-ups need none of it: results, self.retry, time limits, revoke, remote control.
"""

import json
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from celery.concurrency.base import BasePool
from celery.worker import state
from kombu.serialization import loads, prepare_accept_content
from typing_extensions import override

from ptt import maillog
from ptt.workers import relay_process
from ptt.workers.restarts import Ending, decide_restart

STOP_TIMEOUT_S = 27.5
"""Longest warm stop: SIGTERM promises an exit within 30 s, of which Celery may take one to notice it and one to end.

The processes give up themselves a little earlier.
"""
FORK_AGAIN_S = 1.0
"""When the system had no room for another process."""
START_TIMEOUT_S = 60.0
"""Longest wait for a process to begin: it has nothing to do first."""


@dataclass(eq=False, weakref_slot=True, slots=True, kw_only=True)
class _Job:
    """One wake-up in the pool; Celery's request keeps a weak reference to it."""

    number: int
    packet: bytes
    began: float
    on_done: Callable[[tuple[int, object, float]], None] | None

    def terminate(self, signal: object = None) -> None:
        """Do nothing: a wake-up that is revoked would only be pushed again."""

    def finish(self) -> None:
        """Tell Celery that it is done."""
        if self.on_done is not None:
            self.on_done((0, None, monotonic() - self.began))


@dataclass(eq=False, slots=True, kw_only=True)
class _Process:
    """One of the processes that do the work."""

    pid: int
    channel: socket.socket
    began: float
    jobs: dict[int, _Job] = field(default_factory=dict)
    is_ready: bool = False
    """Whether it takes wake-ups: it has begun, and does not stop yet."""


class ProcessPool(BasePool):
    """The pool of the relay role: as many processes as ``app.processes`` says."""

    body_can_be_buffer = True
    signal_safe = False
    task_join_will_block = False
    uses_semaphore = False

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - Celery's own signature
        """Prepare; the processes start with `on_start`."""
        super().__init__(*arguments, **options)
        self._processes: list[_Process] = []
        self._accept: Any = None
        self._hub: Any = None
        self._waiting: list[_Job] = []
        """What came while no process was ready; Celery's prefetch limit bounds it."""
        self._count = 0
        self._is_closing = False
        self._previous_delay_s = 0.0

    @override
    def on_start(self) -> None:
        """Start the processes; one that cannot begin ends the worker."""
        self._accept = prepare_accept_content(self.app.conf.accept_content)
        for process in [self._fork() for _ in range(self.app.processes)]:
            if not _wait_ready(process):
                raise RuntimeError("a relay process ended before it began")

    @override
    def register_with_event_loop(self, loop: Any) -> None:
        """Let the hub run what comes back; called again after each reconnection of the broker."""
        self._hub = loop
        for process in self._processes:
            loop.add_reader(process.channel, self._on_readable, process)
        self._restock()

    @override
    def on_apply(self, *args: Any, **kwargs: Any) -> _Job:  # type: ignore[override]
        """Pass one wake-up on to the process that has the fewest in hand."""
        name, _, _, body, content_type, content_encoding = kwargs.get("args") or args[1]
        if accept := kwargs.get("accept_callback"):
            # Acknowledged here and now: what kombu holds as unacknowledged when a connection breaks runs twice.
            accept(os.getpid(), monotonic())
        arguments: Sequence[Any] = loads(body, content_type, content_encoding, accept=self._accept)[0]
        self._count += 1
        packet = json.dumps([self._count, name, arguments]).encode()
        job = _Job(number=self._count, packet=packet, began=monotonic(), on_done=kwargs.get("callback"))
        self._pass_on(job)
        return job

    @override
    def on_close(self) -> None:
        """Tell the processes that a stop has begun."""
        self._is_closing = True
        for process in self._processes:
            with suppress(OSError):
                process.channel.shutdown(socket.SHUT_WR)
        self._pass_on_waiting()

    @override
    def terminate_job(self, pid: int, signal: object = None) -> None:
        """Do nothing: Celery cancels each wake-up before a cold stop, which kills the processes."""

    @override
    def on_stop(self) -> None:
        """Wait for what is in hand, at most STOP_TIMEOUT_S, then kill who is left; in a cold stop all, at once."""
        if _is_cold():
            self.on_terminate()
            return
        self.on_close()
        deadline = monotonic() + STOP_TIMEOUT_S
        while self._processes and (left_s := deadline - monotonic()) > 0:
            # Nobody runs the hub any more.
            readable, _, _ = select.select([process.channel for process in self._processes], (), (), left_s)
            for process in list(self._processes):
                if process.channel in readable:
                    self._on_readable(process)
        if self._processes:
            maillog.emit("relay.stop_timed_out", maillog.WARNING)
            self.on_terminate()

    @override
    def on_terminate(self) -> None:
        """Kill the processes; leases end by themselves."""
        self._is_closing = True
        for process in list(self._processes):
            os.kill(process.pid, signal.SIGKILL)
            self._bury(process)

    def _fork(self) -> _Process:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                if (pid := os.fork()) == 0:
                    relay_process.live(self.app, theirs)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        process = _Process(pid=pid, channel=ours, began=monotonic())
        self._processes.append(process)
        return process

    def _pass_on(self, job: _Job) -> None:
        if self._is_closing:
            job.finish()
            return
        able = [process for process in self._processes if process.is_ready]
        if not able:
            self._waiting.append(job)
            return
        process = min(able, key=lambda one: len(one.jobs))
        try:
            process.channel.send(job.packet)
            process.jobs[job.number] = job
        except OSError:  # it does not read, or it has just ended: the sweep wakes again
            job.finish()

    def _pass_on_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self._pass_on(job)

    def _on_readable(self, process: _Process) -> None:
        while process in self._processes:
            packet = relay_process.receive(process.channel)
            if packet is None:
                return
            if not packet:
                self._bury(process)
            elif packet == relay_process.READY:
                _welcome(process)
                self._pass_on_waiting()
            elif packet == relay_process.LEAVING:
                process.is_ready = False
            else:
                process.jobs.pop(int(packet)).finish()

    def _bury(self, process: _Process) -> None:
        self._processes.remove(process)
        if self._hub is not None:
            self._hub.remove_reader(process.channel)
        process.channel.close()
        exit_code = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        for job in process.jobs.values():
            job.finish()  # the sweep wakes again
        if not self._is_closing:
            self._replace(process, exit_code)

    def _replace(self, process: _Process, exit_code: int) -> None:
        lived_s = monotonic() - process.began
        maillog.emit(
            "relay.process_ended", maillog.ERROR, pid=process.pid, exit_code=exit_code, lived_s=round(lived_s, 1)
        )
        ending = Ending(exit_code=exit_code, lived_s=lived_s, was_ready=process.is_ready, had_worked=True)
        delay_s = decide_restart(ending, self._previous_delay_s)
        assert delay_s is not None  # noqa: S101 - only who never worked is not started again
        self._previous_delay_s = delay_s
        if self._hub is not None:
            self._hub.call_later(delay_s, self._restock)

    def _restock(self) -> None:
        # The timers of the hub may be lost when the broker's connection is: it is done again after a reconnection.
        while not self._is_closing and len(self._processes) < self.app.processes:
            try:
                process = self._fork()
            except OSError as error:
                maillog.emit("relay.process_not_started", maillog.ERROR, reason=str(error))
                self._hub.call_later(FORK_AGAIN_S, self._restock)
                return
            self._hub.add_reader(process.channel, self._on_readable, process)


def _is_cold() -> bool:
    return bool(state.should_terminate)


def _wait_ready(process: _Process) -> bool:
    readable, _, _ = select.select([process.channel], (), (), START_TIMEOUT_S)
    if readable and relay_process.receive(process.channel) == relay_process.READY:
        _welcome(process)
    return process.is_ready


def _welcome(process: _Process) -> None:
    process.is_ready = True
    maillog.emit("relay.process_started", pid=process.pid)
