"""The supervisor with small programs as its children."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ptt.core.errors import CONFIGURATION
from ptt.settings import Settings
from ptt.workers.child import Program
from ptt.workers.supervisor import Group, Supervisor, plan_groups
from tests.servers.ports import free_port
from tests.waiting import wait_until, wait_until_async

STEADY = """
import json, os, signal, sys
def tell(event): print(json.dumps({"event": event, "pid": os.getpid()}), flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
tell("child.started")
while True:
    if signal.sigwait({signal.SIGTERM, signal.SIGHUP}) == signal.SIGHUP:
        tell("child.reloaded")
    else:
        tell("child.stopped"); sys.exit(0)
"""
STUBBORN = STEADY.replace('tell("child.stopped"); sys.exit(0)', 'tell("child.asked")')
HEIR = f"""
import os
hears, says = os.pipe()
if os.fork():
    os.close(hears)
else:
    os.close(says)
    import json, signal, sys
    signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})
    os.read(hears, 1)
    print(json.dumps({{"event": "heir.works", "pid": os.getpid()}}), flush=True)
    signal.sigwait({{signal.SIGUSR1}})
    print(json.dumps({{"event": "heir.done"}}), flush=True)
    os._exit(0)
{STEADY}"""
UNREAPED = f"""
import json, os, signal
if os.fork() == 0:
    if os.fork() == 0:
        os._exit(0)
    os.setsid()
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    print(json.dumps({{"event": "parent.works", "pid": os.getpid()}}), flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})
    signal.sigwait({{signal.SIGUSR1}})
    os._exit(0)
{STEADY}"""
"""Leaves a dead process in its session, of which a parent elsewhere takes no note."""
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
REFUSING = "import sys; print('ptt.toml: ingress.hostname: missing', file=sys.stderr); sys.exit(78)"


def make_program(name: str, source: str = STEADY, *, reloads: bool = True) -> Program:
    """Make a program of a Python source text."""
    argv = (sys.executable, "-I", "-S", "-c", source)
    return Program(name=name, argv=argv, environment={}, ready_event="child.started", reloads=reloads)


class Run:
    """A running supervisor and what its children logged."""

    def __init__(self, *groups: Group, stop_timeout_s: float = 10) -> None:
        """Prepare."""
        self.lines: list[dict[str, Any]] = []
        self.supervisor = Supervisor(groups, lambda line: self.lines.append(json.loads(line)), stop_timeout_s)
        self.exit_code: asyncio.Future[int] = asyncio.ensure_future(self.supervisor.run())

    def events(self, event: str) -> list[str]:
        """Give the names of the processes that logged the event, in order."""
        return [line["process"] for line in self.lines if line["event"] == event]

    def pids(self, process: str) -> list[int]:
        """Give the process ids that a child had, in order."""
        return [line["pid"] for line in self.lines if line["event"] == "child.started" and line["process"] == process]

    def find_pid(self, event: str) -> int:
        """Give the process id of who logged the event first."""
        return next(int(line["pid"]) for line in self.lines if line["event"] == event)

    async def wait_for(self, event: str, count: int = 1) -> None:
        """Wait until the event was logged so often."""
        await wait_until_async(lambda: len(self.events(event)) >= count, f"{count} x {event}")


@contextlib.asynccontextmanager
async def running(*groups: Group, stop_timeout_s: float = 10) -> AsyncIterator[Run]:
    """Run a supervisor and leave nothing behind."""
    run = Run(*groups, stop_timeout_s=stop_timeout_s)
    try:
        yield run
    finally:
        if not run.exit_code.done():
            run.supervisor.stop("test")
            run.supervisor.stop("test")
        await run.exit_code


def group(*programs: Program) -> Group:
    """Make a group without a probe."""
    return Group(programs=programs)


async def test_supervisor_stop_goes_against_start_order() -> None:
    """Ingress stops first, sign and relays together, the store last; all asked nicely, exit 0."""
    asked: list[str] = []

    async def loaded() -> None:
        asked.append("loaded")

    groups = (
        Group(programs=(make_program("store"),), wait_ready=loaded),
        group(make_program("sign"), make_program("relay-1")),
        group(make_program("ingress-1")),
    )
    async with running(*groups) as run:
        await run.wait_for("child.started", 4)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await run.exit_code == 0
    stopped = run.events("child.stopped")
    assert (stopped[0], set(stopped[1:3]), stopped[3:]) == ("ingress-1", {"sign", "relay-1"}, ["store"])
    assert asked == ["loaded"]


async def test_supervisor_group_with_probe_holds_back_the_next() -> None:
    """Workers are not started before the store has loaded its data."""
    may_go = asyncio.Event()

    async def loaded() -> None:
        await may_go.wait()

    first = Group(programs=(make_program("store"),), wait_ready=loaded)
    async with running(first, group(make_program("sign"))) as run:
        await run.wait_for("child.started")
        assert run.events("child.started") == ["store"]
        may_go.set()
        await run.wait_for("child.started", 2)


async def test_supervisor_all_started_says_ready_once(caplog: pytest.LogCaptureFixture) -> None:
    """up.ready is logged when the last child has logged its own event, not before."""
    caplog.set_level("INFO", logger="ptt")
    waiting = STEADY.replace("child.started", "child.waiting").replace("child.reloaded", "child.started")

    def count_ready() -> int:
        return [getattr(record, "event", "") for record in caplog.records].count("up.ready")

    async with running(group(make_program("sign"), make_program("ingress-1", waiting))) as run:
        await run.wait_for("child.started")
        await run.wait_for("child.waiting")
        assert count_ready() == 0
        os.kill(run.find_pid("child.waiting"), signal.SIGHUP)
        await wait_until_async(lambda: count_ready() == 1, "up.ready")
    assert count_ready() == 1


async def test_supervisor_killed_child_is_back() -> None:
    """After kill -9 of one child the others stay and it is started again at once."""
    async with running(group(make_program("ingress-1"), make_program("sign"))) as run:
        await run.wait_for("child.started", 2)
        os.kill(run.pids("ingress-1")[0], signal.SIGKILL)
        await wait_until_async(lambda: len(run.pids("ingress-1")) == 2, "a second life")
    assert len(run.pids("sign")) == 1


async def test_supervisor_child_refuses_settings_stops_all_with_78() -> None:
    """Wrong settings: one line says why, the others finish in order, and the exit code tells systemd not to retry."""
    refusing = make_program("ingress-1", REFUSING)
    async with running(group(make_program("sign")), group(refusing)) as run:
        assert await run.exit_code == CONFIGURATION
    assert [line["text"] for line in run.lines if line["event"] == "process.output"] == [
        "ptt.toml: ingress.hostname: missing"
    ]
    assert run.events("child.stopped") in (["sign"], [])  # it may have been asked before it could listen to signals


async def test_supervisor_child_that_worked_refuses_settings_is_tried_again() -> None:
    """A settings file that is broken while mail flows does not stop what works."""
    once = STEADY.replace("while True:", "sys.exit(78)\nwhile True:")
    async with running(group(make_program("relay-1", once), make_program("sign"))) as run:
        await wait_until_async(lambda: len(run.pids("relay-1")) >= 3, "three lives")
        assert not run.exit_code.done()


async def test_supervisor_stubborn_child_is_killed_after_timeout() -> None:
    """A child that does not stop is killed when its time is over, and the exit code says so."""
    async with running(group(make_program("sign", STUBBORN)), stop_timeout_s=3) as run:
        await run.wait_for("child.started")
        run.supervisor.stop("test")
        assert await run.exit_code == 1
    assert run.events("child.asked") == ["sign"]


async def test_supervisor_second_stop_kills_at_once() -> None:
    """Who sends a second signal does not want to wait."""
    async with running(group(make_program("sign", STUBBORN)), stop_timeout_s=60) as run:
        await run.wait_for("child.started")
        os.kill(os.getpid(), signal.SIGINT)
        await run.wait_for("child.asked")
        os.kill(os.getpid(), signal.SIGINT)
        assert await asyncio.wait_for(run.exit_code, 30) == 1


async def test_supervisor_hangup_reaches_who_reloads() -> None:
    """SIGHUP is passed to our programs, and not to the store."""
    async with running(group(make_program("store", reloads=False), make_program("ingress-1"))) as run:
        await run.wait_for("child.started", 2)
        os.kill(os.getpid(), signal.SIGHUP)
        await run.wait_for("child.reloaded")
        run.supervisor.stop("test")
        await run.exit_code
    assert run.events("child.reloaded") == ["ingress-1"]


async def test_supervisor_ended_child_leaves_no_process_behind() -> None:
    """When a child dies, what it had started dies too: no leftover may hold its port or work on."""
    port = free_port()
    listen = f"import socket, time; s = socket.create_server(('127.0.0.1', {port}))"
    listener = f"{listen}; print('{{{json.dumps('event')}: {json.dumps('x')}}}', flush=True); time.sleep(99)"
    source = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-I', '-S', '-c', {listener!r}])\n{STEADY}"
    async with running(group(make_program("sign", source))) as run:
        await run.wait_for("x")
        os.kill(run.pids("sign")[0], signal.SIGKILL)
        await run.wait_for("x", 2)  # its successor could take the port
        await wait_until_async(lambda: _is_taken(port), "the successor listens")
    await wait_until_async(lambda: not _is_taken(port), "the port is free")


@pytest.fixture
def adopts_orphans() -> Iterator[None]:
    """Be to orphans what the first process of a container is."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.mark.usefixtures("adopts_orphans")
