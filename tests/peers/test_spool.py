"""The spool against a real Valkey: spool, claim, sign, claim, commit, record, and what repairs what."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis

from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, QueueId, Submission, format_envelope, format_queue_id
from ptt.core.errors import LeaseLost
from ptt.store import keys
from ptt.store.attempts import Attempt, Recorded
from ptt.store.connection import RedisAddress
from ptt.store.entries import Claim
from ptt.store.relay_queue import RelayQueue
from ptt.store.runner import Runner
from ptt.store.sign_queue import Signed, SignQueue
from ptt.store.spool import CHUNK_BYTES, connect_spool
from ptt.store.stage_queue import MAX_CLAIMS
from ptt.store.sweep import sweep_call, sweep_sign_call
from tests.restarts import pretend_restart
from tests.servers.redis import RedisServer

DESTINATION = Domain("destination.test")
RECIPIENT = Address("rita", DESTINATION)
CONTENT = b"From: alice@example.test\r\n\r\nHello\r\n"
LEASE_S = 30.0


def make_submission(number: int = 1, content: bytes = CONTENT) -> Submission:
    """Make a submission; equal numbers give equal queue-ids."""
    envelope = Envelope(user="alice", reverse_path=Address("alice", Domain("example.test")), recipients=(RECIPIENT,))
    return Submission(
        queue_id=format_queue_id(1_700_000_000_000, number),
        envelope_json=format_envelope(envelope),
        content=content,
        content_sha256=b"x" * 32,
        seal=b"y" * 32,
    )


async def submit(address: RedisAddress, *submissions: Submission) -> None:
    """Spool all submissions at once."""
    spool = await connect_spool(address)
    try:
        await asyncio.gather(*(spool.submit(submission) for submission in submissions))
    finally:
        await spool.close()


def sign_all(queue: SignQueue) -> list[QueueId]:
    """Sign what is due, as the sign role does."""
    entries, _ = queue.claim()
    queue.record(Signed(entry.queue_id, b"DKIM-Signature: x\r\n", {DESTINATION: [RECIPIENT]}) for entry in entries)
    return [entry.queue_id for entry in entries]


@asynccontextmanager
async def relay_queue(address: RedisAddress, lease_s: float = LEASE_S) -> AsyncIterator[RelayQueue]:
    """Run a relay queue."""
    queue = RelayQueue(address, lease_s)
    queue.start()
    try:
        yield queue
    finally:
        await queue.close()


DONE = Attempt(remaining=(), delay_s=0, counts=True, history=b"[]")


async def test_message_goes_through_all_states_and_leaves_nothing(address: RedisAddress, client: redis.Redis) -> None:
    """A message whose last recipient is done leaves no key but the event stream."""
    await submit(address, make_submission())
    assert sign_all(SignQueue(address, LEASE_S)) == [make_submission().queue_id]
    async with relay_queue(address) as queue:
        await queue.begin(DESTINATION)
        (entry,) = (await queue.claim(DESTINATION, 50)).entries
        assert entry.recipients == (RECIPIENT,)
        assert b"".join([part async for part in queue.read(entry)]) == b"DKIM-Signature: x\r\n" + CONTENT
        await queue.commit(entry, [RECIPIENT], [RECIPIENT])
        assert await queue.record(entry, DONE) is Recorded.DONE
    assert [name for name in client.scan_iter() if client.ttl(name) == -1] == [keys.EVENTS.encode()]


async def test_spool_wakes_sign_once_for_many_messages(address: RedisAddress, valkey: RedisServer) -> None:
    """While a wake-up is pending no second one is pushed."""
    await submit(address, *(make_submission(number) for number in range(100)))
    with valkey.client(db=0) as broker:
        assert broker.llen("sign") == 1
        wakeup = json.loads(broker.lindex("sign", 0))
    assert wakeup["headers"]["task"] == "ptt.sign"
    assert "@" not in wakeup["headers"]["id"]


async def test_submit_repeated_after_lost_answer_spools_once(address: RedisAddress, client: redis.Redis) -> None:
    """The same queue-id twice is one message: a lost answer may be asked for again."""
    await submit(address, make_submission(), make_submission())
    assert client.zcard(keys.SIGN) == 1


async def test_large_content_is_chunked_and_read_back_whole(address: RedisAddress, client: redis.Redis) -> None:
    """Content over one chunk lies in a list, for both roles the same bytes."""
    content = CONTENT + b"x" * (3 * CHUNK_BYTES)
    await submit(address, make_submission(content=content))
    assert client.llen(keys.content(make_submission().queue_id)) == 4
    assert client.ttl(keys.content(make_submission().queue_id)) == -1
    sign_queue = SignQueue(address, LEASE_S)
    (entry,), _ = sign_queue.claim()
    assert sign_queue.read(entry) == content
    sign_queue.record([Signed(entry.queue_id, b"S: 1\r\n", {DESTINATION: [RECIPIENT]})])
    async with relay_queue(address) as queue:
        (relay_entry,) = (await queue.claim(DESTINATION, 1)).entries
        assert b"".join([part async for part in queue.read(relay_entry)]) == b"S: 1\r\n" + content
        assert relay_entry.size_bytes == len(b"S: 1\r\n" + content)


async def test_claimed_message_is_not_claimed_again_before_the_lease_ends(address: RedisAddress) -> None:
    """Two workers never own the same message."""
    await submit(address, make_submission())
    first, second = SignQueue(address, LEASE_S), SignQueue(address, LEASE_S)
    assert len(first.claim()[0]) == 1
    assert second.claim()[0] == []


async def test_record_with_lost_lease_changes_nothing(address: RedisAddress, client: redis.Redis) -> None:
    """A worker whose lease was taken over must not record, and must not send the dot."""
    await submit(address, make_submission())
    sign_all(SignQueue(address, LEASE_S))
    async with relay_queue(address) as slow, relay_queue(address) as quick:
        (entry,) = (await slow.claim(DESTINATION, 1)).entries
        client.hset(keys.delivery(entry.queue_id), f"o:{DESTINATION}", "another worker")
        with pytest.raises(LeaseLost):
            await slow.commit(entry, [RECIPIENT], [RECIPIENT])
        with pytest.raises(LeaseLost):
            await slow.record(entry, DONE)
        with pytest.raises(LeaseLost):
            await quick.renew(entry)
    assert client.exists(keys.message(entry.queue_id))


async def test_expired_lease_is_taken_over_and_tells_that_the_dot_may_be_sent(
    address: RedisAddress, client: redis.Redis
) -> None:
    """After a worker's death between commit and record, the next one learns that the attempt is uncertain."""
    await submit(address, make_submission())
    sign_all(SignQueue(address, LEASE_S))
    async with relay_queue(address) as dead, relay_queue(address) as heir:
        (entry,) = (await dead.claim(DESTINATION, 1)).entries
        await dead.commit(entry, [RECIPIENT], [RECIPIENT])
        client.zadd(keys.queue(DESTINATION), {entry.queue_id: 1})
        pretend_restart(heir)
        (again,) = (await heir.claim(DESTINATION, 1)).entries
        assert (entry.in_doubt, again.in_doubt) == ((), (RECIPIENT,))


