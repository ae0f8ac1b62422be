"""What ptt relies on in celery and kombu 5.7, against a real server: an upgrade that changes it fails here."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from ptt.core.wakeup import RELAY_WAKEUP, SIGN_WAKEUP
from tests.hostile_wakeups import list_bodies
from tests.servers.redis import RedisServer, debian_redis, running_server
from tests.servers.wakeup_ledger import GATE, LEDGER
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2]
LEAST_RIGHTS = ("+ping", "+hello", "+brpop", "+lpush")


@dataclass
class CeleryWorker:
    """A worker process."""

    queue: str
    server: RedisServer
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        """Start the worker and wait until it listens."""
        path = self.server.socket
        broker = f"ptt+socket://{self.user}{path}?virtual_host=0"
        environment = {
            **os.environ,
            "TEST_BROKER_URL": broker,
            "TEST_SPOOL_URL": f"unix://{path}?db=1",
            "TEST_LEDGER_URL": f"unix://{path}?db=5",
            **self.environment,
        }
        command = [sys.executable, "-m", "celery", "-A", "tests.servers.wakeup_app", "worker", "-Q", self.queue]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, stderr=log)
        wait_until(self.listens, f"worker of {self.queue} listens", 90)

    @property
    def log(self) -> Path:
        """Give the file that it logs to."""
        return self.server.folder / "celery.log"

    def find_processes(self) -> list[int]:
        """Give the pids of the processes of its pool."""
        assert self.process is not None
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def read_log(self) -> list[bytes]:
        """Give the lines of the log."""
        return self.log.read_bytes().splitlines()

    def listens(self) -> bool:
        """Tell whether a client waits in BRPOP."""
        assert self.process is not None
        assert self.process.poll() is None, "the worker ended"
        try:
            with self.server.client(0) as client:
                return any(one["cmd"] == "brpop" for one in client.client_list())
        except redis.exceptions.RedisError:
            return False

    def stop(self) -> int:
        """Ask for a warm stop and give the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def worker(queue: str, server: RedisServer, user: str = "", **environment: str) -> Iterator[CeleryWorker]:
    """Run a worker."""
    started = CeleryWorker(queue, server, environment, user)
    try:
        started.start()
        yield started
    finally:
        if started.process is not None and started.process.poll() is None:
            started.process.kill()
            started.process.wait()


def wakeup(queue: str, number: int) -> bytes:
    """Fill in the wake-up as the scripts do."""
    template = SIGN_WAKEUP if queue == "sign" else RELAY_WAKEUP
    return template.replace(b"@ID@", b"%d" % number).replace(b"@DESTINATION@", b"d%d.test" % number)


def ran(server: RedisServer) -> list[str]:
    """Give what the tasks wrote down."""
    with server.client(5) as ledger:
        return [line.decode() for line in ledger.lrange(LEDGER, 0, -1)]


def list_sockets(pid: int) -> set[str]:
    """Give the sockets that a process has open."""
    links = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return {link for link in links if link.startswith("socket:")}


def open_gate(server: RedisServer) -> None:
    """Let tasks end that were held up."""
    with server.client(5) as ledger:
        ledger.set(GATE, 1)


def count(server: RedisServer, queue: str) -> int:
    """Count the wake-ups that were served."""
    return sum(line.startswith(queue) for line in ran(server))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Run a server that the test may kill."""
    with running_server() as running:
        yield running


@pytest.mark.parametrize("queue", ["sign", "relay"])
def test_stock_worker_serves_our_wakeup(server: RedisServer, queue: str) -> None:
    """The hand-built message is one that an unchanged Celery worker accepts."""
    with worker(queue, server, TEST_STOCK="1"):
        with server.client(0) as broker:
            broker.lpush(queue, *(wakeup(queue, number) for number in range(10)))
        wait_until(lambda: count(server, queue) == 10, "all wake-ups are served")


@pytest.mark.parametrize("queue", ["sign", "relay"])
def test_worker_needs_four_commands_on_its_own_queue(queue: str) -> None:
    """The ACL of a role's broker connection is PING, HELLO, BRPOP and LPUSH on its list; a warm stop exits 0."""
    with running_server(debian_redis()) as server, server.client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "role", "on", ">secret", "-@all", *LEAST_RIGHTS, f"~{queue}")
        with worker(queue, server, user="role:secret@") as running:
            admin.lpush(queue, *(wakeup(queue, number) for number in range(10)))
            wait_until(lambda: count(server, queue) == 10, "all wake-ups are served")
            assert running.stop() == 0
        denied = {entry["object"] for entry in admin.acl_log()}
    assert not denied


