"""Free ports on the loopback range."""

import socket


def free_port(address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Give a port that nobody listens on now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def free_port_both(address: str = "127.0.0.1") -> int:
    """Give a port that is free for TCP and UDP: DNS servers need both."""
    for _ in range(100):
        port = free_port(address)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free for both TCP and UDP")