async def test_supervisor_as_first_process_leaves_no_zombies() -> None:
    """What a killed program had started is killed, and taken note of, also where nobody else does."""
    program = replace(make_program("sign", HEIR.replace("os.read(hears, 1)", "signal.pause()")), leaves_heirs=False)
    async with running(group(program)) as run:
        await run.wait_for("child.started")
        session = run.pids("sign")[0]
        os.kill(session, signal.SIGKILL)
        await run.wait_for("child.started", 2)
        with pytest.raises(ProcessLookupError):
            os.killpg(session, 0)


async def test_supervisor_killed_child_may_leave_heirs_that_finish() -> None:
    """What a killed relay leaves behind may finish beside the next one; a stop waits for it, and its log is kept."""
    program = replace(make_program("relay-1", HEIR), leaves_heirs=True)
    async with running(group(program)) as run:
        await run.wait_for("child.started")
        os.kill(run.pids("relay-1")[0], signal.SIGKILL)
        await run.wait_for("child.started", 2)
        await run.wait_for("heir.works")
        run.supervisor.stop("test")
        await run.wait_for("heir.works", 2)  # the second life ended as it was asked to, and leaves another
        assert not run.exit_code.done()
        for pid in [line["pid"] for line in run.lines if line["event"] == "heir.works"]:
            os.kill(pid, signal.SIGUSR1)
        assert await run.exit_code == 0
    assert run.events("heir.done") == ["relay-1", "relay-1"]