@pytest.mark.parametrize("queue", ["sign", "relay"])
def test_worker_survives_a_killed_redis(server: RedisServer, queue: str) -> None:
    """Redis may crash and come back: the worker goes on without a restart."""
    with worker(queue, server) as running:
        server.kill()
        server.start()
        wait_until(running.listens, "the worker listens again")
        with server.client(0) as broker:
            broker.lpush(queue, wakeup(queue, 1))
        wait_until(lambda: count(server, queue) == 1, "the wake-up is served")
        assert running.stop() == 0


@pytest.mark.parametrize("queue", ["sign", "relay"])
def test_worker_survives_a_reset_connection_and_runs_nothing_twice(server: RedisServer, queue: str) -> None:
    """A lost connection while tasks run neither stops the worker nor runs them again."""
    with worker(queue, server, TEST_HELD="1") as running:
        with server.client(0) as broker:
            broker.lpush(queue, wakeup(queue, 1), wakeup(queue, 2))
            wait_until(lambda: count(server, "begin") == 2, "both have begun")
            broker.client_kill_filter(_type="normal", skipme=True)
        open_gate(server)
        wait_until(running.listens, "the worker listens again")
        wait_until(lambda: count(server, queue) == 2, "both are served")
        assert running.stop() == 0
    assert count(server, queue) == 2


def test_relay_stop_finishes_what_is_in_hand(server: RedisServer) -> None:
    """SIGTERM: the service hears of the stop at once, tasks in hand end, the exit code is 0."""
    with worker("relay", server, TEST_HELD="1") as running:
        with server.client(0) as broker:
            broker.lpush("relay", *(wakeup("relay", number) for number in range(5)))
        wait_until(lambda: count(server, "begin") == 5, "all are in hand")
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "close" in ran(server), "the service hears of the stop")
        open_gate(server)
        assert running.process.wait(60) == 0
    lines = ran(server)
    assert (lines[0], lines[-1]) == ("start", "stop")
    assert lines.index("close") < lines.index("relay d0.test")
    assert count(server, "relay") == 5


def test_relay_worker_killed_its_process_finishes_what_it_has(server: RedisServer) -> None:
    """Kill -9 of the worker: its process takes nothing new, ends what it has in hand, and then itself."""
    with worker("relay", server, TEST_HELD="1") as running, server.client(0) as broker:
        broker.lpush("relay", *(wakeup("relay", number) for number in range(3)))
        wait_until(lambda: count(server, "begin") == 3, "all are in hand")
        (process,) = running.find_processes()
        assert running.process is not None
        running.process.kill()
        wait_until(lambda: "close" in ran(server), "its process hears that it is dead")
        open_gate(server)
        wait_until(lambda: not Path(f"/proc/{process}").exists(), "its process ends")
    assert count(server, "relay") == 3
    assert ran(server)[-1] == "stop"


def test_relay_process_killed_another_takes_its_place(server: RedisServer) -> None:
    """Kill -9 of a process: the worker starts another, whose places are not taken by what the first had in hand."""
    with worker("relay", server, TEST_HELD="1") as running, server.client(0) as broker:
        broker.lpush("relay", *(wakeup("relay", number) for number in range(5)))
        wait_until(lambda: count(server, "begin") == 5, "as many are in hand as one process takes")
        (process,) = running.find_processes()
        os.kill(process, signal.SIGKILL)
        open_gate(server)
        broker.lpush("relay", *(wakeup("relay", number) for number in range(5, 12)))
        wait_until(lambda: count(server, "relay") == 7, "those that came later are served")
        (successor,) = running.find_processes()
        assert running.process is not None
        worker_sockets, its_sockets = list_sockets(running.process.pid), list_sockets(successor)
        assert worker_sockets
        assert not worker_sockets & its_sockets, "it has files of the worker"
        # Only what has one thread can be forked safely.
        assert len(list(Path(f"/proc/{running.process.pid}/task").iterdir())) == 1
        assert running.stop() == 0
    (ended,) = [json.loads(line) for line in running.read_log() if b'"relay.process_ended"' in line]
    assert (ended["pid"], ended["exit_code"]) == (process, -signal.SIGKILL)


