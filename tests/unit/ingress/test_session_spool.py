"""The moment of responsibility: what is handed to the spool, and what the client hears. RFC 5321 section 4.2.5."""

import hashlib
import json
import logging
import re

import pytest
from typing_extensions import override

from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, parse_queue_id
from ptt.core.errors import Refused, Unavailable
from ptt.core.reply import Reply
from ptt.core.seal import is_sealed
from ptt.maillog import JsonFormatter
from tests.servers.submission import HOSTNAME, SEAL_KEY, connected, logged_in, running_submission
from tests.waiting import wait_until_async

HEADER = b"From: alice@example.test\r\nSubject: s\r\n\r\n"
RITA = Address("rita", Domain("destination.test"))


async def test_submission_is_complete_and_sealed() -> None:
    """Envelope, digest and seal belong to the content that was spooled, and the reply names its queue-id."""
    async with running_submission() as server, logged_in(server) as client:
        reply = await client.submit(HEADER + b"body\r\n")
        (submission,) = server.spool.submissions
    queue_id = parse_queue_id(reply.removeprefix("250 2.0.0 queued as "))
    assert submission.queue_id == queue_id
    assert submission.content_sha256 == hashlib.sha256(submission.content).digest()
    assert is_sealed(SEAL_KEY, queue_id, submission.envelope_json, submission.content_sha256, submission.seal)
    assert server.spool.envelopes == [
        Envelope(user="alice", reverse_path=Address("alice", Domain("example.test")), recipients=(RITA,))
    ]
    added = submission.content.removesuffix(HEADER + b"body\r\n").decode()
    assert re.fullmatch(
        r"Received: from client\.test \(\[127\.0\.0\.1\]\)\r\n"
        rf"\tby {re.escape(HOSTNAME)}\r\n\twith ESMTPSA id {queue_id}\r\n"
        r"\t\(using TLSv1\.3 cipher [A-Z0-9_]+\);\r\n\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n"
        rf"Date: [^\r]+\r\nMessage-ID: <{queue_id}@{re.escape(HOSTNAME)}>\r\n",
        added,
    )


async def test_null_reverse_path_and_content_beyond_ascii_are_kept() -> None:
    """The null reverse-path is allowed; 8-bit content is marked for what it is, whatever MAIL said."""
    async with running_submission() as server, logged_in(server) as client:
        await client.ask_all(["MAIL FROM:<>", "RCPT TO:<rita@destination.test>", "DATA"])
        await client.send(HEADER + "ä\r\n.\r\n".encode())
        assert (await client.reply()).startswith("250 ")
        await client.ask_all(["MAIL FROM:<> BODY=8BITMIME SMTPUTF8", "RCPT TO:<rita@destination.test>", "DATA"])
        await client.send(HEADER + b".\r\n")
        assert (await client.reply()).startswith("250 ")
    eight, seven = server.spool.envelopes
    assert (eight.reverse_path, eight.body, eight.smtputf8) == (None, "8BITMIME", False)
    assert (seven.reverse_path, seven.body, seven.smtputf8) == (None, "7BIT", True)


async def test_full_spool_is_452_at_mail_and_the_session_goes_on() -> None:
    """RFC 5321 section 4.5.3.1.10 and RFC 1870: no room is said before the content is sent, and only for now."""
    async with running_submission() as server, logged_in(server) as client:
        server.spool.room = False
        assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("452 4.3.1 ")
        assert (await client.ask("RCPT TO:<rita@destination.test>")).startswith("503 ")
        server.spool.room = True
        assert (await client.submit(HEADER + b"body\r\n")).startswith("250 ")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Unavailable("redis: /run/secret.sock: gone"), "451 4.3.0 Temporary failure, try again later"),
        (Refused(Reply(452, "4.3.1", "Spool is full")), "452 4.3.1 Spool is full"),
        (RuntimeError("a secret cause"), "451 4.3.0 Temporary failure, try again later"),
        (OSError(24, "Too many open files"), "451 4.3.0 Temporary failure, try again later"),
        (ConnectionResetError("of somebody else"), "451 4.3.0 Temporary failure, try again later"),
        (TimeoutError("of somebody else"), "451 4.3.0 Temporary failure, try again later"),
    ],
)
async def test_failed_spool_is_never_a_250(fault: Exception, expected: str, caplog: pytest.LogCaptureFixture) -> None:
    """The client hears no cause, the log has it with the queue-id, and the session serves the next message."""
    caplog.set_level(logging.INFO, "ptt")
    async with running_submission() as server, logged_in(server) as client:
        server.spool.fault = fault
        assert await client.submit(HEADER) == expected
        server.spool.fault = None
        assert (await client.submit(HEADER)).startswith("250 ")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_unexpected_fault_is_logged_with_queue_id_and_traceback() -> None:
    """`queue_id` is bound to the log until the reply is said, and not longer."""
    formatter, lines = JsonFormatter(), []

    class Handler(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(formatter.format(record)))

    handler = Handler()
    logging.getLogger("ptt").addHandler(handler)
    try:
        async with running_submission() as server, logged_in(server) as client:
            server.spool.fault = RuntimeError("a secret cause")
            await client.submit(HEADER)
            await client.ask("MAIL FROM:<bob@example.test>")
    finally:
        logging.getLogger("ptt").removeHandler(handler)
    failed, refused = lines
    assert failed["event"] == "command.failed"
    assert "a secret cause" in failed["exception"]
    assert parse_queue_id(failed["queue_id"])
    assert (refused["event"], refused["user"], refused["enhanced_status"]) == ("message.refused", "alice", "5.7.1")
    assert "queue_id" not in refused


