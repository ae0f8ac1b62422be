"""Runs ptt's own programs as a user does: the commands to their end, `ptt up` beside, its log read line by line."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ptt
from ptt.workers import tether

COMMAND_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 70.0  # `ptt up` may use 30 s for ingress and 30 s for the workers
MAX_LINE_BYTES = 1_048_576

_SHOWN_ELSEWHERE = ("ts", "level")

Event = Mapping[str, Any]


class DemoFailed(Exception):  # noqa: N818 - it says what happened
    """The demonstration cannot go on; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """All that it printed."""
        return [line for line in (*self.stdout.splitlines(), *self.stderr.splitlines()) if line.strip()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Runs commands in the demonstration's folder, where they find its ptt.toml by themselves."""

    directory: Path
    environment: Mapping[str, str]

    async def run(self, *argv: str, text: str = "") -> Finished:
        """Run a program to its end, with ``text`` on its standard input.

        Raises:
            DemoFailed: it is not there, or does not end in time.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.directory,
                env=self.environment,
            )
        except OSError as error:
            raise DemoFailed(f"`{argv[0]}` cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                stdout, stderr = await process.communicate(text.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise DemoFailed(f"`{' '.join(argv)}` did not end within {COMMAND_TIMEOUT_S:g} s") from None
        assert process.returncode is not None  # noqa: S101 - for the type checker: it has ended
        return Finished(
            exit_code=process.returncode,
            stdout=stdout.decode(errors="replace"),
            stderr=stderr.decode(errors="replace"),
        )

    async def ptt(self, *arguments: str, text: str = "") -> Finished:
        """Run ``ptt``."""
        return await self.run(sys.executable, "-m", "ptt", *arguments, text=text)


class Up:
    """A running `ptt up` and its log so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Follow the log of a process that was just started."""
        self.events: list[Event] = []
        self._process = process
        self._changed = asyncio.Condition()
        self._ended = False
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, commands: Commands) -> "Up":
        """Start `ptt up`."""
        process = await asyncio.create_subprocess_exec(
            # Should the demonstration be killed, nothing of it goes on.
            *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), ""),
            *(sys.executable, "-m", "ptt", "up"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=commands.directory,
            env=commands.environment,
            limit=MAX_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the demonstration, which then stops it in order
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    def find(self, event: str, **fields: object) -> list[Event]:
        """Give the events of a name with these fields."""
        return [
            line
            for line in self.events
            if line["event"] == event and all(line.get(name) == value for name, value in fields.items())
        ]

    async def wait_for(self, is_there: Callable[[], object], what: str, timeout_s: float) -> None:
        """Wait until something is in the log.

        Raises:
            DemoFailed: it is not there in time, or one of the processes has ended.
        """
        reason = f"not within {timeout_s:g} s"
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: is_there() or self._ended or self.find("process.exited"))
            reason = "a process ended before"
        if not is_there():
            raise DemoFailed(f"{what}: {reason}; the log ends with:\n{self.tail()}")

    async def stop(self) -> int:
        """Stop it as an operator does, and give its exit code."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                exit_code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            exit_code = await self._process.wait()
        await self._reading
        return exit_code

    def tail(self, count: int = 12) -> str:
        """Give the last lines of the log."""
        return "\n".join(_format_event(event) for event in self.events[-count:])

    async def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - for the type checker: it is a pipe
        async for line in self._process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "process.output", "text": line.decode(errors="replace").rstrip()}
            async with self._changed:
                self.events.append(event)
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()


def _format_event(event: Event) -> str:
    if event["event"] == "process.output":
        return f"     {event.get('process', 'up')}: {event['text']}"
    return f"     {json.dumps({name: value for name, value in event.items() if name not in _SHOWN_ELSEWHERE})}"


def make_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Give the environment for ptt's programs: ours, without settings of ptt, with the package that we are part of."""
    kept = {name: value for name, value in own.items() if not name.startswith("PTT_")}
    path = [str(Path(ptt.__file__).parent.parent), *filter(None, [own.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
