"""`ptt up`: everything on one host under one supervisor.

Start: embedded Valkey (when ptt.toml names no Redis) until it has loaded its data, then sign, relays and ingress.
Stop: ingress first, so that nothing new comes in; sign and relays together; Valkey last, so that all they did is kept.
The children are the same programs that run apart elsewhere; the supervisor knows of them their names and exit codes.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from ptt import maillog
from ptt.settings import Account, Settings
from ptt.store.acl import ADMIN
from ptt.store.connection import RedisAddress
from ptt.store.server import load_functions
from ptt.workers.apart import REDIS, format_environment, format_tether
from ptt.workers.child import Child, Program
from ptt.workers.embedded import EmbeddedServer, open_embedded, wait_until_loaded
from ptt.workers.sockets import check_free

STOP_TIMEOUT_S = 30.0
"""How long one group may take to finish what it has in hand; then it is killed, and its leases run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Programs that are started and stopped together, before and after other groups."""

    programs: tuple[Program, ...]
    wait_ready: Callable[[], Awaitable[None]] | None = None
    """Awaited before the next group starts."""


class Supervisor:
    """Runs groups of programs in their order until a signal, and stops them in the reverse order."""

    def __init__(
        self, groups: Sequence[Group], write: Callable[[bytes], None], stop_timeout_s: float = STOP_TIMEOUT_S
    ) -> None:
        """Prepare; ``write`` takes each log line of the children, one call a line."""
        self._groups = [(group, [Child(program, write) for program in group.programs]) for group in groups]
        self._begun: list[Child] = []
        self._stopping = asyncio.Event()
        self._stop_timeout_s = stop_timeout_s
        self._exit_code = 0

    def stop(self, reason: str) -> None:
        """Stop everything in order; a second time: at once."""
        if not self._stopping.is_set():
            maillog.emit("up.stopping", reason=reason)
            self._stopping.set()
            return
        maillog.emit("up.forced", logging.ERROR, reason=reason)
        self._exit_code = self._exit_code or 1
        for child in self._begun:
            child.stop()
            child.kill()

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a program refuses its settings.

        Returns:
            The exit code: 0, 78 for wrong settings, 1 if a program had to be killed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        async with asyncio.TaskGroup() as tasks:
            start = tasks.create_task(self._start(tasks))
            await self._stopping.wait()
            start.cancel()
            for _, children in reversed(self._groups):
                await self._stop([child for child in children if child in self._begun])
        maillog.emit("up.stopped", exit_code=self._exit_code)
        return self._exit_code

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for group, children in self._groups:
            for child in children:
                self._begun.append(child)
                tasks.create_task(self._keep(child))
            if group.wait_ready is not None:
                await group.wait_ready()
                for child in children:
                    child.ready.set()
        for child in self._begun:
            await child.ready.wait()
        maillog.announce("up.ready", elapsed_s=round(loop.time() - began, 2))

    async def _keep(self, child: Child) -> None:
        if (exit_code := await child.run()) and not self._stopping.is_set():
            self._exit_code = exit_code
            self.stop(f"{child.program.name} refuses its settings")

    async def _stop(self, children: Sequence[Child]) -> None:
        for child in children:
            child.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._stop_timeout_s):
                await _finish(children)
        for child in children:
            if not child.finished.is_set():
                maillog.emit("process.killed", logging.ERROR, process=child.program.name)
                self._exit_code = self._exit_code or 1
                child.kill()
        await _finish(children)

    def _on_hangup(self) -> None:
        # One that is still starting may die of it, and then starts again with the new files.
        for child in self._begun:
            if child.program.reloads:
                child.send_signal(signal.SIGHUP)


async def _finish(children: Sequence[Child]) -> None:
    for child in children:
        await child.finished.wait()


def plan_groups(
    settings: Settings,
    environment: Mapping[str, str],
    server: EmbeddedServer | None,
    accounts: Mapping[str, Account] | None = None,
) -> tuple[Group, ...]:
    """List what runs on one host, in the order of its start; with accounts each role as its own user."""
    worker = (sys.executable, "-m", "celery", "-A", "ptt", "worker")
    relays = tuple(f"relay-{number}" for number in range(1, settings.up.relay_processes + 1))
    ingresses = tuple(f"ingress-{number}" for number in range(1, settings.up.ingress_processes + 1))

    def program(name: str, role: str, *argv: str) -> Program:
        own = {} if server is None else {"PTT_REDIS__URL": server.url_for(role)}
        account = accounts[role] if accounts else None
        return Program(
            name=name,
            argv=argv,
            environment={**environment, **own, **format_environment(account)},
            ready_event=f"{role}.started",
            account=format_tether(role, account, server),
            leaves_heirs=role == "relay",
        )

    workers = (
        program("sign", "sign", *worker, "-Q", "sign", "-n", "sign@%h"),
        *(program(name, "relay", *worker, "-Q", "relay", "-n", f"{name}@%h") for name in relays),
    )
    entrance = tuple(program(name, "ingress", sys.executable, "-m", "ptt.workers.ingress") for name in ingresses)
    groups = (Group(programs=workers), Group(programs=entrance))
    return groups if server is None else (embedded_group(server, environment), *groups)


def run_up(settings: Settings, environment: Mapping[str, str], accounts: Mapping[str, Account] | None = None) -> int:
    """Run everything on this host until a signal.

    Args:
        settings: the whole ptt.toml.
        environment: what the children get, with ``PTT_CONFIG`` in it.
        accounts: as whom each role and the embedded Valkey run, by role; all as ourselves without it.

    Returns:
        The exit code.

    Raises:
        ConfigError: the embedded Valkey cannot be used, or somebody listens on our ports.
    """
    account = accounts[REDIS] if accounts else None
    embedded = nullcontext() if settings.redis.url else open_embedded(settings.up, account=account)
    with embedded as server:
        check_free([(str(listen.address), listen.port) for listen in settings.ingress.listen])
        supervisor = Supervisor(plan_groups(settings, environment, server, accounts), _write_stderr)
        return asyncio.run(supervisor.run())


def embedded_group(server: EmbeddedServer, environment: Mapping[str, str]) -> Group:
    """Give the embedded Valkey as the group that comes before all others."""
    program = Program(
        name="valkey",
        argv=server.argv,
        environment={**environment, **format_environment(server.account)},
        reloads=False,
        keep_fds=(server.lock_fd,),
        account=format_tether(REDIS, server.account, None),
    )
    return Group(programs=(program,), wait_ready=lambda: _wait_ready(server))


async def _wait_ready(server: EmbeddedServer) -> None:
    if not server.passwords:
        await wait_until_loaded(server.socket)
        return
    await wait_until_loaded(server.socket, server.passwords[ADMIN])
    # Roles with rights of their own may not load them.
    await asyncio.to_thread(load_functions, RedisAddress(url=server.url_for(ADMIN)), prunes=False)


def _write_stderr(line: bytes) -> None:
    # A log that nobody reads any more must not stop the mail.
    with suppress(OSError):
        while line:
            line = line[os.write(sys.stderr.fileno(), line) :]
