"""The courier against a real Postfix: TLS, what arrives octet for octet, refusals, kept connections."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

import pytest

from ptt.core.outcome import Delivered
from ptt.smtp.courier import SmtpCourier
from tests.letters import DESTINATION, Letter, make_options, tell
from tests.servers.postfix import Postfix, running_postfix

HEADER = b"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nFrom: alice@example.org\r\n"


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    """Run one Postfix for the tests of this file."""
    with running_postfix(settings={"message_size_limit": "3000000", "smtpd_client_port_logging": "yes"}) as server:
        yield server


@pytest.fixture
async def courier(postfix: Postfix) -> AsyncIterator[SmtpCourier]:
    """Give a courier with the timeouts of the RFC."""
    courier = SmtpCourier(make_options(postfix.port))
    yield courier
    await courier.close()


def make_body(size: int) -> bytes:
    """Give a body of lines with many dots at their starts, 8-bit octets and empty lines."""
    generator = random.Random(size)
    lines = []
    while size > 0:
        line = generator.choice([b".", b"..", b"", b".x", b"word " * 15, "grüße ".encode() * 9, b"x" * 990])
        lines.append(line + b"\r\n")
        size -= len(line) + 2
    return b"".join(lines)


@pytest.mark.parametrize("size", [0, 10, 10_000, 65_536, 300_000, 2_000_000])
async def test_content_over_starttls_arrives_octet_for_octet(size: int, postfix: Postfix, courier: SmtpCourier) -> None:
    """What Postfix keeps is what was sent, over TLS, for each recipient."""
    content = HEADER + b"\r\n" + make_body(size)
    names = [f"a{size}@example.test", f"b{size}@example.test"]
    letter = Letter(recipients=names, content=content, body="8BITMIME", part_bytes=50_000)
    outcomes = await courier.deliver(DESTINATION, letter.message)
    assert all(isinstance(outcome, Delivered) for _, outcome in outcomes)
    for name in names:
        received = await asyncio.to_thread(postfix.wait_for, name, 1)
        assert sha256(received[0].content).hexdigest() == sha256(content).hexdigest()
        assert "using TLSv1.3" in received[0].trace
        assert "Return-Path: <alice@example.org>" in received[0].trace
    assert outcomes[0][1].peer.tls.startswith("TLSv1.3 TLS_")


async def test_refused_recipient_does_not_hold_the_others(postfix: Postfix, courier: SmtpCourier) -> None:
    """Postfix refuses one recipient at RCPT and takes the others."""
    letter = Letter(
        recipients=["c@example.test", "unknown@example.test", "d@example.test", "x@relay.test"],
        content=HEADER + b"\r\nhello\r\n",
    )
    outcomes = await courier.deliver(DESTINATION, letter.message)
    assert tell(outcomes) == ["delivered 2.0.0", "failed 5.1.1", "delivered 2.0.0", "deferred 4.7.1"]
    for name in ("c@example.test", "d@example.test"):
        await asyncio.to_thread(postfix.wait_for, name, 1)


async def test_message_over_its_limit_is_not_sent(courier: SmtpCourier) -> None:
    """RFC 1870 section 6.1: Postfix names its limit in EHLO."""
    letter = Letter(content=HEADER + b"\r\n" + make_body(3_000_001))
    assert tell(await courier.deliver(DESTINATION, letter.message)) == ["failed 5.3.4"]


async def test_smtputf8_message_arrives(postfix: Postfix, courier: SmtpCourier) -> None:
    """RFC 6531: a non-ASCII mailbox and header."""
    content = HEADER + "Subject: grüße\r\n\r\nhello\r\n".encode()
    letter = Letter(recipients=["jörg@example.test"], content=content, body="8BITMIME", smtputf8=True)
    assert tell(await courier.deliver(DESTINATION, letter.message)) == ["delivered 2.0.0"]
    received = await asyncio.to_thread(postfix.wait_for, "jörg@example.test", 1)
    assert received[0].content == content


async def test_null_reverse_path_arrives(postfix: Postfix, courier: SmtpCourier) -> None:
    """RFC 5321 section 4.5.5: reports have none."""
    letter = Letter(recipients=["e@example.test"], content=HEADER + b"\r\nhello\r\n", reverse_path=None)
    assert tell(await courier.deliver(DESTINATION, letter.message)) == ["delivered 2.0.0"]
    received = await asyncio.to_thread(postfix.wait_for, "e@example.test", 1)
    assert "Return-Path: <>" in received[0].trace


async def test_many_messages_share_few_connections(postfix: Postfix, courier: SmtpCourier) -> None:
    """200 messages at once over five connections, each of them once."""
    letters = [
        Letter(recipients=["many@example.test"], content=HEADER + f"X-Number: {number}\r\n\r\nhello\r\n".encode())
        for number in range(200)
    ]
    results = await asyncio.gather(*(courier.deliver(DESTINATION, letter.message) for letter in letters))
    assert [tell(outcomes) for outcomes in results] == [["delivered 2.0.0"]] * 200
    received = await asyncio.to_thread(postfix.wait_for, "many@example.test", 200)
    numbers = [re.search(rb"X-Number: (\d+)", one.content) for one in received]
    assert sorted(int(number[1]) for number in numbers if number) == list(range(200))
    queue_ids = [outcomes[0][1].reply.text.split()[-1] for outcomes in results if outcomes[0][1].reply]
    clients = dict(re.findall(r": (\w+): client=localhost\[127\.0\.0\.1\]:(\d+)", postfix.log))
    assert len({clients[queue_id] for queue_id in queue_ids}) == 5