async def test_accepted_message_is_one_event(caplog: pytest.LogCaptureFixture) -> None:
    """`message.accepted` says who, for how many, how large, from where and over what."""
    caplog.set_level(logging.INFO, "ptt")
    async with running_submission() as server, logged_in(server) as client:
        await client.begin("a@b.test", "c@d.test")
        await client.send(HEADER + b".\r\n")
        await client.reply()
        (submission,) = server.spool.submissions
    (record,) = [record for record in caplog.records if record.message == "message.accepted"]
    fields = record.__dict__["fields"]
    assert fields.pop("tls").startswith("TLSv1.3 TLS_")
    assert fields == {
        "user": "alice",
        "reverse_path": "alice@example.test",
        "recipients": 2,
        "size_bytes": len(submission.content),
        "client_address": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"From: bob@example.test\r\n\r\n", "550 5.7.1"),
        (b"From: alice@example.test\r\nSender: bob@example.test\r\n\r\n", "550 5.7.1"),
        (b"Subject: none\r\n\r\n", "554 5.6.0"),
        (b"From: alice@example.test\r\nFrom: alice@example.test\r\n\r\n", "554 5.6.0"),
        (b"Received: x\r\n" * 100 + HEADER, "554 5.4.6"),
        (b"X: y\r\n" * 30_000 + HEADER, "552 5.3.4"),
    ],
)
async def test_refused_message_is_not_spooled_and_the_session_lives(content: bytes, expected: str) -> None:
    """Cases 137, 138, 153 to 167: the rules of `ptt.core.headers` reach the client word for word."""
    async with running_submission() as server, logged_in(server) as client:
        assert (await client.submit(content)).startswith(f"{expected} ")
        assert server.spool.submissions == []
        assert (await client.submit(HEADER)).startswith("250 ")


async def test_client_that_hangs_up_does_not_stop_the_spool() -> None:
    """Once the end of content is there, the message is written to the end, whoever hears the reply."""
    async with running_submission() as server:
        server.spool.gate.clear()
        async with logged_in(server) as client:
            await client.begin()
            await client.send(HEADER + b".\r\n")
            await wait_until_async(lambda: server.spool.is_waiting, "the message is at the spool")
        await wait_until_async(lambda: server.listener.connection_count == 0, "the connection is lost")
        server.spool.gate.set()
        await wait_until_async(lambda: server.spool.submissions, "the message is spooled")


async def test_classic_relay_attempts_without_login_reach_nothing() -> None:
    """E13: no form of address, and no order of commands, relays for who has not logged in."""
    addresses = [
        "victim@destination.test", "@mail.example.test:victim@destination.test", "victim%destination.test@example.test",
        "destination.test!victim@example.test", '"victim@destination.test"@example.test', "victim@[127.0.0.1]",
        "postmaster", "victim@destination.test@example.test",
    ]  # fmt: skip
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        await client.ask("AUTH PLAIN AGFsaWNlAHdyb25n")
        for sender in ("<>", "<alice@example.test>"):
            commands = [f"MAIL FROM:{sender}", *(f"RCPT TO:<{address}>" for address in addresses), "DATA", "RSET"]
            replies = await client.ask_all(commands)
            assert all(reply.startswith("530 5.7.0 ") for reply in replies[:-1])
        assert server.spool.submissions == []


async def test_eight_bit_content_is_converted_before_it_is_sealed_where_that_is_asked_for() -> None:
    """Case 168: what is signed is what is sent, and the envelope says 7BIT."""
    content = (
        b"From: alice@example.test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xa4\r\n"
    )
    for makes_seven_bit, body in ((True, "7BIT"), (False, "8BITMIME")):
        async with running_submission(makes_seven_bit=makes_seven_bit) as server, logged_in(server) as client:
            assert (await client.submit(content)).startswith("250 ")
            (submission,) = server.spool.submissions
        assert server.spool.envelopes[0].body == body
        assert submission.content.endswith(b"\r\n=C3=A4\r\n" if makes_seven_bit else b"\r\n\xc3\xa4\r\n")
        assert submission.content_sha256 == hashlib.sha256(submission.content).digest()
