"""The rig's own proxy: what it does not do to connections, it passes on as it was."""

import asyncio
import contextlib

import pytest

from tests.chaos.proxy import Proxy, reset
from tests.servers.ports import free_port


async def test_reset_by_the_server_reaches_who_waits_for_its_answer() -> None:
    """A server that is killed with octets unread resets; a proxy that kept that to itself would let clients hang."""

    async def take_one_octet_and_die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        reset(writer)

    port, front = free_port(), free_port()
    server = await asyncio.start_server(take_one_octet_and_die, "127.0.0.1", port)
    async with server, Proxy.running(("127.0.0.1", port), "127.0.0.1", front):
        reader, writer = await asyncio.open_connection("127.0.0.1", front)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(20):
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
