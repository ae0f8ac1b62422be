"""What a process of the pool does: run tasks on its event loop until its socket ends, then finish and end.

It is forked from the Celery worker, which has one thread, and gives up all that it has of it: files, signals, and the
right to come back. What kills the worker does not reach it, so that nothing is sent twice for that.
"""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ptt import maillog
from ptt.workers.lag import watch_lag

READY, LEAVING = b"ready", b"leaving"
"""Packets to the worker: from now on wake-ups are welcome, and from now on they are not."""
STOP_TIMEOUT_S = 27.0
"""Longest stop, also when the worker is dead: nobody would end a process that hangs."""
MAX_PACKET_BYTES = 65_536
"""Far above any wake-up: kombu's transport has let none pass of more than 4 kB."""
_FIRST_FILE = 3  # after stdin, stdout and stderr


class Service(Protocol):
    """What runs in the loop for as long as the process does."""

    async def start(self) -> None:
        """Begin; called once before the first task."""

    def close(self) -> None:
        """Take no new work; called at the begin of a stop."""

    async def stop(self) -> None:
        """Finish what is in hand and release all; called after the last task."""


def receive(channel: socket.socket) -> bytes | None:
    """Take the next packet of a socket that does not block: empty when the other end is gone, None if there is none."""
    try:
        return channel.recv(MAX_PACKET_BYTES)
    except BlockingIOError:
        return None
    except ConnectionResetError:  # it ended with packets unread
        return b""


def live(app: Any, channel: socket.socket) -> NoReturn:  # noqa: ANN401 - a Celery app
    """Do the work of a process that was just forked; ``app.service`` makes what its tasks work with."""
    exit_code = 1
    try:
        # What we have of the worker is neither used nor finalised: an object of it could close a file of ours.
        gc.freeze()
        _close_files(channel.fileno())
        _reset_signals()
        asyncio.run(_Process(app, channel).run())
        exit_code = 0
    except BaseException:  # noqa: BLE001 - nothing of ours may run on in the worker's own frames
        maillog.emit("relay.failed", maillog.ERROR, exc_info=True)
    finally:
        try:
            sys.stderr.flush()
        finally:  # whatever there is of a log
            os._exit(exit_code)


class _Process:
    def __init__(self, app: Any, channel: socket.socket) -> None:  # noqa: ANN401 - a Celery app
        self._app = app
        self._channel = channel
        self._service: Service = app.service()
        self._stopping = asyncio.Event()
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._channel.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        await self._service.start()
        lag = asyncio.create_task(watch_lag(), name="lag")
        loop.add_reader(self._channel, self._on_readable)
        await self._send(READY)
        await self._stopping.wait()
        loop.remove_reader(self._channel)
        self._service.close()
        await self._send(LEAVING)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while self._tasks:
                    await asyncio.wait(self._tasks)
                await self._service.stop()
        except TimeoutError:
            maillog.emit("relay.stop_timed_out", maillog.WARNING)
        lag.cancel()

    def _on_readable(self) -> None:
        while not self._stopping.is_set() and (packet := receive(self._channel)) is not None:
            if not packet:
                self._stopping.set()
                return
            number, name, arguments = json.loads(packet)
            task = asyncio.create_task(self._execute(number, name, arguments))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _execute(self, number: int, name: str, arguments: list[str]) -> None:
        try:
            await self._app.tasks[name].run(*arguments)
        except Exception:  # noqa: BLE001 - the top of a task: the sweep wakes again, the others go on
            maillog.emit("task.failed", maillog.ERROR, exc_info=True, task=name)
        finally:
            await self._send(b"%d" % number)

    async def _send(self, packet: bytes) -> None:
        # One at a time: the loop keeps one writer for each file.
        async with self._sending:
            with suppress(OSError):  # the worker is dead: what is in hand goes on
                await asyncio.get_running_loop().sock_sendall(self._channel, packet)


def _close_files(channel: int) -> None:
    # Among them the worker's ends of the sockets of other processes: they would never see its end.
    # Not up to the limit: it may be a thousand million, and be lower than what was opened before.
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number >= _FIRST_FILE and number != channel:
            with suppress(OSError):  # the one that the list was read from
                os.close(number)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # SIGTERM is obeyed once there is somebody to do so; who is asked before, with its worker, hears it by the socket.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Ctrl-C and a terminal that is gone reach the whole group; the worker obeys, and tells us by the end of the socket.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
