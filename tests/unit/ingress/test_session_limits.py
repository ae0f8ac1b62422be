"""Time and number: silent, slow, deaf and too many clients. RFC 5321 sections 3.8 and 4.5.3.2."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from ptt.core.reply import Reply
from tests.servers.submission import Client, connected, logged_in, running_submission
from tests.waiting import wait_until_async

HEADER = b"From: alice@example.test\r\nSubject: s\r\n\r\n"
TIMEOUT_S = 1.0
"""Long enough for an honest step of a client on a busy machine; logging in has two of them."""


async def drip(client: Client, octets: bytes, pause_s: float) -> None:
    """Send the same octets again and again, at a pace, until the connection is lost or the test has seen enough."""
    while not client.writer.is_closing():
        await client.send(octets)
        await asyncio.sleep(pause_s)  # the pace of this client; nothing is waited for


@asynccontextmanager
async def dripping(client: Client, octets: bytes, pause_s: float) -> AsyncIterator[None]:
    """Drip in the background."""
    task = asyncio.create_task(drip(client, octets, pause_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await task


@pytest.mark.parametrize("implicit", [True, False])
async def test_silent_client_hears_421_and_is_closed(implicit: bool) -> None:  # noqa: FBT001 - a case
    """RFC 5321 section 3.8: a timeout is answered with 421."""
    async with running_submission(timeout_s=TIMEOUT_S) as server:
        began = time.monotonic()
        async with connected(server, implicit=implicit) as client:
            assert await client.replies() == ["421 4.4.2 Timeout, closing the connection"]
        assert time.monotonic() - began >= TIMEOUT_S


@pytest.mark.parametrize("stage", ["AUTH LOGIN", "command", "content"])
async def test_client_silent_in_the_middle_hears_421(stage: str) -> None:
    """The clock runs in each stage, and what was begun is dropped."""
    async with running_submission(timeout_s=TIMEOUT_S) as server, connected(server) as client:
        if stage == "AUTH LOGIN":
            await client.ask("EHLO client.test")
            await client.ask("AUTH LOGIN")
        else:
            await client.log_in()
        if stage == "command":
            await client.send(b"MAIL FROM")
        elif stage == "content":
            await client.begin()
            await client.send(HEADER)
        assert [reply[:9] for reply in await client.replies()] == ["421 4.4.2"]
        assert server.spool.submissions == []


@pytest.mark.parametrize("stage", ["command", "content"])
async def test_client_that_sends_an_octet_now_and_then_is_closed(stage: str) -> None:
    """Slow loris: an octet before each timeout is not progress."""
    async with running_submission(timeout_s=TIMEOUT_S) as server, logged_in(server) as client:
        if stage == "content":
            await client.begin()
        async with dripping(client, b"x", TIMEOUT_S / 2.2):
            assert [reply[:9] for reply in await client.replies()] == ["421 4.4.2"]


async def test_content_that_flows_may_take_longer_than_the_timeout() -> None:
    """RFC 5321 section 4.5.3.2.5: the clock starts again with each block; the message is not cut while it flows."""
    async with running_submission(timeout_s=TIMEOUT_S) as server, logged_in(server) as client:
        await client.begin()
        await client.send(HEADER)
        async with dripping(client, b"a line of some length\r\n", TIMEOUT_S / 20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 2.5 * TIMEOUT_S)
        await client.send(b".\r\n")
        assert (await client.reply()).startswith("250 ")


async def test_time_of_the_server_is_not_the_client_s() -> None:
    """The clock stands still while the spool is busy: the client is not closed for our slowness."""
    async with running_submission(timeout_s=TIMEOUT_S) as server, logged_in(server) as client:
        server.spool.gate.clear()
        await client.begin()
        await client.send(HEADER + b".\r\n")
        await wait_until_async(lambda: server.spool.is_waiting, "the message is at the spool")
        asyncio.get_running_loop().call_later(2.5 * TIMEOUT_S, server.spool.gate.set)
        assert (await client.reply()).startswith("250 ")


async def test_client_that_only_says_noop_must_log_in_or_leave() -> None:
    """Two timeouts without a login are enough."""
    async with running_submission(timeout_s=TIMEOUT_S) as server, connected(server) as client:
        async with dripping(client, b"NOOP\r\n", TIMEOUT_S / 6):
            replies = await client.replies()
        assert replies[-1].startswith("421 4.4.2 ")
        assert len(replies) > 3


async def test_deaf_client_is_cut() -> None:
    """Who sends commands and reads no reply must not hold memory for ever."""
    async with running_submission(timeout_s=TIMEOUT_S) as server:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, ("127.0.0.1", server.port))
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await asyncio.wait_for(_send_without_end(deaf), 20)


async def _send_without_end(deaf: socket.socket) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(deaf, b"EHLO client.test\r\n" * 1000)


async def test_connection_over_the_limit_hears_421() -> None:
    """RFC 5321 section 3.8; when another leaves there is room again."""
    async with (
        running_submission(max_connections=2) as server,
        connected(server),
        connected(server, implicit=False) as second,
    ):
        for implicit in (True, False):
            async with connected(server, implicit=implicit, greeted=False) as refused:
                assert await refused.replies() == ["421 4.3.2 Too many connections, try again later"]
        await second.ask("QUIT")
        await wait_until_async(lambda: server.listener.connection_count == 1, "the second has left")
        async with connected(server) as third:
            assert await third.ask("NOOP") == "250 2.0.0 OK"


async def test_user_over_a_limit_hears_so_at_mail() -> None:
    """A message that would be refused at the spool need not be sent at all; the session goes on."""
    async with running_submission() as server, logged_in(server) as client:
        server.spool.foreseen = Reply(451, "4.7.1", "")
        assert await client.ask("MAIL FROM:<alice@example.test>") == "451 4.7.1 alice 0"
        server.spool.foreseen = None
        assert (await client.submit(HEADER)).startswith("250 ")
        quotas = [submission.quota for submission in server.spool.submissions]
        assert [quota and (quota.login, quota.recipients) for quota in quotas] == [("alice", 1)]
