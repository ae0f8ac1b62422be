"""A DNS server that answers whatever a test wants, over UDP and TCP: lame, lagging, lying or silent servers."""

import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from typing_extensions import override

Respond = Callable[[bytes, bool], bytes | None]
"""Takes the octets of a request and whether it came over TCP; gives the octets of the reply, or None for silence."""


class _Udp(socketserver.BaseRequestHandler):
    respond: ClassVar[list[Respond]]

    @override
    def handle(self) -> None:
        request, socket = self.request
        if (reply := self.respond[0](request, False)) is not None:  # noqa: FBT003 - the type of the hook
            socket.sendto(reply, self.client_address)


class _Tcp(socketserver.StreamRequestHandler):
    respond: ClassVar[list[Respond]]

    @override
    def handle(self) -> None:
        while prefix := self.rfile.read(2):
            request = self.rfile.read(*struct.unpack("!H", prefix))
            if (reply := self.respond[0](request, True)) is not None:  # noqa: FBT003 - the type of the hook
                self.wfile.write(struct.pack("!H", len(reply)) + reply)


class _UdpServer(socketserver.ThreadingUDPServer):
    allow_reuse_address = True


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def running_responder(address: str, port: int, respond: Respond) -> Iterator[None]:
    """Answer on this address and port, UDP and TCP."""
    udp = _UdpServer((address, port), type("Udp", (_Udp,), {"respond": [respond]}))
    tcp = _TcpServer((address, port), type("Tcp", (_Tcp,), {"respond": [respond]}))
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in (udp, tcp)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server, thread in zip((udp, tcp), threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
