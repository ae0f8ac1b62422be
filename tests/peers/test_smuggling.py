"""Octets in, messages out: for whatever looks like the end of data, ptt sees as many messages as a real Postfix.

Two servers that count differently are what SMTP smuggling needs; RFC 5321 sections 2.3.8 and 4.1.1.4.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.servers.postfix import Postfix, running_postfix
from tests.servers.submission import REPLY_TIMEOUT_S, Client, SubmissionServer, logged_in, running_submission
from tests.waiting import wait_until_async

HEADER = b"From: alice@example.test\r\nSubject: s\r\n\r\n"
SECOND = (
    b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\n"
    b"From: alice@example.test\r\n\r\nsecond\r\n.\r\n"
)
"""A transaction of its own, for those who see an end before it."""
FALSE_ENDS = (
    *(b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\n\n.\r\n"),
    *(b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n..\r\n", b"\r\n.x\r\n", b"\r\n .\r\n"),
)
TRUE_ENDS = (b"\r\n.\r\n", b"\r\n\r\n.\r\n", b"\r\n..\r\n.\r\n")


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    """Run a Postfix that knows what smuggling is, as its authors recommend."""
    settings = {"smtpd_forbid_bare_newline": "normalize", "smtpd_forbid_bare_newline_exclusions": ""}
    with running_postfix(("example.test",), settings=settings) as server:
        yield server


@asynccontextmanager
async def connected_to(postfix: Postfix) -> AsyncIterator[Client]:
    """Connect to Postfix in clear, and introduce ourselves."""
    client = Client(*await asyncio.open_connection(postfix.address, postfix.port))
    try:
        assert (await client.reply()).startswith("220 ")
        assert (await client.ask("EHLO client.test")).startswith("250")
        yield client
    finally:
        client.writer.transport.abort()


async def count_replies(client: Client, octets: bytes) -> int:
    """Send content with what may be a second transaction in it, and count the replies until the server closes."""
    for command in ("MAIL FROM:<alice@example.test>", "RCPT TO:<rita@example.test>", "DATA"):
        assert (await client.ask(command))[0] in "23"
    await client.send(octets + b"QUIT\r\n")
    async with asyncio.timeout(REPLY_TIMEOUT_S):
        return len(await client.replies())


async def count_messages(server: SubmissionServer, octets: bytes) -> tuple[int, int]:
    """Give the number of replies, and of messages to the victim that ptt took."""
    async with logged_in(server) as client:
        replies = await count_replies(client, octets)
    return replies, sum(one.recipients[0].local == "victim" for one in server.spool.envelopes)


@pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
@pytest.mark.parametrize("before", [HEADER + b"body", HEADER[:-2]], ids=["body", "header"])
async def test_false_end_is_none_for_ptt_nor_for_postfix(postfix: Postfix, before: bytes, end: bytes) -> None:
    """One reply to one message, and one to QUIT; nobody but its recipient gets anything."""
    octets = before + end + SECOND
    async with running_submission() as server, connected_to(postfix) as client:
        assert await count_replies(client, octets) == 2
        assert await count_messages(server, octets) == (2, 0)
    assert postfix.list_received("victim@example.test") == []


@pytest.mark.parametrize("end", TRUE_ENDS, ids=repr)
async def test_true_end_is_one_for_ptt_and_for_postfix(postfix: Postfix, end: bytes) -> None:
    """What follows a true end is commands: two messages, for both."""
    before = len(postfix.list_received("friend@example.test"))
    async with running_submission() as server, connected_to(postfix) as client, logged_in(server) as ours:
        for one in (client, ours):
            assert await send_two(one, HEADER + b"body" + end) == ["250", "250", "250", "354", "250"]
        assert [str(one.recipients[0]) for one in server.spool.envelopes] == [
            "rita@example.test",
            "friend@example.test",
        ]
    await wait_until_async(
        lambda: len(postfix.list_received("friend@example.test")) == before + 1, "Postfix delivers the second message"
    )


async def send_two(client: Client, first: bytes) -> list[str]:
    """Send content with the commands of a second transaction behind it, and that one's content when it is asked for."""
    for command in ("MAIL FROM:<alice@example.test>", "RCPT TO:<rita@example.test>", "DATA"):
        assert (await client.ask(command))[0] in "23"
    await client.send(first + b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<friend@example.test>\r\nDATA\r\n")
    codes = [(await client.reply())[:3] for _ in range(4)]
    await client.send(HEADER + b".\r\n")
    return [*codes, (await client.reply())[:3]]