def test_relay_process_killed_harms_no_other_process(server: RedisServer) -> None:
    """Two processes share the wake-ups; one that is killed takes along only what it had itself."""
    with worker("relay", server, TEST_HELD="1", TEST_PROCESSES="2") as running, server.client(0) as broker:
        broker.lpush("relay", *(wakeup("relay", number) for number in range(4)))
        wait_until(lambda: count(server, "begin") == 4, "all are in hand")
        os.kill(running.find_processes()[0], signal.SIGKILL)
        wait_until(lambda: ran(server).count("start") == 3, "another has begun")
        open_gate(server)
        wait_until(lambda: count(server, "relay") == 2, "the other one's are served")
        assert running.stop() == 0
    assert count(server, "relay") == 2


def test_relay_process_that_cannot_be_forked_is_tried_again(server: RedisServer) -> None:
    """A system without room for another process or file for a while leaves no worker without processes for ever."""
    with worker("relay", server) as running, server.client(0) as broker:
        (process,) = running.find_processes()
        assert running.process is not None
        limits = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: b"relay.process_not_started" in running.log.read_bytes(), "there is no room")
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, limits)
        broker.lpush("relay", wakeup("relay", 1))
        wait_until(lambda: count(server, "relay") == 1, "the wake-up is served")
        assert running.stop() == 0


def test_relay_cold_stop_waits_for_nothing(server: RedisServer) -> None:
    """SIGQUIT, or Ctrl-C a second time: the processes are killed, without a traceback."""
    with worker("relay", server, TEST_HELD="1") as running:
        with server.client(0) as broker:
            broker.lpush("relay", *(wakeup("relay", number) for number in range(2)))
        wait_until(lambda: count(server, "begin") == 2, "both are in hand")
        assert running.process is not None
        running.process.send_signal(signal.SIGQUIT)
        assert running.process.wait(60) == 0
    assert not [line for line in running.read_log() if b"Traceback" in line or b"stop_timed_out" in line]


def test_relay_task_that_raises_harms_no_other(server: RedisServer) -> None:
    """An exception in one wake-up is logged; the worker goes on."""
    with worker("relay", server) as running, server.client(0) as broker:
        broker.lpush("relay", RELAY_WAKEUP.replace(b"@DESTINATION@", b"raise.test"), wakeup("relay", 7))
        wait_until(lambda: "relay d7.test" in ran(server), "the other one is served")
        assert running.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["-Q", "sign,relay"], "one worker has one role"), ([], "-Q: missing"), (["-Q", "other"], "no such role")],
)
def test_worker_without_exactly_one_role_is_refused(server: RedisServer, arguments: list[str], reason: str) -> None:
    """One process is never both the holder of the keys and the one that talks to the Internet."""
    environment = {
        **os.environ,
        "TEST_BROKER_URL": f"ptt+socket://{server.socket}?virtual_host=0",
        "TEST_SPOOL_URL": server.url,
        "TEST_LEDGER_URL": f"unix://{server.socket}?db=5",
    }
    command = [sys.executable, "-m", "celery", "-A", "tests.servers.wakeup_app", "worker", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert reason in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("queue", ["sign", "relay"])
def test_worker_refuses_and_counts_every_hostile_message_and_lives(server: RedisServer, queue: str) -> None:
    """Pickles, yaml, other tasks, broken JSON, 100 MB and a broadcast of `shutdown`: no code runs, and work goes on.

    Stock workers decode what the message asks for, or end.
    """
    mark = server.folder / "mark"
    bodies = list(list_bodies(queue, mark))
    assert len(bodies) > 90
    shutdown = json.dumps({"method": "shutdown", "arguments": {}, "destination": None})
    with worker(queue, server) as running, server.client(0) as broker:
        for body in bodies:
            broker.lpush(queue, body)
        broker.publish("/0.celery.pidbox", shutdown)
        broker.lpush(f"{queue}@{os.uname().nodename}.celery.pidbox", shutdown)
        broker.lpush(queue, wakeup(queue, 1))
        wait_until(lambda: count(server, queue) == 1, "the one good wake-up is served", 120)
        assert running.stop() == 0
    assert not mark.exists()
    assert [line for line in ran(server) if line not in {"begin", "start", "close", "stop"}] == [
        "sign" if queue == "sign" else "relay d1.test"
    ]
    counts = [json.loads(line)["count"] for line in running.read_log() if b'"wakeup.refused"' in line]
    assert counts == list(range(1, 11))