async def test_expired_lease_right_after_a_restart_is_left_to_its_owner(
    address: RedisAddress, client: redis.Redis
) -> None:
    """When Redis comes back, owners finish before others take over."""
    await submit(address, make_submission())
    sign_all(SignQueue(address, LEASE_S))
    async with relay_queue(address) as owner, relay_queue(address) as other:
        (entry,) = (await owner.claim(DESTINATION, 1)).entries
        client.zadd(keys.queue(DESTINATION), {entry.queue_id: 1})
        pretend_restart(other, {"uptime_in_seconds": 2})
        assert await other.claim(DESTINATION, 1) == Claim()
        assert await owner.record(entry, DONE) is Recorded.DONE


async def test_lease_given_since_the_restart_ends_as_any(address: RedisAddress, client: redis.Redis) -> None:
    """Its owner could renew all the time: only what was leased before the restart is left alone."""
    await submit(address, make_submission())
    sign_all(SignQueue(address, LEASE_S))
    async with relay_queue(address) as dead, relay_queue(address) as heir:
        (entry,) = (await dead.claim(DESTINATION, 1)).entries
        seconds, _ = client.time()
        client.zadd(keys.queue(DESTINATION), {entry.queue_id: seconds * 1000 - 1000})
        restarted = {"uptime_in_seconds": 29, "server_time_usec": int(seconds * 1e6)}
        heir._lease_ms = 5000  # noqa: SLF001 - short, so that the lease lies between the restart and now
        pretend_restart(heir, restarted)
        assert [one.queue_id for one in (await heir.claim(DESTINATION, 1)).entries] == [entry.queue_id]


