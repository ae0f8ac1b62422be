"""DATA over a real connection: end of content, line ends, smuggling, sizes. RFC 5321 sections 2.3.8 and 4.1.1.4."""

import asyncio

import pytest

from tests.servers.submission import PASSWORD, Client, connected, logged_in, plain, running_submission
from tests.waiting import wait_until_async

HEADER = b"From: alice@example.test\r\nSubject: s\r\n\r\n"
SMUGGLED = (
    b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<victim@destination.test>\r\nDATA\r\n"
    b"From: alice@example.test\r\n\r\nsmuggled\r\n.\r\n"
)
NOT_THE_END = (
    *(b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n"),
    *(b"\r\n\0.\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n"),
)


async def is_alive(client: Client) -> bool:
    """Tell whether the session goes on, with no reply too many."""
    return await client.ask("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("sequence", NOT_THE_END)
@pytest.mark.parametrize("before", [HEADER + b"body", b""])
async def test_smuggled_transaction_is_never_run(before: bytes, sequence: bytes) -> None:
    """Cases 1 to 10: what looks like an end to some servers is content here, and the message is refused."""
    async with running_submission() as server, logged_in(server) as client:
        await client.begin()
        await client.send(before + sequence + SMUGGLED)
        assert (await client.reply()).startswith("554 5.6.0 Malformed message: ")
        assert await is_alive(client)
        assert server.spool.submissions == []


async def test_smuggled_transaction_behind_the_size_limit_is_never_run() -> None:
    """Case 11: an oversize message ends where every message ends."""
    async with running_submission(max_message_bytes=1000) as server, logged_in(server) as client:
        await client.begin()
        await client.send(HEADER + b"x" * 900 + b"\r\n" + b"x" * 900 + b"\r\n.\n" + SMUGGLED)
        assert (await client.reply()).startswith("552 5.3.4 ")
        assert await is_alive(client)
        assert server.spool.submissions == []


@pytest.mark.parametrize(
    "content",
    [
        b"From: alice@example.test\nSubject: s\r\n\r\n",
        HEADER + b"a\nb\r\n",
        HEADER + b"a\rb\r\n",
        HEADER + b"a\r\r\n",
        HEADER + b"a\0b\r\n",
        b"From: alice@example.test\r\nSubject: \0\r\n\r\n",
        HEADER + b"x" * 999 + b"\r\n",
        b"",
        b"\r\n",
    ],
)
async def test_malformed_content_is_refused_and_the_session_lives(content: bytes) -> None:
    """Cases 12 to 15, 19 to 21 and 23: nothing of it is queued."""
    async with running_submission() as server, logged_in(server) as client:
        assert (await client.submit(content)).startswith("554 5.6.0 ")
        assert server.spool.submissions == []
        assert (await client.submit(HEADER + b"next\r\n")).startswith("250 2.0.0 queued as ")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"..x\r\n..\r\n.y\r\n", b".x\r\n.\r\ny\r\n"),
        (b"x" * 998 + b"\r\n", b"x" * 998 + b"\r\n"),
        (b"a\x0bb\x0cc\x85d\xe2\x80\xa8e\r\n", b"a\x0bb\x0cc\x85d\xe2\x80\xa8e\r\n"),
        (b"", b""),
    ],
)
async def test_content_is_kept_octet_by_octet(sent: bytes, kept: bytes) -> None:
    """Cases 16, 17 and 22: one dot goes, everything else stays."""
    async with running_submission() as server, logged_in(server) as client:
        assert (await client.submit(HEADER + sent)).startswith("250 ")
        assert server.spool.contents[0].endswith(HEADER + kept)


async def test_line_of_a_million_octets_is_refused_at_the_end() -> None:
    """Case 24."""
    async with running_submission(max_message_bytes=2_000_000) as server, logged_in(server) as client:
        assert (await client.submit(HEADER + b"x" * 1_000_000 + b"\r\n")).startswith("554 5.6.0 ")
        assert await is_alive(client)


async def test_content_octet_by_octet_is_the_same_as_whole() -> None:
    """Case 25: segments mean nothing."""
    async with running_submission() as server, logged_in(server) as client:
        await client.begin()
        for octet in HEADER + b"..\r\n.a\r\n.\r\n":
            await client.send(bytes([octet]))
        assert (await client.reply()).startswith("250 ")
        assert server.spool.contents[0].endswith(HEADER + b".\r\na\r\n")


async def test_content_before_the_reply_to_data_closes_the_session() -> None:
    """Case 26: who does not wait for 354 cannot know whether it speaks content or commands."""
    async with running_submission() as server, logged_in(server) as client:
        await client.send(
            b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<rita@destination.test>\r\nDATA\r\n" + HEADER + b"\r\n.\r\n"
        )
        replies = await client.replies()
        assert [reply[:9] for reply in replies] == ["250 2.1.0", "250 2.1.5", "554 5.5.0"]
        assert server.spool.submissions == []


