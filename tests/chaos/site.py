"""The site of the rig: `ptt up` or the programs apart, the rig's own sink, and proxies where a case wants them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from typing_extensions import override

from ptt.store import keys
from tests.chaos.ledger import read_lines
from tests.e2e.site import DESTINATIONS, MX_ADDRESS, Site
from tests.servers.bind import Bind, running_bind
from tests.servers.ports import free_port
from tests.servers.redis import SAFE, RedisServer, debian_redis
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
_PREPARED = ("ca.pem", "ingress.key", "ingress.crt", "mx.key", "mx.crt", "seal.key", "tsig.key", "keys", "users.git")
_STARTED = re.compile(rb'"event": "(\w+\.(?:process_)?started)"')
_FINAL = {"recipient.delivered", "recipient.failed", "recipient.held", "recipient.parked"}


@dataclass
class Workshop:
    """What all cases of one process share: BIND with the published key, certificates, the user."""

    bind: Bind
    template: Path

    @classmethod
    @contextmanager
    def open(cls) -> "Iterator[Workshop]":
        """Start BIND and make key, certificates and user once."""
        folder = Path(tempfile.mkdtemp(prefix="ptt-chaos-"))
        records = ["@ MX 10 mx", f"mx A {MX_ADDRESS}"]
        try:
            with running_bind(("example.test", *DESTINATIONS), records=records) as bind:
                Site(folder, bind, sink_port=free_port(MX_ADDRESS)).prepare()
                yield cls(bind, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class ChaosSite(Site):
    """One site in a folder of its own; its processes may be killed one by one or all at once."""

    template: Path = Path()
    smtp_port: int = 0
    """Where the relay connects to: the sink or a proxy before it."""
    sink_options: Sequence[str] = ()
    redis_urls: Mapping[str, str] = field(default_factory=dict)
    """By role, how it reaches Redis; when empty, `ptt up` runs everything with its embedded server."""
    redis_server: RedisServer | None = None
    relays: int = 1
    prefix: Sequence[str] = ()
    """What `ptt up` is started by, if not by the rig itself."""
    apart: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    starts: int = 0
    _read_bytes: int = 0
    _started: Counter[str] = field(default_factory=Counter)

    @override
    def prepare(self) -> None:
        """Take certificates, key and user of the workshop; write settings with ports of its own."""
        for name in _PREPARED:
            source = self.template / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.folder / name)
        self.settings = {"PTT_UP__RELAY_PROCESSES": str(self.relays), **self.settings}
        sink_port, self.sink_port = self.sink_port, self.smtp_port or self.sink_port
        (self.folder / "ptt.toml").write_text(self._format_settings())
        self.sink_port = sink_port

    @override
    def start_sink(self) -> None:
        """Start the rig's sink."""
        command = [sys.executable, "-m", "tests.chaos.sink", MX_ADDRESS, str(self.sink_port)]
        command += [str(self.folder / "arrived.ledger"), str(self.folder / "arrived.contents")]
        command += [option.format(folder=self.folder) for option in self.sink_options]
        self.sink = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert self.sink.stdout is not None
        assert self.sink.stdout.readline() == b"ready\n"
        self.sink.stdout.close()

    @override
    def start(self) -> None:
        """Start everything and wait until it works."""
        self.starts += 1
        if self.redis_urls:
            self._start_apart()
            return
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "ptt", "--config", str(self.folder / "ptt.toml"), "up"],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
                cwd=ROOT,
            )
        wait_until(lambda: self._count("log", "up.ready") >= self.starts, f"ptt up is ready, see {self.folder}/log", 60)

    def _start_apart(self) -> None:
        worker = ["-m", "celery", "-A", "ptt", "worker", "-Q"]
        commands = {"ingress": ["-m", "ptt.workers.ingress"], "sign": [*worker, "sign", "-n", "sign@%h"]}
        for number in range(1, self.relays + 1):
            commands[f"relay-{number}"] = [*worker, "relay", "-n", f"relay-{number}@%h"]
        for name, command in commands.items():
            role = name.partition("-")[0]
            environment = {
                **self.environment,
                "PTT_CONFIG": str(self.folder / "ptt.toml"),
                "PTT_REDIS__URL": self.redis_urls[role],
            }
            with (self.folder / f"log.{name}").open("ab") as log:
                self.apart[name] = subprocess.Popen(
                    [sys.executable, *command],
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                    cwd=ROOT,
                )
        for name in commands:
            event = f"{name.partition('-')[0]}.started"
            wait_until(
                lambda name=name, event=event: self._count(f"log.{name}", event) >= self.starts,  # type: ignore[misc]
                f"{event}, see {self.folder}/log.{name}",
                60,
            )

    def kill_tree(self) -> None:
        """Kill every process of the site at once, Redis too; the sink and BIND are other people's."""
        for pid in self.find_pids(""):
            _kill(pid)
        for process in (self.process, *self.apart.values()):
            if process is not None:
                process.wait(10)
        wait_until(lambda: not self.find_pids(""), "all processes are gone")

    def find_pids(self, name: str) -> list[int]:
        """Give the pids of our own processes whose command line holds the name."""
        others = {self.sink.pid if self.sink else 0, os.getpid()}
        others |= {self.redis_server.process.pid} if self.redis_server and self.redis_server.process else set()
        return sorted(pid for pid in self.find_processes(name) if pid not in others)

    @override
    def list_started(self) -> list[int]:
        """Give the processes that the site has started itself."""
        return [process.pid for process in (self.process, *self.apart.values()) if process is not None]

    def count_started(self, event: str) -> int:
        """Give how often this has begun to work under `ptt up`; reads only what the log has more than before."""
        with (self.folder / "log").open("rb") as log:
            log.seek(self._read_bytes)
            octets = log.read()
        lines = octets[: octets.rfind(b"\n") + 1]
        self._read_bytes += len(lines)
        self._started.update(name.decode() for name in _STARTED.findall(lines))
        return self._started[event]

    def redis(self, db: int) -> "redis.Redis":
        """Give a client that goes round all proxies."""
        if self.redis_server is not None:
            return self.redis_server.client(db)
        return redis.Redis(unix_socket_path=str(self.valkey_folder / "valkey.sock"), db=db)

    @property
    def valkey_folder(self) -> Path:
        """Give the folder of the embedded server, as its own processes see it."""
        folder = self.folder / "valkey"
        return Path(f"/proc/{self.process.pid}/root{folder}") if self.prefix and self.process else folder

    def list_left(self) -> tuple[set[str], int]:
        """Give the queue-ids that are in the spool, and how many are parked."""
        with self.redis(1) as client:
            left = {name.decode().removeprefix(keys.MESSAGE) for name in client.scan_iter(f"{keys.MESSAGE}*", 1000)}
            # A message that was taken back leaves a mark that expires by itself.
            left = {name for name in left if client.ttl(keys.MESSAGE + name) < 0 and client.exists(keys.MESSAGE + name)}
            return left, int(client.zcard(keys.PARKED))

    @override
    def close(self) -> None:
        """End everything."""
        for pid in self.find_pids(""):
            _kill(pid)
        for process in (self.process, *self.apart.values(), self.sink):
            if process is not None:
                if process.poll() is None:
                    process.kill()
                process.wait()
        if self.sink is not None and self.sink.stdout is not None:
            self.sink.stdout.close()
        if self.redis_server is not None:
            self.redis_server.stop()

    @override
    def list_events(self) -> list[dict[str, Any]]:
        """Give all events of all processes."""
        return [line for path in sorted(self.folder.glob("log*")) for line in read_lines(path) if "event" in line]

    def count_events(self) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]], set[str]]:
        """Give how often each queue-id and recipient is called uncertain, how often final, and what was unsure."""
        uncertain: Counter[tuple[str, str]] = Counter()
        final: Counter[tuple[str, str]] = Counter()
        unsure = set()
        for event in self.list_events():
            name = (event.get("queue_id", ""), event.get("recipient", ""))
            if event["event"] == "recipient.uncertain":
                uncertain[name] += 1
            elif event["event"] in _FINAL:
                final[name] += 1
            elif event["event"] == "spool.unavailable":
                unsure.add(name[0])
        return uncertain, final, unsure

    def count_ready(self) -> int:
        """Give how often `ptt up` became ready."""
        return (self.folder / "log").read_bytes().count(b'"event": "up.ready"')

    def _count(self, log: str, event: str) -> int:
        for process in (self.process, *self.apart.values()):
            assert process is None or process.poll() is None, f"a process ended, see {self.folder}/log*"
        return (self.folder / log).read_bytes().count(f'"event": "{event}"'.encode())


def make_redis(folder: Path) -> RedisServer:
    """Make a Redis server on a TCP port, durable as in production."""
    port = str(free_port())
    folder.mkdir()
    options = {**SAFE, "port": port, "bind": "127.0.0.1", "tcp-backlog": "128"}
    return RedisServer(folder, debian_redis(), options)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
