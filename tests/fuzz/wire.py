"""A client and the way to a connection, without sockets and without waiting: octets in, octets out."""

import asyncio
import functools
import ssl
from typing import cast

from typing_extensions import override

from ptt.ingress.tls import CertificateFiles, ServerTls
from tests.servers.submission import HOSTNAME, shared_certificate

MAX_ROUNDS = 200
"""Of the event loop, for one segment: a session that still has something to do then does not come to rest."""


class QuietLoop(asyncio.SelectorEventLoop):
    """An event loop that knows whether anything is left to do but to wait."""

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing is ready to run."""
        return not self._ready  # type: ignore[attr-defined]  # asyncio's own attribute, which typeshed does not list


@functools.cache
def quiet_loop() -> QuietLoop:
    """Give the loop of this process."""
    return QuietLoop()


async def settle() -> None:
    """Let everything run that can.

    Raises:
        AssertionError: it does not come to rest.
    """
    loop = cast("QuietLoop", asyncio.get_running_loop())
    for _ in range(MAX_ROUNDS):
        await asyncio.sleep(0)
        if loop.is_quiet:
            return
    raise AssertionError("the session does not come to rest")


class MemoryWire(asyncio.Transport):
    """What a connection takes for its transport; with ``tls`` it says that it is encrypted."""

    def __init__(self, protocol: asyncio.Protocol, tls: ssl.SSLObject | None) -> None:
        """Connect."""
        super().__init__()
        self._protocol: asyncio.BaseProtocol = protocol
        self._tls = tls
        self._is_closing = False
        self._is_paused = False
        self._unread = b""
        self.written = bytearray()
        protocol.connection_made(self)

    # What the client does.

    def deliver(self, octets: bytes) -> None:
        """Bring a segment to the server, or have it wait while the server does not read."""
        self._unread += octets
        if self._is_paused or self._is_closing:
            return
        octets, self._unread = self._unread, b""
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            while octets:
                buffer = memoryview(self._protocol.get_buffer(len(octets)))
                count = min(len(buffer), len(octets))
                buffer[:count] = octets[:count]
                octets = octets[count:]
                self._protocol.buffer_updated(count)
        elif octets:
            cast("asyncio.Protocol", self._protocol).data_received(octets)

    def hang_up(self) -> None:
        """Reset the connection."""
        if not self._is_closing:
            self.abort()

    def take_written(self) -> bytes:
        """Give what the server has said since the last look."""
        written, self.written = bytes(self.written), bytearray()
        return written

    # What the server does.

    @override
    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("192.0.2.7", 4711), "ssl_object": self._tls}.get(name, default)

    @override
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    @override
    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            self.written += data

    @override
    def pause_reading(self) -> None:
        self._is_paused = True

    @override
    def resume_reading(self) -> None:
        self._is_paused = False
        if self._unread:
            asyncio.get_running_loop().call_soon(self.deliver, b"")

    @override
    def is_closing(self) -> bool:
        return self._is_closing

    @override
    def close(self) -> None:
        self.abort()

    @override
    def abort(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def _force_close(self, _error: Exception | None) -> None:
        """Cut the connection, as asyncio's TLS asks its own transports to."""
        self.abort()


@functools.cache
def make_tls() -> ssl.SSLObject:
    """Make a real TLS connection in memory, and give the server's end: what it says of itself is all that is used."""
    certificate = shared_certificate()
    context = ServerTls([CertificateFiles(certificate.certificate_file, certificate.key_file)], None).context
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(up, down, server_side=True)
    client = certificate.trust().wrap_bio(down, up, server_hostname=HOSTNAME)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return server
