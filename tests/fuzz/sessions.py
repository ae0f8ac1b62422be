"""Whole sessions: octets through the real connection, session and dialogue, up to a spool that keeps what it gets."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from ptt.core.address import Domain
from ptt.core.seal import compute_seal
from ptt.ingress.acceptance import Acceptor
from ptt.ingress.answers import Policy
from ptt.ingress.budget import Budget
from ptt.ingress.connection import Connection
from ptt.ingress.guard import Guard
from ptt.ingress.sasl import MECHANISMS
from ptt.ingress.session import House, Session
from ptt.maillog import LOGGER
from tests.fuzz.contents import check_lines
from tests.fuzz.model import Client, read_replies
from tests.fuzz.target import Target, cut, split_choice
from tests.fuzz.wire import MemoryWire, make_tls, quiet_loop, settle
from tests.servers.submission import (
    ALICE,
    HOSTNAME,
    PASSWORD,
    SEAL_KEY,
    CountedGuesses,
    FixedUsers,
    RecordingSpool,
    plain,
)

LOGIN = f"EHLO c.test\r\nAUTH PLAIN {plain('alice', PASSWORD)}\r\n".encode()
MAIL = b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<b@b.test>\r\n"
_BEGINNINGS = ((False, b""), (True, b""), (True, LOGIN), (True, LOGIN + MAIL))
_FAULTS = {"command.failed", "session.failed"}
_DATA = re.compile(rb"DATA *\r\n\Z", re.IGNORECASE)
_TOO_EARLY = re.compile(r"554 5\.5\.0 |421 4\.7\.0 ")
_MOVING = re.compile(r"(?<=queued as )\S+|(?<=^334 ).*|(?<=FUTURERELEASE ).*", re.MULTILINE)


class Everybody:
    """Lets every connection in."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.present: set[Connection] = set()

    def admit(self, connection: Connection) -> bool:
        """Take note."""
        self.present.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """Take note of the end."""
        self.present.discard(connection)


class Faults(logging.Handler):
    """Takes note of events that say that a session did what nobody foresaw."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", "") in _FAULTS or record.name == "asyncio":
            self.found.append(logging.Formatter().format(record))


@dataclass
class Visit:
    """What came of a session."""

    replies: list[str] = field(default_factory=list)
    messages: list[object] = field(default_factory=list)


@dataclass
class Site:
    """A server for one session."""

    spool: RecordingSpool = field(default_factory=RecordingSpool)
    budget: Budget = field(default_factory=lambda: Budget(100_000))
    everybody: Everybody = field(default_factory=Everybody)

    def connect(self, *, tls: bool) -> MemoryWire:
        """Give the client's end of a new connection."""
        house = House(
            policy=Policy(hostname=Domain(HOSTNAME), max_message_bytes=2000, max_recipients=3),
            users=FixedUsers(),
            guard=Guard(CountedGuesses(), SEAL_KEY, delay_s=0),
            mechanisms=tuple(MECHANISMS),
            acceptor=Acceptor(hostname=Domain(HOSTNAME), seal_key=SEAL_KEY, spool=self.spool),
            budget=self.budget,
            tls_context=make_tls().context,
            timeout_s=300,
        )

        async def serve(connection: Connection) -> None:
            connection.come_in()
            await Session(house, connection).run()

        return MemoryWire(Connection(serve, self.everybody, 300, HOSTNAME), make_tls() if tls else None)