async def test_content_behind_a_refused_data_closes_the_session() -> None:
    """Case 26 without a transaction: no line of the body runs as a command."""
    async with running_submission() as server, logged_in(server) as client:
        await client.send(b"DATA\r\n" + SMUGGLED)
        assert [reply[:9] for reply in await client.replies()] == ["554 5.5.0"]


async def test_quit_behind_the_dot_is_answered_after_it() -> None:
    """Case 27: commands may follow the end of content in one segment (RFC 2920 section 3.1)."""
    async with running_submission() as server, logged_in(server) as client:
        await client.begin()
        await client.send(HEADER + b".\r\nQUIT\r\n")
        assert [reply[:9] for reply in await client.replies()] == ["250 2.0.0", "221 2.0.0"]
        assert len(server.spool.submissions) == 1


async def test_message_that_is_cut_off_is_not_accepted() -> None:
    """Case 18: no end of content, no message; over TLS a cut without close_notify is the same."""
    async with running_submission() as server:
        for octets in (HEADER + b"body", HEADER + b"body\r\n.", HEADER + b"body\r\n.\r"):
            async with logged_in(server) as client:
                await client.begin()
                await client.send(octets)
        async with logged_in(server) as client:
            assert (await client.submit(HEADER)).startswith("250 ")
        assert len(server.spool.submissions) == 1


async def test_session_cut_at_any_octet_delivers_a_whole_message_or_none() -> None:
    """B25: wherever the client is lost, nothing is delivered before the complete end, and nothing stays behind."""
    commands = f"EHLO c.test\r\nAUTH PLAIN {plain('alice', PASSWORD)}\r\nMAIL FROM:<alice@example.test>\r\n"
    head = f"{commands}RCPT TO:<rita@destination.test>\r\nDATA\r\n".encode()
    content = HEADER + b"..\r\n.\r\n"
    async with running_submission() as server:
        tasks = len(asyncio.all_tasks())
        for cut in (*range(0, len(head), 9), *range(len(head), len(head) + len(content))):
            async with connected(server, implicit=True) as client:
                await client.send(head[:cut])
                if cut >= len(head):
                    replies = [await client.reply() for _ in range(5)]
                    assert replies[-1].startswith("354 ")
                    await client.send(content[: cut - len(head)])
        await wait_until_async(lambda: server.listener.connection_count == 0, "all connections are gone")
        await wait_until_async(lambda: len(asyncio.all_tasks()) == tasks, "all sessions have ended")
        assert server.spool.submissions == []
        async with connected(server) as client:
            await client.send(head)
            assert [(await client.reply())[:3] for _ in range(5)][-1] == "354"
            await client.send(content)
        await wait_until_async(lambda: len(server.spool.submissions) == 1, "the whole message is delivered")


async def test_declared_size_is_not_trusted() -> None:
    """Case 90: SIZE=10 and a message over the limit; refused at its end."""
    async with running_submission(max_message_bytes=1000) as server, logged_in(server) as client:
        await client.ask_all(["MAIL FROM:<alice@example.test> SIZE=10", "RCPT TO:<rita@destination.test>", "DATA"])
        await client.send(HEADER + (b"x" * 98 + b"\r\n") * 20_000 + b".\r\n")
        assert (await client.reply()).startswith("552 5.3.4 ")
        assert await is_alive(client)


async def test_message_of_several_megabytes_is_kept_whole() -> None:
    """Large content is worked on in a thread; the octets are the same."""
    body = (b"x" * 70 + b"\r\n..\r\n") * 40_000
    async with running_submission(max_message_bytes=5_000_000) as server, logged_in(server) as client:
        assert (await client.submit(HEADER + body)).startswith("250 ")
        assert server.spool.contents[0].endswith(HEADER + body.replace(b"..", b"."))


async def test_messages_together_are_limited_in_memory() -> None:
    """Ten clients with attachments hear 452 before the machine is out of memory, and the first is served."""
    async with (
        running_submission(held_bytes=150_000) as server,
        logged_in(server) as first,
        logged_in(server) as second,
    ):
        await first.begin()
        await first.send(HEADER + (b"x" * 98 + b"\r\n") * 1000)
        await wait_until_async(lambda: server.budget.held_bytes > 100_000, "the first message is held")
        assert (await second.submit(HEADER + (b"x" * 98 + b"\r\n") * 1000)).startswith("452 4.3.1 ")
        await first.send(b".\r\n")
        assert (await first.reply()).startswith("250 ")
        assert (await second.submit(HEADER)).startswith("250 ")


async def test_half_closed_connection_gets_its_replies() -> None:
    """A client in clear may close its half after the last command (RFC 5321 section 3.8 asks for QUIT, not more)."""
    async with running_submission() as server, connected(server, implicit=False) as client:
        await client.send(b"EHLO client.test\r\nNOOP\r\n")
        client.writer.write_eof()
        assert [reply[:4] for reply in await client.replies()] == ["250-", "250 "]
