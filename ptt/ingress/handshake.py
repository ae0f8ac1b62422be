"""The TLS handshake of one connection, with asyncio's own TLS protocol and a small read buffer.

asyncio's loop.start_tls gives each connection a buffer of 256 KiB that is touched at once: 2,000 clients that do
nothing would hold half a gigabyte. Here the protocol can also be given what the client has sent already, so that a
connection can be looked at before its handshake. RFC 8446 section 5.1: a record holds 16 KiB at most.
"""

import asyncio
import ssl
from asyncio import sslproto

from typing_extensions import override

HANDSHAKE_TIMEOUT_S = 30
"""A TLS handshake is two round trips; who takes longer holds a connection for nothing."""
READ_BUFFER_BYTES = 16_640
"""One TLS record of the largest size: what an idle connection holds for reading."""


class _TlsProtocol(sslproto.SSLProtocol):
    max_size = READ_BUFFER_BYTES

    @override
    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        # RFC 8446 section 6.2: who fails says why before it closes. OpenSSL has written the alert, and asyncio would
        # throw it away; it goes out if it can at once.
        if isinstance(exc, ssl.SSLError) and self._transport is not None:
            self._process_outgoing()  # type: ignore[attr-defined]  # asyncio's own, which typeshed does not list
        super()._fatal_error(exc, message)


async def shake_hands(
    wire: asyncio.Transport, protocol: asyncio.Protocol, context: ssl.SSLContext, early: bytes | bytearray
) -> asyncio.Transport | None:
    """Make the handshake as a server.

    Args:
        wire: the connection in clear, whose reading is paused; it is resumed.
        protocol: who gets the octets once there is TLS; its ``connection_made`` is not called again.
        context: certificates and versions.
        early: what the client has sent and nobody has used.

    Returns:
        The connection in TLS, or None if there is none: no handshake in time, a broken one, or the client left.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    tls = _TlsProtocol(
        loop,
        protocol,
        context,
        waiter,
        server_side=True,
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
        call_connection_made=False,
    )
    wire.set_protocol(tls)
    tls.connection_made(wire)
    _feed(tls, early)
    wire.resume_reading()
    try:
        await waiter
    except OSError:  # TLS errors are OSErrors too
        return None
    return tls._app_transport  # noqa: SLF001 - as loop.start_tls does; it has no public name


def _feed(tls: sslproto.SSLProtocol, octets: bytes | bytearray) -> None:
    view = memoryview(octets)
    while view:
        buffer = tls.get_buffer(len(view))
        count = min(len(view), len(buffer))
        buffer[:count] = view[:count]
        tls.buffer_updated(count)
        view = view[count:]
