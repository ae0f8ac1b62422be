"""The relay role on a real Valkey: what the courier reports is what the spool says afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
import redis
from typing_extensions import override

from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, QueueId, Submission, format_envelope, format_queue_id
from ptt.core.errors import Unavailable
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Deferred, Delivered, Failed, Outcome, Scope
from ptt.core.reply import Reply
from ptt.store import keys
from ptt.store.attempts import Attempt, Recorded
from ptt.store.connection import RedisAddress
from ptt.store.entries import RelayEntry
from ptt.store.relay_queue import RelayQueue
from ptt.store.sign_queue import Signed, SignQueue
from ptt.store.spool import connect_spool
from ptt.tasks.attempt import AttemptPolicy
from ptt.tasks.relay import RelayService
from tests.servers.redis import RedisServer
from tests.waiting import wait_until_async

DESTINATION = Domain("destination.test")
ANN, BOB, CAT = (Address(local, DESTINATION) for local in ("ann", "bob", "cat"))
OK = Delivered(reply=Reply(250, "2.0.0", "ok"))
LATER = Deferred(reason="greylisted", scope=Scope.RECIPIENT, reply=Reply(451, "4.7.1", "later"))
NEVER = Failed(reason="unknown", scope=Scope.RECIPIENT, reply=Reply(550, "5.1.1", "no such user"))
UNSURE = Deferred(reason="connection lost", scope=Scope.HOST, uncertain=True)


@dataclass
class ScriptedCourier:
    """A courier for tests: commits as a real one does, and then reports what the test says."""

    outcomes: dict[Address, Outcome]
    before: Callable[[OutboundMessage], object] = bool
    seen: list[tuple[QueueId, tuple[Address, ...]]] = field(default_factory=list)
    blocks: asyncio.Event | None = None

    async def deliver(self, destination: Domain, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Report."""
        assert destination == DESTINATION
        self.seen.append((message.queue_id, message.recipients))
        if self.blocks is not None:
            await self.blocks.wait()
        self.before(message)
        try:
            await message.commit([r for r in message.recipients if self.outcomes[r] != NEVER], [])
        except Unavailable:
            outcome = Deferred(reason="the spool cannot be asked", scope=Scope.MESSAGE)
            return [(recipient, outcome) for recipient in message.recipients]
        return [(recipient, self.outcomes[recipient]) for recipient in message.recipients]

    async def close(self) -> None:
        """Close nothing."""


async def enqueue(address: RedisAddress, *recipients: Address) -> QueueId:
    """Spool and sign one message."""
    envelope = format_envelope(Envelope(user="alice", reverse_path=None, recipients=recipients))
    queue_id = format_queue_id(1_700_000_000_000, 1)
    spool = await connect_spool(address)
    try:
        await spool.submit(
            Submission(queue_id=queue_id, envelope_json=envelope, content=b"x\r\n", content_sha256=b"", seal=b"")
        )
    finally:
        await spool.close()
    queue = SignQueue(address, 30)
    queue.claim()
    queue.record([Signed(queue_id, b"S: x\r\n", {DESTINATION: recipients})])
    return queue_id


@asynccontextmanager
async def serving(
    address: RedisAddress, courier: ScriptedCourier, *, max_age_s: float = 1000, holds: bool = False
) -> AsyncIterator[RelayService]:
    """Run the service."""
    policy = AttemptPolicy(
        retry_schedule_s=(900, 1800),
        max_age_s=max_age_s,
        delay_notice_after_s=14_400,
        holds_uncertain=holds,
        jitter=lambda: 0,
    )
    service = RelayService(RelayQueue(address, 30), courier, policy, 30)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def history_of(client: redis.Redis) -> list[str]:
    """Give the outcomes in the event stream."""
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(keys.EVENTS))
    return [one["event"] for _, fields in entries for one in json.loads(fields.get(b"outcomes", b"[]"))]


