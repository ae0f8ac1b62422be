"""What happens before the greeting: places, the PROXY header, the handshake."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from ptt.ingress import handshake, listener
from ptt.ingress.arrival import Endpoint, Network
from ptt.ingress.connection import Connection
from tests.servers.submission import Client, SubmissionServer, connected, running_submission
from tests.unit.core.test_proxy import V4, write_v2
from tests.waiting import wait_until_async

LOOPBACK: Sequence[Network] = (ipaddress.ip_network("127.0.0.0/30"),)
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 465\r\n"
TOO_MANY = "421 4.3.2 Too many connections, try again later"


async def open_silent(server: SubmissionServer) -> asyncio.StreamWriter:
    """Connect to the TLS port and say nothing."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
    return writer


async def read_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes."""
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_connection_in_its_handshake_has_a_place() -> None:
    """The threat: thousands that never finish a handshake were in no count."""
    async with running_submission(max_connections=2) as server, connected(server):
        silent = await open_silent(server)
        await wait_until_async(lambda: server.listener.connection_count == 2, "both are known")
        async with connected(server, greeted=False) as refused:
            assert await refused.replies() == [TOO_MANY]
        silent.close()
        await wait_until_async(lambda: server.listener.connection_count == 1, "the silent one is gone")
        async with connected(server):
            pass


async def test_handshake_that_never_begins_is_cut_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that connects and says nothing holds its place for one handshake timeout."""
    monkeypatch.setattr(handshake, "HANDSHAKE_TIMEOUT_S", 0.2)
    async with running_submission() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
        assert await read_end(reader) == b""
        writer.close()
        await wait_until_async(lambda: server.listener.connection_count == 0, "it is forgotten")


async def test_stop_does_not_wait_for_a_handshake() -> None:
    """SIGTERM is not held up by who says nothing."""
    async with running_submission() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
        await wait_until_async(lambda: server.listener.connection_count == 1, "it is known")
        await asyncio.wait_for(server.listener.stop(timeout_s=100), 30)
        assert await read_end(reader) == b""
        writer.close()


async def test_one_address_gets_its_share_and_others_the_rest() -> None:
    """The threat: one client takes all places."""
    async with running_submission(max_connections=10, max_per_network=2) as server, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(connected(server))
        for implicit in (True, False):
            async with connected(server, implicit=implicit, greeted=False) as refused:
                assert await refused.replies() == [TOO_MANY]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        assert (await reader.readline()).startswith(b"220 ")
        writer.close()


async def test_connections_far_over_the_limit_are_cut_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 421 over TLS costs a handshake: only a few are paid for at once."""
    monkeypatch.setattr(listener, "MAX_TURNED_AWAY", 1)
    async with running_submission(max_connections=1) as server, connected(server):
        waiting = await open_silent(server)
        await wait_until_async(lambda: server.listener.connection_count == 2, "it waits for its 421")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await read_end(reader) == b""
        assert server.listener.connection_count == 2
        writer.close()
        waiting.close()


@pytest.mark.parametrize("header", [V1, write_v2(0x21, 0x11, V4)])
async def test_proxied_client_is_who_the_header_says(header: bytes) -> None:
    """The address of the client stands in Received; the handshake may come in the same segment or later."""
    async with running_submission(proxies=tuple(LOOPBACK)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        client = Client(reader, writer)
        await client.send(header + b"EHLO client.test\r\n")
        assert (await client.reply()).startswith("220 ")
        assert (await client.reply()).startswith("250")
        await client.start_tls(server.certificate)
        await client.log_in()
        await client.submit(b"From: alice@example.test\r\n\r\n")
        assert b"from client.test ([192.0.2.7])" in server.spool.contents[0]
        writer.close()


async def test_proxied_tls_begins_behind_the_header() -> None:
    """Load balancers send the header and pass the client's TLS through, in one segment if it so happens."""
    async with running_submission(proxies=tuple(LOOPBACK)) as server:
        front = await asyncio.start_server(lambda r, w: pass_on(r, w, server.tls_port), "127.0.0.1", 0)
        port = front.sockets[0].getsockname()[1]
        streams = await asyncio.open_connection("127.0.0.1", port, ssl=server.certificate.trust())
        client = Client(*streams)
        assert (await client.reply()).startswith("220 ")
        await client.log_in()
        client.writer.close()
        front.close()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Be a load balancer that puts the header and the ClientHello into one segment."""
    upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
    upstream_writer.write(V1 + await reader.read(65_536))

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while octets := await source.read(65_536):
            target.write(octets)
        target.close()

    await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer), return_exceptions=True)


@pytest.mark.parametrize("octets", [b"EHLO client.test\r\n", b"PROXY TCP4 x y 1 2\r\n", b"\x16\x03\x01"])
@pytest.mark.parametrize("implicit", [True, False])
async def test_proxied_connection_without_a_header_is_closed(octets: bytes, implicit: bool) -> None:  # noqa: FBT001 - a case
    """Nothing is answered: whoever it is does not speak our language."""
    async with running_submission(proxies=tuple(LOOPBACK)) as server:
        port = server.tls_port if implicit else server.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets)
        assert await read_end(reader) == b""
        writer.close()


async def test_stranger_on_a_proxied_port_is_closed() -> None:
    """The threat: whoever reaches the port gives himself any address."""
    async with running_submission(proxies=tuple(LOOPBACK)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.9", 0))
        writer.write(V1)
        assert await read_end(reader) == b""
        writer.close()


async def test_proxied_clients_count_by_their_own_address() -> None:
    """Not by that of the load balancer, which all of them share; its health checks (LOCAL) count for itself."""
    async with running_submission(proxies=tuple(LOOPBACK), max_per_network=1) as server:
        writers = []
        for header, expected in ((V1, b"220 "), (write_v2(0x20, 0, b""), b"220 "), (V1, b"421 ")):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(header)
            assert (await reader.readline()).startswith(expected)
            writers.append(writer)
        for writer in writers:
            writer.close()


async def test_proxy_header_on_an_ordinary_port_is_no_command() -> None:
    """Case 41: it is answered like any word that is unknown."""
    async with running_submission() as server, connected(server, implicit=False) as client:
        assert (await client.ask(V1.strip())).startswith("500 ")


async def test_inherited_socket_serves_its_endpoint() -> None:
    """Socket activation: the port is the one that was handed over, bound before us."""
    async with running_submission() as server:
        inherited = socket.create_server(("127.0.0.1", 0))
        port = inherited.getsockname()[1]
        endpoint = Endpoint(address="127.0.0.1", port=port, is_tls_implicit=False)
        assert await server.listener.start([endpoint], [inherited]) == [endpoint]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.readline()).startswith(b"220 ")
        writer.close()


async def test_idle_connection_over_tls_holds_little_memory() -> None:
    """The buffer of asyncio, 256 KiB, would let 2,000 idle clients hold half a gigabyte."""
    async with running_submission() as server, connected(server):
        (connection,) = server.listener._connections  # noqa: SLF001 - what is measured has no public name
        assert isinstance(connection, Connection)
        protocol = connection._wire._ssl_protocol  # type: ignore[attr-defined]  # noqa: SLF001 - same
        assert isinstance(protocol, handshake._TlsProtocol)  # noqa: SLF001 - same
        assert len(protocol.get_buffer(-1)) <= handshake.READ_BUFFER_BYTES
