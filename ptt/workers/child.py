"""One program under `ptt up`: started, logged, started again when it ends, and stopped.

Each child is in a session of its own, so that Ctrl-C reaches the supervisor only, and is killed by the kernel when the
supervisor dies. When a child ends, what is left of its session is killed, so that no port and no lease stays taken;
only a relay's processes may finish what they have in hand, while the next relay begins beside them.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from typing_extensions import override

from ptt import maillog
from ptt.core.errors import CONFIGURATION
from ptt.workers import tether
from ptt.workers.childlog import LineSplitter, format_line, label_event, parse_line
from ptt.workers.heirs import Heirs, bury, has_heirs, kill_session
from ptt.workers.restarts import STABLE_AFTER_S, Ending, decide_restart

_EX_OSERR = 71  # sysexits.h: the system could not even start it

_DRAIN_S = 1.0  # how long the last lines of a dead process are waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    ready_event: str = ""
    """The event in its log that says that it works; without one it is ready when somebody sets `Child.ready`."""
    reloads: bool = True
    """Whether SIGHUP is for it."""
    keep_fds: tuple[int, ...] = ()
    """Open files that it inherits."""
    account: str = ""
    """As whom it runs, as the tether takes it; as ourselves if empty."""
    leaves_heirs: bool = False
    """Whether its own processes may finish what they have in hand when it is killed; they end by themselves."""


class LogPipe(asyncio.Protocol):
    """The reading end of what a child prints."""

    def __init__(self, take_line: Callable[[bytes], None]) -> None:
        """Keep who takes the lines."""
        self._splitter = LineSplitter()
        self._take_line = take_line
        self.closed = asyncio.Event()

    @override
    def data_received(self, data: bytes) -> None:
        """Pass on each complete line."""
        for line in self._splitter.feed(data):
            self._take_line(line)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the last line."""
        for line in self._splitter.finish():
            self._take_line(line)
        self.closed.set()


class Child:
    """One program and its present process."""

    def __init__(self, program: Program, write: Callable[[bytes], None]) -> None:
        """Prepare; ``write`` takes each log line, labelled, with its end."""
        self.program = program
        self.ready = asyncio.Event()
        self.finished = asyncio.Event()
        self._stopping = asyncio.Event()
        self._is_working = False
        self._process: asyncio.subprocess.Process | None = None
        self._heirs = Heirs()
        self._write = write

    async def run(self) -> int:
        """Keep the program running until `stop`.

        Returns:
            0, or CONFIGURATION as soon as the program refuses its settings.
        """
        try:
            exit_code = await self._run()
            await self._heirs.wait()
            return exit_code
        finally:
            self.finished.set()

    def stop(self) -> None:
        """Ask the program to finish what it has in hand and to end, and do not start it again."""
        self._stopping.set()
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program's main process, if it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process and all that it started, in this life and before."""
        self._heirs.kill()
        if self._process is not None:
            # The session has the number of its first process, and the kernel gives no number away that is in use so.
            kill_session(self._process.pid)

    async def _run(self) -> int:
        previous_delay_s = 0.0
        while not self._stopping.is_set():
            ending = await self._live()
            if self._stopping.is_set():
                break
            delay_s = decide_restart(ending, previous_delay_s)
            if delay_s is None:
                return CONFIGURATION
            await self._pause(delay_s)
            previous_delay_s = delay_s
        return 0

    async def _live(self) -> Ending:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._is_working = False
        try:
            exit_code = await self._run_once()
        except OSError as error:
            maillog.emit("process.not_started", logging.ERROR, process=self.program.name, reason=str(error))
            exit_code = _EX_OSERR
        lived_s = loop.time() - began
        ending = Ending(
            exit_code=exit_code,
            lived_s=lived_s,
            was_ready=self._is_working or (self.ready.is_set() and not self.program.ready_event),
            had_worked=self.ready.is_set() or lived_s >= STABLE_AFTER_S,
        )
        level = logging.INFO if self._stopping.is_set() else logging.ERROR
        maillog.emit("process.exited", level, process=self.program.name, exit_code=exit_code, lived_s=round(lived_s, 1))
        return ending

    async def _run_once(self) -> int:
        reading, writing = os.pipe()
        loop = asyncio.get_running_loop()
        transport, log = await loop.connect_read_pipe(
            lambda: LogPipe(self._take_line), os.fdopen(reading, "rb", buffering=0)
        )
        process = None
        try:
            process = await self._spawn_and_wait(writing)
        finally:
            end_log = partial(_end_log, transport, log)
            if process is not None and self.program.leaves_heirs and has_heirs(process.pid):
                self._heirs.follow(process.pid, end_log)
            else:
                await end_log()
                if process is not None:
                    await bury(process.pid)
        assert process.returncode is not None  # noqa: S101 - it was waited for
        return process.returncode

    async def _spawn_and_wait(self, writing: int) -> asyncio.subprocess.Process:
        program = self.program
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid()), program.account),
                *program.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=program.environment,
                start_new_session=True,
                pass_fds=program.keep_fds,
            )
        finally:
            os.close(writing)
        self._process = process
        maillog.emit("process.started", process=self.program.name, pid=process.pid)
        if self._stopping.is_set():
            self.send_signal(signal.SIGTERM)
        try:
            await process.wait()
        finally:
            if process.returncode is None or not self.program.leaves_heirs:
                self.kill()
            self._process = None
        return process

    async def _pause(self, delay_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_s)

    def _take_line(self, line: bytes) -> None:
        if self._is_working and (labelled := label_event(self.program.name, line)) is not None:
            self._write(labelled)
            return
        fields = parse_line(self.program.name, line, datetime.now(UTC))  # noqa: TID251 - a line needs its time
        if self.program.ready_event and fields["event"] == self.program.ready_event:
            self._is_working = True
            self.ready.set()
        self._write(format_line(fields))


async def _end_log(transport: asyncio.BaseTransport, log: LogPipe) -> None:
    """Take the last lines of processes that are gone, and close the pipe."""
    with suppress(TimeoutError):
        await asyncio.wait_for(log.closed.wait(), _DRAIN_S)
    transport.close()