def left_of(client: redis.Redis, queue_id: QueueId) -> list[str]:
    """Give the local parts that are left of a message."""
    found: list[str] = json.loads(client.hget(keys.delivery(queue_id), f"r:{DESTINATION}") or b"[]")
    return found


async def test_partial_acceptance_leaves_exactly_the_deferred(address: RedisAddress, valkey: RedisServer) -> None:
    """Of three recipients one is delivered, one fails, one is deferred: only the last is tried again."""
    queue_id = await enqueue(address, ANN, BOB, CAT)
    with valkey.client() as client:
        async with serving(address, ScriptedCourier({ANN: OK, BOB: LATER, CAT: NEVER})) as service:
            await service.serve(DESTINATION)
        assert left_of(client, queue_id) == ["bob"]
        assert history_of(client) == ["delivered", "deferred", "failed"]
        due = client.zscore(keys.queue(DESTINATION), queue_id)
        seconds, _ = client.time()
        assert 700 < float(str(due)) / 1000 - seconds < 910
        client.zadd(keys.queue(DESTINATION), {queue_id: 1})
        courier = ScriptedCourier({BOB: OK})
        async with serving(address, courier) as service:
            await service.serve(DESTINATION)
        assert courier.seen == [(queue_id, (BOB,))]
        assert not client.exists(keys.message(queue_id))


async def test_message_that_is_too_old_fails_with_its_last_reason(address: RedisAddress, valkey: RedisServer) -> None:
    """After the queue lifetime a deferral is final (RFC 5321 section 4.5.4.1)."""
    queue_id = await enqueue(address, ANN)
    with valkey.client() as client:
        client.hset(keys.message(queue_id), "accepted", 1)
        async with serving(address, ScriptedCourier({ANN: LATER})) as service:
            await service.serve(DESTINATION)
        assert history_of(client) == ["failed"]
        assert not client.exists(keys.message(queue_id))


async def test_uncertain_outcome_ends_with_the_queue_lifetime(address: RedisAddress, valkey: RedisServer) -> None:
    """A host that never answers the dot gets no copies for ever: at the end the sender is told."""
    queue_id = await enqueue(address, ANN)
    with valkey.client() as client:
        client.hset(keys.message(queue_id), "accepted", 1)
        async with serving(address, ScriptedCourier({ANN: UNSURE})) as service:
            await service.serve(DESTINATION)
        assert history_of(client) == ["failed"]
        assert not client.exists(keys.message(queue_id))


@pytest.mark.parametrize("holds", [False, True])
async def test_uncertain_outcome_is_retried_or_held(address: RedisAddress, valkey: RedisServer, *, holds: bool) -> None:
    """The dot was sent and no reply came: by policy the message is due again, or parked for a person."""
    queue_id = await enqueue(address, ANN)
    with valkey.client() as client:
        async with serving(address, ScriptedCourier({ANN: UNSURE}), holds=holds) as service:
            await service.serve(DESTINATION)
        assert history_of(client) == ["uncertain"]
        assert (client.zscore(keys.queue(DESTINATION), queue_id) is None) is holds
        assert (client.zscore(keys.PARKED, f"{queue_id} {DESTINATION}") is not None) is holds
        assert left_of(client, queue_id) == ["ann"]


async def test_message_in_doubt_after_a_crash_is_held_without_sending(
    address: RedisAddress, valkey: RedisServer
) -> None:
    """With hold, what a dead worker left in doubt is not sent again by anyone."""
    queue_id = await enqueue(address, ANN)
    with valkey.client() as client:
        client.hset(keys.delivery(queue_id), f"x:{DESTINATION}", '["ann"]')
        courier = ScriptedCourier({ANN: OK})
        async with serving(address, courier, holds=True) as service:
            await service.serve(DESTINATION)
        assert courier.seen == []
        assert client.zscore(keys.PARKED, f"{queue_id} {DESTINATION}") is not None


