"""The sending side of the rig: offers mail at a rate over kept TLS connections and writes down what it was told.

What was not accepted is offered again under a new id, so that a double is never the client's own doing.
"""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.ledger import Ledger
from tests.servers.submitter import Account, make_body

_REPLY_TIMEOUT_S = 30.0
_RECONNECT_S = 0.1
_BROKEN = (OSError, asyncio.IncompleteReadError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Offer:
    """One attempt to submit one message."""

    identity: str
    recipient: str
    sha256: str
    content: bytes = field(repr=False)
    """As it goes over the wire, with the final dot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What kind of message to send."""

    domain: str
    size_bytes: int
    fate: str = ""
    """``later-`` or ``never-``, what the sink does to it; empty: it takes it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply to a final dot: when it came, how long it took, what it said."""

    at: float
    took_s: float
    text: str


def make_offer(account: Account, number: int, attempt: int, mail: Mail) -> Offer:
    """Make a message whose id and recipient no other attempt has."""
    identity, recipient = f"n{number}t{attempt}", f"{mail.fate}r{number}t{attempt}@{mail.domain}"
    body = make_body(number, mail.size_bytes)
    header = (
        f"From: {account.sender}\r\nTo: {recipient}\r\nSubject: {number}\r\nX-Identity: {identity}\r\n"
        f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{identity}@example.test>\r\n\r\n"
    ).encode()
    content = (header + body).replace(b"\r\n.", b"\r\n..") + b".\r\n"
    return Offer(identity, recipient, hashlib.sha256(body).hexdigest(), content)


MAX_WAITING = 2_000
"""Offers that wait for a server that takes nothing: those who have mail do not pile it up without end."""


@dataclass
class Sender:
    """Offers messages and keeps, by id, what became of each offer."""

    account: Account
    ledger: Ledger
    folder: Path
    choose: Callable[[int], Mail]
    offers: dict[str, Offer] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    """Queue-id by id, from the 250."""
    accepted_at: dict[str, float] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    """Cut or refused before the final dot was sent."""
    refused: dict[str, str] = field(default_factory=dict)
    """The reply to the final dot, if it was not 250."""
    unanswered: set[str] = field(default_factory=set)
    """The final dot was sent and no reply came: the message may be delivered or not."""
    answers: list[Answer] = field(default_factory=list)
    farewells: Counter[str] = field(default_factory=Counter)
    """How connections ended: the code of an unexpected reply, or the name of the error."""
    sessions: set[asyncio.StreamWriter] = field(default_factory=set)
    """Those that are logged in."""
    _attempts: Counter[int] = field(default_factory=Counter)

    async def run(self, count: int, rate: float, connections: int, is_over: asyncio.Event) -> None:
        """Offer at least ``count`` messages at ``rate`` a second, and go on until ``is_over``; each until accepted."""
        numbers: asyncio.Queue[int] = asyncio.Queue()
        workers = [asyncio.create_task(self._work(numbers)) for _ in range(connections)]
        began = time.monotonic()
        for number in itertools.count():
            if number >= count and is_over.is_set():
                break
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            while numbers.qsize() >= MAX_WAITING:  # noqa: ASYNC110 - a queue of bounded size would lose what comes back
                await asyncio.sleep(0.05)
            numbers.put_nowait(number)
        await numbers.join()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        (self.folder / "refused.json").write_text(json.dumps({"refused": self.refused, "ends": self.farewells}))

    def make(self, number: int) -> Offer:
        """Make the next offer of a message."""
        self._attempts[number] += 1
        offer = make_offer(self.account, number, self._attempts[number], self.choose(number))
        self.offers[offer.identity] = offer
        return offer

    def accept(self, offer: Offer, reply: str) -> None:
        """Write down a 250."""
        queue_id = reply.rsplit(maxsplit=1)[-1]
        self.ledger.write({"id": offer.identity, "queue_id": queue_id, "recipient": offer.recipient, "at": time.time()})
        self.accepted[offer.identity] = queue_id
        self.accepted_at[offer.identity] = time.time()

    async def _work(self, numbers: "asyncio.Queue[int]") -> None:
        while True:
            writer = None
            try:
                reader, writer = await log_in(self.account)
                self.sessions.add(writer)
                while True:
                    number = await numbers.get()
                    try:
                        await self._send(reader, writer, self.make(number))
                    except BaseException:
                        numbers.put_nowait(number)
                        raise
                    finally:
                        numbers.task_done()
            except _BROKEN as error:
                self.farewells[
                    error.args[0][:3] if isinstance(error, UnexpectedReplyError) else type(error).__name__
                ] += 1
                await asyncio.sleep(_RECONNECT_S)  # the server is away
            finally:
                if writer is not None:
                    self.sessions.discard(writer)
                    writer.transport.abort()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, offer: Offer) -> None:
        self.incomplete.add(offer.identity)
        writer.write(f"MAIL FROM:<{self.account.sender}>\r\nRCPT TO:<{offer.recipient}>\r\nDATA\r\n".encode())
        for code in ("250", "250", "354"):
            await expect(reader, code)
        writer.write(offer.content)
        self.incomplete.discard(offer.identity)
        self.unanswered.add(offer.identity)
        began = time.monotonic()
        reply = await read_reply(reader)
        self.unanswered.discard(offer.identity)
        self.answers.append(Answer(time.monotonic(), time.monotonic() - began, reply))
        if not reply.startswith("250"):
            self.refused[offer.identity] = reply
            raise UnexpectedReplyError(reply)
        self.accept(offer, reply)


class UnexpectedReplyError(ConnectionError):
    """Another reply than the one that would let the dialogue go on."""


async def log_in(account: Account) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect over TLS and authenticate."""
    async with asyncio.timeout(_REPLY_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(account.address, account.port, ssl=account.context)
    try:
        await expect(reader, "220")
        for command, code in login_dialogue(account):
            writer.write(command)
            await expect(reader, code)
    except BaseException:
        with contextlib.suppress(OSError):
            writer.transport.abort()
        raise
    return reader, writer


def login_dialogue(account: Account) -> list[tuple[bytes, str]]:
    """Give the commands of a login, each with the code that it gets."""
    token = base64.b64encode(f"\0{account.login}\0{account.password}".encode())
    return [(b"EHLO client.test\r\n", "250"), (b"AUTH PLAIN " + token + b"\r\n", "235")]


async def expect(reader: asyncio.StreamReader, code: str) -> None:
    """Read a reply that must have this code."""
    reply = await read_reply(reader)
    if not reply.startswith(code):
        raise UnexpectedReplyError(reply)


async def read_reply(reader: asyncio.StreamReader) -> str:
    """Read one reply and give its last line."""
    async with asyncio.timeout(_REPLY_TIMEOUT_S):
        while (line := await reader.readuntil(b"\r\n"))[3:4] == b"-":
            pass
        return line.decode().strip()