def check_session(octets: bytes) -> None:
    """A session of any octets keeps these rules.

    Each command line is answered by one well-formed reply, and the client always knows what is expected next. Nothing
    is spooled without a log-in, and no message but by a 250; what is spooled is sound and sealed. How the octets are
    cut changes nothing, unless they came before a reply that has to be waited for: then the session ends there.
    Nothing fails in a way that nobody foresaw, and at the end nothing is held.
    """
    choice, rest = split_choice(octets)
    tls, beginning = _BEGINNINGS[choice % len(_BEGINNINGS)]
    stream = beginning + rest
    first = _visit(_cut_lines(stream), tls=tls, is_watched=True)
    pieces = _cut_lines(beginning) + cut(rest, choice // len(_BEGINNINGS))
    second = _visit(pieces, tls=tls, is_watched=False)
    if second.replies != first.replies:
        *before, last = second.replies
        assert _TOO_EARLY.match(last), (first.replies, second.replies)
        assert before == first.replies[: len(before)]
    assert second.messages == first.messages[: len(second.messages)]
    assert len(second.messages) == sum("queued as" in reply for reply in second.replies)


def _cut_lines(stream: bytes) -> list[bytes]:
    return [piece for piece in re.split(rb"(?<=\n)", stream) if piece]


def _visit(pieces: Sequence[bytes], *, tls: bool, is_watched: bool) -> Visit:
    with _watching() as faults:
        visit = quiet_loop().run_until_complete(_talk(pieces, tls=tls, is_watched=is_watched))
    assert not faults.found, faults.found
    return visit


@contextlib.contextmanager
def _watching() -> Iterator[Faults]:
    faults, loggers = Faults(), (LOGGER, logging.getLogger("asyncio"))
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(faults)
        logger.propagate = False
    try:
        yield faults
    finally:
        for logger, propagates in zip(loggers, before, strict=True):
            logger.removeHandler(faults)
            logger.propagate = propagates


async def _talk(pieces: Sequence[bytes], *, tls: bool, is_watched: bool) -> Visit:
    site, client, said, sent = Site(), Client(), b"", b""
    wire = site.connect(tls=tls)
    await settle()
    greeting = wire.take_written()
    assert greeting == f"220 {HOSTNAME} ESMTP ptt\r\n".encode()
    for piece in pieces:
        wire.deliver(piece)
        await settle()
        written = wire.take_written()
        said += written
        sent += piece
        # RFC 2920 section 3.1. Of what came along with DATA nobody could tell whether it was content or commands.
        assert b"354 " not in written or _DATA.search(sent)
        if is_watched and not client.is_done:
            client.note(piece, read_replies(written), is_closed=wire.is_closing())
            assert len(site.spool.submissions) == client.messages
    wire.hang_up()
    await settle()
    assert site.budget.held_bytes == 0
    assert not site.everybody.present
    assert len(asyncio.all_tasks()) == 1, "a session goes on without its client"
    return _sum_up(site.spool, said)


def _sum_up(spool: RecordingSpool, said: bytes) -> Visit:
    replies = [_MOVING.sub("*", reply) for reply in read_replies(said.partition(b"220 2.0.0 Ready")[0])]
    assert not spool.submissions or any(reply.startswith("235 ") for reply in replies)
    messages: list[object] = []
    for submission, envelope in zip(spool.submissions, spool.envelopes, strict=True):
        check_lines(submission.content)
        seal = compute_seal(SEAL_KEY, submission.queue_id, submission.envelope_json, submission.content_sha256)
        assert submission.seal == seal
        assert envelope.user == "alice"
        assert envelope.reverse_path is None or ALICE.may_send_as(envelope.reverse_path)
        assert 0 < len(envelope.recipients) <= 3
        body = submission.content.partition(b"\r\n\r\n")[2]
        messages.append((envelope.reverse_path, envelope.recipients, envelope.requests, body))
    return Visit(replies, messages)


_TEXT = b"From: alice@example.test\r\n\r\nbody\r\n"
_SESSIONS = (
    b"EHLO c\r\nNOOP\r\nHELP\r\nVRFY x\r\nQUIT\r\n",
    MAIL + b"DATA\r\n" + _TEXT + b".\r\nNOOP\r\nQUIT\r\n",
    MAIL + b"DATA\r\n" + _TEXT + b"\n.\nMAIL FROM:<>\r\n.\r\n" + MAIL + b"DATA\r\n" + _TEXT + b".\r\n",
    MAIL + b"BDAT 5\r\nFrom:BDAT 37 LAST\r\n alice@example.test\r\n\r\nDATA\r\n.\r\nMAIL\r\nNOOP\r\n",
    MAIL + b"BDAT 5\r\nabcdeRCPT TO:<c@c.test>\r\nBDAT 0 LAST\r\nRSET\r\nBDAT 3\r\nabcNOOP\r\n",
    b"AUTH LOGIN\r\nYWxpY2U=\r\nY29ycmVjdCBob3JzZQ==\r\n" + MAIL + b"RSET\r\n",
    b"EHLO c\r\n" + LOGIN + MAIL + b"DATA\r\n" + _TEXT + b".\r\n",
    b"EHLO c\r\nAUTH SCRAM-SHA-256 biwsbj1hbGljZSxyPWFiYw==\r\nYz1iaXdz\r\nAUTH PLAIN =\r\n*\r\nAUTH PLAIN\r\n*\r\n",
    b"EHLO c\r\nSTARTTLS\r\nEHLO d\r\n",
    b"\x16\x03\x01\x02\x00\r\n",
    b"DATA\r\n" + _TEXT + b".\r\n",
    b"BDAT 10 LAST\r\nFrom: a@b\nRSET\r\n",
    b"MAIL FROM:<> HOLDFOR=60 MT-PRIORITY=1 RET=FULL\r\nRCPT TO:<b@b.test> NOTIFY=NEVER\r\nDATA\r\n" + _TEXT + b".\r\n",
)
_WORDS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b".\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n.\n",
    b"DATA\r\n",
    b"BDAT 3\r\n",
    b"BDAT 4 LAST\r\n",
    b"BDAT 0 LAST\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"EHLO c\r\n",
    b"HELO c\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN\r\n",
    b"*\r\n",
    b"BDAT 99999999999\r\n",
    b"BDAT\t18 LAST\r\n",
    b"BDAT 1x LAST\r\n",
    b" LAST",
    MAIL,
    LOGIN,
    _TEXT,
    b"x" * 600,
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03",
)

TARGETS = (
    Target(
        name="session",
        check=check_session,
        seeds=tuple(bytes([choice]) + text for choice in (0, 1, 2, 3, 6, 7, 10, 11) for text in _SESSIONS),
        words=_WORDS,
        max_bytes=1500,
        suite_executions=2000,
    ),
)
