"""Mail in the spool for tests: accepted, signed, tried, as the roles leave it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ptt.core.address import Address, Domain, ReversePath
from ptt.core.envelope import Envelope, QueueId, Submission, format_envelope, format_queue_id
from ptt.store.attempts import Attempt, Recorded
from ptt.store.connection import RedisAddress
from ptt.store.entries import RelayEntry
from ptt.store.relay_queue import RelayQueue
from ptt.store.sign_queue import Signed, SignQueue
from ptt.store.spool import connect_spool

LEASE_S = 60.0
SENDER = Address("alice", Domain("example.test"))
BASE_MS = 1_700_000_000_000
HISTORY = (
    b'[{"recipient":"ann@one.test","event":"deferred","reply":"451 4.7.1 greylisted","reason":"refused for now at'
    b' RCPT","mx_host":"mx.one.test","mx_address":"192.0.2.7","tls":"TLSv1.3"}]'
)


async def accept(
    address: RedisAddress, number: int, *recipients: Address, reverse_path: ReversePath = SENDER
) -> QueueId:
    """Spool one message, as ingress does."""
    queue_id = format_queue_id(BASE_MS + number, number)
    envelope = Envelope(user="alice", reverse_path=reverse_path, recipients=recipients)
    spool = await connect_spool(address)
    try:
        await spool.submit(
            Submission(
                queue_id=queue_id,
                envelope_json=format_envelope(envelope),
                content=b"x\r\n",
                content_sha256=b"",
                seal=b"",
            )
        )
    finally:
        await spool.close()
    return queue_id


def sign(address: RedisAddress, queue_id: QueueId, *recipients: Address) -> None:
    """Sign what is due, as the sign role does."""
    queue = SignQueue(address, LEASE_S)
    entries, _ = queue.claim()
    assert queue_id in [entry.queue_id for entry in entries]
    by_domain: dict[Domain, list[Address]] = {}
    for recipient in recipients:
        by_domain.setdefault(recipient.domain, []).append(recipient)
    assert queue.record([Signed(queue_id, b"S: x\r\n", by_domain)]) == [True]


async def enqueue(
    address: RedisAddress, number: int, *recipients: Address, reverse_path: ReversePath = SENDER
) -> QueueId:
    """Accept and sign one message."""
    queue_id = await accept(address, number, *recipients, reverse_path=reverse_path)
    sign(address, queue_id, *recipients)
    return queue_id


@asynccontextmanager
async def relaying(address: RedisAddress) -> AsyncIterator[RelayQueue]:
    """Give a relay's view of the spool."""
    queue = RelayQueue(address, LEASE_S)
    queue.start()
    try:
        yield queue
    finally:
        await queue.close()


async def claim(queue: RelayQueue, destination: Domain) -> RelayEntry:
    """Claim the one message that is due."""
    (entry,) = (await queue.claim(destination, 1)).entries
    return entry


async def defer(queue: RelayQueue, entry: RelayEntry, remaining: Sequence[Address] | None = None) -> Recorded:
    """Record that all that are left, or these, are to be tried again in 15 minutes."""
    attempt = Attempt(
        remaining=entry.recipients if remaining is None else remaining,
        delay_s=900,
        counts=True,
        history=HISTORY,
        number=entry.attempts + 1,
        duration_ms=42,
        reverse_path=str(SENDER),
        why="451 4.7.1 greylisted",
    )
    return await queue.record(entry, attempt)
