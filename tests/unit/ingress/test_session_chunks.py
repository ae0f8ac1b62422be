"""BDAT over a real connection: chunks are counted octets, their message is held to the rules of DATA. RFC 3030."""

import pytest

from tests.servers.submission import Client, SubmissionServer, connected, logged_in, running_submission
from tests.waiting import wait_until_async

HEADER = b"From: alice@example.test\r\nSubject: s\r\n\r\n"
MAIL = b"MAIL FROM:<alice@example.test>\r\n"
RCPT = b"RCPT TO:<rita@destination.test>\r\n"


def chunk(octets: bytes, last: bytes = b"") -> bytes:
    """Write one BDAT with its octets."""
    return b"BDAT %d%b\r\n%b" % (len(octets), last, octets)


async def converse(client: Client, *commands: bytes) -> list[str]:
    """Send all at once and give code and enhanced status of each reply."""
    await client.send(b"".join(commands))
    return [" ".join((await client.reply()).split(" ")[:2]) for _ in commands]


def check_content(server: SubmissionServer, content: bytes) -> None:
    """Check the one message that was accepted."""
    (kept,) = server.spool.contents
    assert kept.endswith(content), kept


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(HEADER + b"body\r\n", b" LAST")],
        [chunk(HEADER), chunk(b"body\r\n", b" last")],
        [chunk(HEADER + b"bod"), chunk(b"y\r"), chunk(b"\n"), b"BDAT 0 LAST\r\n"],
        [chunk(HEADER), b"BDAT 0\r\n", chunk(b"body\r\n", b" LAST")],
        [chunk(HEADER + b"body", b" LAST")],
    ],
)
async def test_chunks_make_one_message(chunks: list[bytes]) -> None:
    """Section 2: any number of chunks, pipelined with the envelope; a missing last line end is what DATA would add."""
    async with running_submission() as server, logged_in(server) as client:
        assert await converse(client, MAIL, RCPT, *chunks) == ["250 2.1.0", "250 2.1.5", *["250 2.0.0"] * len(chunks)]
        check_content(server, HEADER + b"body\r\n")
        assert await converse(client, b"BDAT 0 LAST\r\n", MAIL) == ["503 5.5.1", "250 2.1.0"]


async def test_dots_in_chunks_are_content() -> None:
    """Section 2: no dot-stuffing, and no dot ends anything."""
    body = b".\r\n..\r\n.x\r\n\r\n.\r\n"
    async with running_submission() as server, logged_in(server) as client:
        assert (await converse(client, MAIL, RCPT, chunk(HEADER + body, b" LAST")))[-1] == "250 2.0.0"
        check_content(server, HEADER + body)


async def test_chunk_octet_by_octet_is_the_same_as_whole() -> None:
    """Segments mean nothing."""
    async with running_submission() as server, logged_in(server) as client:
        for octet in MAIL + RCPT + chunk(HEADER) + chunk(b"QUIT\r\n", b" LAST"):
            await client.send(bytes([octet]))
        assert [(await client.reply())[:3] for _ in range(4)] == ["250"] * 4
        check_content(server, HEADER + b"QUIT\r\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEADER + b"a\nb\r\n", "554 5.6.0"),
        (HEADER + b"a\rb\r\n", "554 5.6.0"),
        (HEADER + b"a\r", "554 5.6.0"),
        (HEADER + b"a\0b\r\n", "554 5.6.0"),
        (HEADER + b"x" * 999 + b"\r\n", "554 5.6.0"),
        (HEADER + b"x" * 998, "250 2.0.0"),
        (b"From: alice@example.test\nSubject: s\r\n\r\n", "554 5.6.0"),
        (b"Subject: s\r\n\r\nbody\r\n", "554 5.6.0"),
        (b"From: bob@example.test\r\n\r\nbody\r\n", "550 5.7.1"),
        (b"", "554 5.6.0"),
        (HEADER + (b"x" * 98 + b"\r\n") * 2000, "552 5.3.4"),
    ],
)
async def test_rules_for_content_are_those_of_data(content: bytes, expected: str) -> None:
    """Cases 12 to 24, 90 and 153 by BDAT: refused at the true end, nothing is queued, and the session lives."""
    async with running_submission() as server, logged_in(server) as client:
        half = len(content) // 2
        assert (await converse(client, MAIL, RCPT, chunk(content[:half]), chunk(content[half:], b" LAST")))[
            -1
        ] == expected
        assert len(server.spool.submissions) == (expected[0] == "2")
        assert (await converse(client, MAIL, RCPT, chunk(HEADER, b" LAST")))[-1] == "250 2.0.0"


async def test_line_end_cut_between_chunks_is_one() -> None:
    """CR at the end of a chunk and LF at the start of the next are a line end, and no bare ones."""
    async with running_submission() as server, logged_in(server) as client:
        replies = await converse(client, MAIL, RCPT, chunk(HEADER + b"a\r"), chunk(b"\nb\r\n", b" LAST"))
        assert replies[-1] == "250 2.0.0"
        check_content(server, HEADER + b"a\r\nb\r\n")