async def test_message_that_kills_its_workers_is_parked(address: RedisAddress, client: redis.Redis) -> None:
    """After three claims without an outcome the message is parked with a reason, and stays in the spool."""
    await submit(address, make_submission())
    sign_all(SignQueue(address, LEASE_S))
    name = make_submission().queue_id
    async with relay_queue(address) as queue:
        pretend_restart(queue)
        for _ in range(MAX_CLAIMS):
            assert len((await queue.claim(DESTINATION, 1)).entries) == 1
            client.zadd(keys.queue(DESTINATION), {name: 1})
        assert await queue.claim(DESTINATION, 1) == Claim(parked=(name,))
    assert client.hget(keys.delivery(name), f"p:{DESTINATION}") is not None
    assert client.zrange(keys.PARKED, 0, -1) == [f"{name} {DESTINATION}".encode()]


async def test_deferred_message_waits_and_keeps_who_is_left(address: RedisAddress, client: redis.Redis) -> None:
    """A deferred message is not due before its delay, keeps its recipients and counts its attempts."""
    await submit(address, make_submission())
    sign_all(SignQueue(address, LEASE_S))
    async with relay_queue(address) as queue:
        (entry,) = (await queue.claim(DESTINATION, 1)).entries
        await queue.record(entry, Attempt(remaining=[RECIPIENT], delay_s=900, counts=True, history=b"[]"))
        assert await queue.claim(DESTINATION, 1) == Claim()
        client.zadd(keys.queue(DESTINATION), {entry.queue_id: 1})
        (again,) = (await queue.claim(DESTINATION, 1)).entries
        assert (again.attempts, again.recipients) == (1, (RECIPIENT,))


async def test_record_of_what_another_recorded_is_a_lost_lease(address: RedisAddress) -> None:
    """A worker that was frozen finds that the one that took over has recorded: its own copy is a double."""
    await submit(address, make_submission())
    sign_all(SignQueue(address, LEASE_S))
    async with relay_queue(address) as queue:
        (entry,) = (await queue.claim(DESTINATION, 1)).entries
        assert await queue.record(entry, DONE) is Recorded.DONE
        with pytest.raises(LeaseLost):
            await queue.record(entry, DONE)


async def test_sweeps_wake_both_roles_after_the_broker_was_flushed(address: RedisAddress, valkey: RedisServer) -> None:
    """FLUSHDB of the broker database costs one sweep of each role, no mail."""
    await submit(address, make_submission(1), make_submission(2))
    queue = SignQueue(address, LEASE_S)
    sign_all(queue)
    await submit(address, make_submission(3))
    with valkey.client(db=0) as broker, valkey.client() as client:
        broker.flushdb()
        assert Runner(client).run([sweep_call(0), sweep_sign_call(0)]) == [1, 1]
        assert (broker.llen("sign"), broker.llen("relay")) == (1, 1)
        wakeup = json.loads(broker.lindex("relay", 0))
        assert json.loads(wakeup["body"])[0] == [DESTINATION]


async def test_sweep_with_nothing_due_wakes_nobody(address: RedisAddress, valkey: RedisServer) -> None:
    """An idle spool costs no wake-ups, and a ghost destination is forgotten."""
    with valkey.client(db=0) as broker, valkey.client() as client:
        client.zadd(keys.DESTINATIONS, {"gone.test": 1})
        assert Runner(client).run([sweep_call(0), sweep_sign_call(0)]) == [0, 0]
        assert broker.keys() == []
        assert not client.exists(keys.DESTINATIONS)
    assert address.broker_db == 0


async def test_functions_are_loaded_again_when_redis_lacks_them(address: RedisAddress, client: redis.Redis) -> None:
    """Somebody flushed the functions, or Redis is a new one: nobody notices."""
    spool = await connect_spool(address)
    queue = SignQueue(address, LEASE_S)
    try:
        await spool.submit(make_submission(1))
        client.function_flush()
        await asyncio.gather(spool.submit(make_submission(2)), spool.submit(make_submission(3)))
        client.function_flush()
        assert len(queue.claim()[0]) == 3
    finally:
        await spool.close()
