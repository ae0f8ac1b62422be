"""Free ports on the loopback range, each given to one test of this host at a time."""

import functools
import random
import socket
from pathlib import Path

_FIRST = 10_000
"""The first port that is given."""
_LOW = range(600, 1024)
"""Ports that need a privilege, and that hardly anybody listens on."""
_reserved: list[socket.socket] = []
"""Held until this process ends."""


def free_port(address: str = "0.0.0.0", *, is_low: bool = False) -> int:
    """Give a port that nobody listens on now, with TCP or UDP, and that no other test gets; below 1024 if it has to be.

    The kernel's own choice, for port 0, may be taken by any process as soon as the socket that found it is closed. So
    the port comes from below the range that the kernel chooses from, and a name that is bound for as long as this
    process lives keeps other test processes from choosing it too.
    """
    # Not by the generator that pytest-randomly seeds: both its workers would try the same ports.
    ports = _LOW if is_low else range(_FIRST, _find_end())
    for port in random.SystemRandom().sample(ports, min(1000, len(ports))):
        if _is_free(address, port) and _reserve(port):
            return port
    raise AssertionError("no port is free")


def _is_free(address: str, port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def _reserve(port: int) -> bool:
    # unix(7): an abstract name, which is gone with the process that holds it.
    reserved = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reserved.bind(f"\0ptt-test-port-{port}")
    except OSError:
        reserved.close()
        return False
    _reserved.append(reserved)
    return True


@functools.cache
def _find_end() -> int:
    # ip(7): where the range begins that the kernel chooses from.
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