async def test_message_over_the_limit_is_refused_at_the_chunk_that_is_too_much() -> None:
    """Section 2: chunks that are on their way behind a failed one are read and refused; their octets never run."""
    async with running_submission(max_message_bytes=1000) as server, logged_in(server) as client:
        smuggled = b"MAIL FROM:<alice@example.test>\r\n" * 40
        replies = await converse(
            client, MAIL, RCPT, chunk(HEADER + smuggled), chunk(smuggled), chunk(MAIL, b" LAST"), RCPT
        )
        assert replies[2:] == ["552 5.3.4", "503 5.5.1", "503 5.5.1", "503 5.5.1"]
        assert server.spool.submissions == []
        assert server.budget.held_bytes == 0


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([chunk(MAIL + RCPT, b" LAST")], ["503 5.5.1"]),
        ([MAIL, chunk(RCPT)], ["250 2.1.0", "503 5.5.1"]),
        ([MAIL, RCPT, chunk(HEADER), RCPT], ["250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1"]),
        ([MAIL, RCPT, chunk(HEADER), MAIL], ["250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1"]),
        (
            [MAIL, RCPT, chunk(HEADER), b"RSET\r\n", chunk(HEADER)],
            ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0", "503 5.5.1"],
        ),
    ],
)
async def test_chunk_out_of_place_is_refused_and_never_run(commands: list[bytes], expected: list[str]) -> None:
    """RFC 5321 section 4.1.4 and RFC 3030 section 2: the octets of a refused chunk are gone."""
    async with running_submission() as server, logged_in(server) as client:
        assert await converse(client, *commands) == expected
        assert server.spool.submissions == []


async def test_data_after_bdat_is_refused_and_the_chunks_go_on() -> None:
    """Section 2: DATA and BDAT cannot be mixed in one transaction."""
    async with running_submission() as server, logged_in(server) as client:
        assert (await converse(client, MAIL, RCPT, chunk(HEADER), b"DATA\r\n"))[-1] == "503 5.5.1"
        assert await converse(client, chunk(b"body\r\n", b" LAST")) == ["250 2.0.0"]
        check_content(server, HEADER + b"body\r\n")


@pytest.mark.parametrize("line", [b"BDAT\r\n", b"BDAT LAST\r\n", b"BDAT -5\r\n", b"BDAT 99999999999\r\n"])
async def test_chunk_of_unknown_size_closes_the_session(line: bytes) -> None:
    """What follows cannot be told from commands, so nothing of it is read."""
    async with running_submission() as server, logged_in(server) as client:
        await client.send(MAIL + RCPT + line + MAIL + b"NOOP\r\n")
        assert [reply[:9] for reply in await client.replies()] == ["250 2.1.0", "250 2.1.5", "501 5.5.4"]


@pytest.mark.parametrize("implicit", [True, False])
async def test_chunk_without_login_is_never_a_command(implicit: bool) -> None:  # noqa: FBT001 - a case
    """Case 28: one refusal, and the octets of the chunk are gone, also when they look like a command."""
    async with running_submission() as server, connected(server, implicit=implicit) as client:
        await client.ask("EHLO client.test")
        expected = "530 5.7.0"
        assert await converse(client, chunk(b"RSET\r"), b"NOOP\r\n") == [expected, "250 2.0.0"]


async def test_chunks_that_bring_nothing_are_junk() -> None:
    """Case 104 by BDAT: neither empty chunks nor refused ones hold a connection for ever."""
    async with running_submission() as server, logged_in(server) as client:
        await client.send(MAIL + RCPT + b"BDAT 0\r\n" * 200)
        assert (await client.replies())[-1].startswith("421 4.7.0 ")


async def test_chunks_cut_off_are_not_accepted_and_give_their_memory_back() -> None:
    """Case 18 by BDAT: without LAST there is no message, and a client that is gone holds nothing."""
    async with running_submission() as server:
        for octets in (chunk(HEADER), b"BDAT 500 LAST\r\n" + HEADER):
            async with logged_in(server) as client:
                await client.send(MAIL + RCPT + octets)
                await wait_until_async(lambda: server.budget.held_bytes > 0, "the chunk is held")
            await wait_until_async(lambda: server.budget.held_bytes == 0, "nothing is held")
        assert server.spool.submissions == []


async def test_chunks_beyond_the_memory_of_the_process_hear_452() -> None:
    """What is held between chunks counts like what is being received."""
    async with running_submission(held_bytes=1000) as server, logged_in(server) as client:
        replies = await converse(client, MAIL, RCPT, chunk(HEADER + b"x" * 900), chunk(b"x" * 900, b" LAST"))
        assert replies[2:] == ["250 2.0.0", "452 4.3.1"]
        assert (await converse(client, MAIL, RCPT, chunk(HEADER, b" LAST")))[-1] == "250 2.0.0"


async def test_silent_client_within_a_chunk_hears_421() -> None:
    """RFC 5321 section 4.5.3.2: the clock runs while octets are missing, also of a chunk that is thrown away."""
    async with running_submission(timeout_s=1) as server:
        for before in (b"", MAIL + RCPT):
            async with logged_in(server) as client:
                await client.send(before + b"BDAT 500\r\nabc")
                assert (await client.replies())[-1].startswith("421 4.4.2 ")
