"""Both roles over one spool, with outcomes as a test wants them: for tests of reports."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage, Message
from hashlib import sha256
from typing import Any, cast

import redis
from typing_extensions import override

from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, QueueId, Submission, format_envelope, format_queue_id
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Deferred, Delivered, Failed, Outcome, Peer, Scope
from ptt.core.ports import Courier
from ptt.core.reply import Reply
from ptt.core.seal import compute_seal
from ptt.signing.signer import Signer
from ptt.store import keys
from ptt.store.connection import RedisAddress
from ptt.store.entries import RelayEntry
from ptt.store.relay_queue import RelayQueue
from ptt.store.report_queue import ReportQueue
from ptt.store.sign_queue import SignQueue
from ptt.store.spool import connect_spool
from ptt.tasks.attempt import AttemptPolicy, attempt
from ptt.tasks.report import ReportService
from ptt.tasks.sign import SignService
from tests.restarts import pretend_restart

SEAL_KEY = b"k" * 32
HOME = Domain("example.test")
FIRST, SECOND = Domain("destination.test"), Domain("elsewhere.test")
ALICE, RITA, BOB = Address("alice", HOME), Address("rita", FIRST), Address("bob", SECOND)
CONTENT = b"From: alice@example.test\r\nMessage-ID: <1@example.test>\r\n\r\nHello\r\n"
LEASE_S = 30.0
PEER = Peer(mx_host="mx.destination.test", address="192.0.2.1")
TAKEN = Delivered(reply=Reply(250, "2.0.0", "ok"), peer=PEER)
REFUSED = Failed(reason="refused at RCPT", scope=Scope.RECIPIENT, reply=Reply(550, "5.1.1", "unknown"), peer=PEER)
LATER = Deferred(reason="timed out", scope=Scope.HOST, peer=PEER)


def make_submission(content: bytes = CONTENT, seal_key: bytes = SEAL_KEY, **fields: Any) -> Submission:
    """Make a sealed submission to RITA, unless the fields of the envelope say otherwise."""
    asked: dict[str, Any] = {"user": "alice", "reverse_path": ALICE, "recipients": (RITA,), **fields}
    envelope_json = format_envelope(Envelope(**asked))
    queue_id, digest = format_queue_id(1_700_000_000_000, 1), sha256(content).digest()
    return Submission(
        queue_id=queue_id,
        envelope_json=envelope_json,
        content=content,
        content_sha256=digest,
        seal=compute_seal(seal_key, queue_id, envelope_json, digest),
    )


@dataclass(kw_only=True)
class Fate(Courier):
    """A courier that comes to the outcomes it is told."""

    outcomes: dict[Address, Outcome]

    @override
    async def deliver(self, destination: Domain, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Give what was told."""
        return [(recipient, self.outcomes[recipient]) for recipient in message.recipients]

    @override
    async def close(self) -> None:
        """Do nothing."""


@dataclass(kw_only=True)
class House:
    """Both roles over one spool."""

    address: RedisAddress
    client: redis.Redis
    signer: Signer

    async def accept(self, submission: Submission) -> QueueId:
        """Spool and sign a message."""
        spool = await connect_spool(self.address)
        await spool.submit(submission)
        await spool.close()
        self.sign()
        return submission.queue_id

    def sign(self) -> None:
        """Sign what is due."""
        queue = SignQueue(self.address, LEASE_S)
        pretend_restart(queue)
        SignService(queue, self.signer, SEAL_KEY, lambda: datetime.now(UTC), float("inf")).serve()

    async def deliver(self, destination: Domain, fates: Mapping[str, Outcome], *, notice_after_s: float = 9e9) -> None:
        """Make one attempt at what waits for a destination, by local part."""
        policy = AttemptPolicy(
            retry_schedule_s=(900,),
            max_age_s=432_000,
            delay_notice_after_s=notice_after_s,
            holds_uncertain=False,
            jitter=lambda: 0.0,
        )
        courier = Fate(outcomes={Address(local, destination): outcome for local, outcome in fates.items()})
        async with relay_queue(self.address) as queue:
            self.make_due(keys.queue(destination))
            entries = (await queue.claim(destination, 50)).entries
            await asyncio.gather(*(attempt(queue, courier, policy, entry) for entry in entries))

    def make_due(self, name: str) -> None:
        """Let time pass for all that waits in a sorted set."""
        for member in cast("list[bytes]", self.client.zrange(name, 0, -1)):
            self.client.zadd(name, {member: 1})

    def reporting(self, queue: ReportQueue | None = None) -> ReportService:
        """Give a sign process."""
        return ReportService(
            queue=queue or report_queue(self.address),
            signer=self.signer,
            seal_key=SEAL_KEY,
            hostname="mail.example.test",
            now=lambda: datetime.now(UTC),
        )

    def report(self) -> None:
        """Make what is due, and what is not yet."""
        self.make_due(keys.REPORTS)
        self.reporting().serve()

    async def list_reports(self) -> list[tuple[RelayEntry, bytes]]:
        """Give what waits for the senders' domain, with its signature."""
        async with relay_queue(self.address) as queue:
            entries = (await queue.claim(HOME, 50)).entries
            reports = [(entry, b"".join([part async for part in queue.read(entry)])) for entry in entries]
        for entry in entries:
            self.client.hdel(keys.delivery(entry.queue_id), f"o:{HOME}", f"k:{HOME}")
        self.make_due(keys.queue(HOME))
        return reports


@asynccontextmanager
async def relay_queue(address: RedisAddress) -> AsyncIterator[RelayQueue]:
    """Run a relay queue."""
    queue = RelayQueue(address, LEASE_S)
    pretend_restart(queue)
    queue.start()
    try:
        yield queue
    finally:
        await queue.close()


def report_queue(address: RedisAddress) -> ReportQueue:
    """Give a report queue whose server has been up for long."""
    queue = ReportQueue(address, LEASE_S)
    pretend_restart(queue)
    return queue


def actions_of(content: bytes) -> list[str]:
    """Give recipient and action of each group of a report."""
    message = email.message_from_bytes(content, policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    _, status, _ = message.iter_parts()
    groups = cast("list[Message]", status.get_payload())[1:]
    return [f"{group['Final-Recipient']} {group['Action']}" for group in groups]