async def test_lost_lease_sends_no_dot_and_records_nothing(address: RedisAddress, valkey: RedisServer) -> None:
    """Another worker took over meanwhile: it alone may send and record."""
    queue_id = await enqueue(address, ANN)
    with valkey.client() as client:

        def take_over(message: OutboundMessage) -> None:
            client.hset(keys.delivery(message.queue_id), f"o:{DESTINATION}", "another")

        async with serving(address, ScriptedCourier({ANN: OK}, take_over)) as service:
            await service.serve(DESTINATION)
        assert left_of(client, queue_id) == ["ann"]
        assert history_of(client) == []


async def test_stop_gives_back_what_has_not_reached_its_dot(address: RedisAddress, valkey: RedisServer) -> None:
    """A stop leaves undelivered messages due at once for other workers, without counting an attempt."""
    queue_id = await enqueue(address, ANN)
    courier = ScriptedCourier({ANN: OK}, blocks=asyncio.Event())
    with valkey.client() as client:
        async with serving(address, courier) as service:
            task = asyncio.create_task(service.serve(DESTINATION))
            await wait_until_async(lambda: courier.seen, "the delivery has begun")
        await task
        assert client.hget(keys.delivery(queue_id), f"o:{DESTINATION}") is None
        async with serving(address, ScriptedCourier({ANN: OK})) as service:
            await service.serve(DESTINATION)
        assert not client.exists(keys.message(queue_id))


async def test_hundreds_of_messages_are_all_delivered_by_one_wakeup(address: RedisAddress, valkey: RedisServer) -> None:
    """One wake-up drains a destination, however much there is, with a bounded number in hand."""
    spool = await connect_spool(address)
    envelope = format_envelope(Envelope(user="alice", reverse_path=None, recipients=(ANN,)))
    names = [format_queue_id(1_700_000_000_000, number) for number in range(300)]
    await asyncio.gather(
        *(
            spool.submit(Submission(queue_id=name, envelope_json=envelope, content=b"", content_sha256=b"", seal=b""))
            for name in names
        )
    )
    await spool.close()
    queue = SignQueue(address, 30)
    while entries := queue.claim()[0]:
        queue.record(Signed(entry.queue_id, b"", {DESTINATION: (ANN,)}) for entry in entries)
    courier = ScriptedCourier({ANN: OK})
    async with serving(address, courier) as service:
        await service.serve(DESTINATION)
    assert sorted(name for name, _ in courier.seen) == names
    with valkey.client() as client:
        assert [name for name in client.scan_iter() if client.ttl(name) == -1] == [keys.EVENTS.encode()]


class SlowQueue(RelayQueue):
    """A queue whose records wait for a sign."""

    def __init__(self, address: RedisAddress) -> None:
        """Wait until told."""
        super().__init__(address, 30)
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    @override
    async def record(self, entry: RelayEntry, attempt: Attempt) -> Recorded:
        """Wait, then record."""
        self.begun.set()
        await self.go.wait()
        return await super().record(entry, attempt)


async def test_stop_in_the_midst_of_a_record_lets_it_finish(address: RedisAddress, valkey: RedisServer) -> None:
    """What was delivered is recorded, although the worker is told to stop right then: else it would be sent again."""
    queue_id = await enqueue(address, ANN)
    queue = SlowQueue(address)
    policy = AttemptPolicy(
        retry_schedule_s=(900,), max_age_s=1000, delay_notice_after_s=14_400, holds_uncertain=False, jitter=lambda: 0
    )
    service = RelayService(queue, ScriptedCourier({ANN: OK}), policy, 30)
    await service.start()
    serving_task = asyncio.create_task(service.serve(DESTINATION))
    await queue.begun.wait()
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0)
    queue.go.set()
    await asyncio.gather(serving_task, stopping)
    with valkey.client() as client:
        assert history_of(client) == ["delivered"]
        assert not client.exists(keys.message(queue_id))
