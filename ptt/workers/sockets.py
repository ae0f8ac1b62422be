"""Sockets that the service manager hands over (sd_listen_fds(3)), and how many of them this process may have."""

import os
import resource
import socket
import time
from collections.abc import Iterable, Iterator, Sequence

from ptt.core.errors import ConfigError
from ptt.settings import get_environment

FIRST_FD = 3
"""SD_LISTEN_FDS_START of systemd."""
OTHER_FILES = 256
"""Open files beside those of clients: Redis, Git, log, libraries."""
PORT_WAIT_S = 3.0
"""How long a port may still be taken: the processes of a `ptt up` that was killed take a moment to die."""
_POLL_S = 0.05


def take_sockets() -> list[socket.socket]:
    """Take the sockets that were handed over to this very process; none, as a rule.

    Raises:
        ConfigError: one of them is no TCP socket.
    """
    environment = get_environment()
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environment.get("LISTEN_FDS", "0"))
    return [_take_socket(number) for number in range(FIRST_FD, FIRST_FD + count)]


def check_free(places: Sequence[tuple[str, int]], wait_s: float = PORT_WAIT_S) -> None:
    """See whether nobody listens at these addresses and ports yet; port 0 is always free.

    The processes of ingress share their ports (SO_REUSEPORT), with whatever else does so and runs as the same user: of
    two sites each would get some of the clients. So this asks for each port alone, before the first process starts.

    Raises:
        ConfigError: one line for each that stays taken for ``wait_s``, or cannot be bound.
    """
    deadline = time.monotonic() + wait_s
    while problems := list(_list_taken(places)):
        if time.monotonic() >= deadline:
            raise ConfigError(*problems)
        time.sleep(_POLL_S)


def _list_taken(places: Iterable[tuple[str, int]]) -> Iterator[str]:
    for address, port in places:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            if port:
                # As asyncio binds, but for SO_REUSEPORT.
                socket.create_server((address, port), family=family).close()
        except OSError as error:
            yield f"ingress.listen: {address} port {port}: {os.strerror(error.errno or 0)}"


def allow_open_files(connections: int) -> None:
    """Raise the limit of open files as far as so many connections need and the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _take_socket(number: int) -> socket.socket:
    try:
        os.set_inheritable(number, False)  # noqa: FBT003 - the function takes no keyword
        found = socket.socket(fileno=number)
    except OSError as error:
        raise ConfigError(f"LISTEN_FDS: file descriptor {number}: {error.strerror}") from error
    if found.family not in {socket.AF_INET, socket.AF_INET6} or found.type != socket.SOCK_STREAM:
        raise ConfigError(f"LISTEN_FDS: file descriptor {number}: is no TCP socket")
    return found