async def test_supervisor_stop_kills_heirs_that_do_not_end() -> None:
    """When the time of a stop is over, heirs are killed too."""
    program = replace(make_program("relay-1", HEIR), leaves_heirs=True)
    async with running(group(program), stop_timeout_s=3) as run:
        await run.wait_for("child.started")
        os.kill(run.pids("relay-1")[0], signal.SIGKILL)
        await run.wait_for("heir.works")
        run.supervisor.stop("test")
        assert await run.exit_code == 1
        heir = run.find_pid("heir.works")
        await wait_until_async(lambda: not Path(f"/proc/{heir}/fd/0").exists(), "the heir is gone")


async def test_supervisor_stop_waits_for_no_heir_that_is_dead() -> None:
    """Where nobody takes note of dead orphans, as in a container with a poor init, the stop ends none the less."""
    program = replace(make_program("relay-1", UNREAPED), leaves_heirs=True)
    async with running(group(program), stop_timeout_s=2) as run:
        await run.wait_for("child.started")
        await run.wait_for("parent.works")
        try:
            run.supervisor.stop("test")
            assert await asyncio.wait_for(asyncio.shield(run.exit_code), 30) == 1
        finally:
            os.kill(run.find_pid("parent.works"), signal.SIGUSR1)


def test_supervisor_killed_leaves_no_orphan(tmp_path: Path) -> None:
    """Kill -9 of the supervisor ends its children: they must not hold the ports when it is started again."""
    port = free_port()
    child = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(99)"
    program = tmp_path / "supervise.py"
    program.write_text(
        "import asyncio, sys\n"
        "from ptt.workers.child import Program\n"
        "from ptt.workers.supervisor import Group, Supervisor\n"
        f"child = Program(name='c', argv=(sys.executable, '-c', {child!r}), environment={{}}, ready_event='never')\n"
        "asyncio.run(Supervisor([Group(programs=(child,))], lambda line: None).run())\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, str(program)], env=environment) as supervisor:
        try:
            wait_until(lambda: _is_taken(port), "the child listens")
        finally:
            supervisor.kill()
    wait_until(lambda: not _is_taken(port), "the port is free")


def test_plan_groups_names_are_distinct_and_ingress_is_last() -> None:
    """One sign worker, as many relays and ingresses as asked for, each with a name of its own, ingress last."""
    settings = Settings.model_validate({"up": {"relay_processes": 2, "ingress_processes": 2}})
    groups = plan_groups(settings, {"PATH": "/bin"}, None)
    names = [[program.name for program in group.programs] for group in groups]
    assert names == [["sign", "relay-1", "relay-2"], ["ingress-1", "ingress-2"]]
    nodes = [program.argv[-1] for program in groups[0].programs]
    assert nodes == ["sign@%h", "relay-1@%h", "relay-2@%h"]


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
