"""Listening and stopping. RFC 5321 section 3.8."""

import asyncio
import gc
import socket

import pytest

from ptt.core.errors import ConfigError
from ptt.ingress.arrival import Endpoint
from ptt.ingress.connection import Connection
from tests.servers.submission import connected, logged_in, running_submission
from tests.waiting import wait_until_async

HEADER = b"From: alice@example.test\r\nSubject: s\r\n\r\n"
STOPPING = "421 4.3.2 Service is stopping, try again"


async def test_stop_sends_421_to_resting_sessions_and_lets_a_message_finish() -> None:
    """Nothing that is under way is lost, and nobody waits for a session that does nothing."""
    async with (
        running_submission() as server,
        connected(server, implicit=False) as greeted,
        logged_in(server) as resting,
        logged_in(server) as busy,
    ):
        await busy.begin()
        await busy.send(HEADER)
        stopping = asyncio.create_task(server.listener.stop(timeout_s=20))
        assert await greeted.replies() == [STOPPING]
        assert await resting.replies() == [STOPPING]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        await busy.send(b"body\r\n.\r\nNOOP\r\n")
        replies = await busy.replies()
        assert replies[0].startswith("250 2.0.0 queued as ")
        assert replies[1:] == [STOPPING]
        await stopping
        assert len(server.spool.submissions) == 1


async def test_stop_cuts_what_does_not_finish_in_time() -> None:
    """Thirty seconds are promised for the whole process."""
    async with running_submission() as server, logged_in(server) as client:
        await client.begin()
        await server.listener.stop(timeout_s=0.2)
        await wait_until_async(lambda: server.listener.connection_count == 0, "the connection is gone")


async def test_closed_connection_is_freed_without_the_garbage_collector() -> None:
    """Each holds 256 KiB of TLS buffers, and the collector comes once in hundreds of connections."""
    gc.collect()
    gc.disable()
    before = count_connections()
    try:
        async with running_submission() as server:
            for _ in range(3):
                async with logged_in(server) as client:
                    await client.submit(HEADER)
                    await client.ask("QUIT")
                async with connected(server, implicit=False) as client:
                    await client.start_tls(server.certificate)
            await wait_until_async(lambda: server.listener.connection_count == 0, "all connections are gone")
            await wait_until_async(lambda: count_connections() <= before, "all connections are freed")
    finally:
        gc.enable()


def count_connections() -> int:
    """Count the connections in memory."""
    return sum(isinstance(found, Connection) for found in gc.get_objects())


async def test_two_listeners_share_a_port() -> None:
    """Several ingress processes serve one port (SO_REUSEPORT)."""
    async with running_submission() as first, running_submission() as second:
        endpoint = Endpoint(address="127.0.0.1", port=first.port, is_tls_implicit=False)
        assert await second.listener.start([endpoint]) == [endpoint]


async def test_port_in_use_is_a_configuration_error_and_nothing_listens() -> None:
    """The line names the address; a server that listens on half of its ports helps nobody."""
    async with running_submission() as server:
        with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
            free = probe.getsockname()[1]
            probe.close()
            endpoints = [
                Endpoint(address="127.0.0.1", port=port, is_tls_implicit=False)
                for port in (free, taken.getsockname()[1])
            ]
            with pytest.raises(ConfigError, match=r"ingress: listen: 127\.0\.0\.1 port \d+: "):
                await server.listener.start(endpoints)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", free)


async def test_listener_names_the_ports_it_really_bound() -> None:
    """Port 0 takes any free one, IPv6 too."""
    async with running_submission() as server:
        (bound,) = await server.listener.start([Endpoint(address="::1", port=0, is_tls_implicit=False)])
        reader, writer = await asyncio.open_connection("::1", bound.port)
        assert (await reader.readline()).startswith(b"220 ")
        writer.close()
