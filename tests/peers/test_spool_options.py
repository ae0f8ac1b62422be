"""What the spool does with what was asked: holds, priorities and submissions that are made again. A real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import redis

from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, QueueId, Submission, format_envelope, format_queue_id
from ptt.core.options import Options
from ptt.store import keys
from ptt.store.attempts import Attempt
from ptt.store.connection import RedisAddress
from ptt.store.runner import Runner
from ptt.store.sign_queue import Signed, SignQueue
from ptt.store.spool import CHUNK_BYTES, RedisSpool, connect_spool
from tests.peers.queue_tools import Run
from tests.spooled import LEASE_S, relaying
from tests.waiting import wait_until_async

DESTINATION = Domain("one.test")
RITA = Address("rita", DESTINATION)
FINGERPRINT = b"\x07" * 32
_DONE = Attempt(remaining=(), delay_s=0, counts=True, history=b"")


def make(number: int, options: Options, *, content: bytes = b"x\r\n", fingerprint: bytes = b"") -> Submission:
    """Make a submission."""
    envelope = Envelope(user="alice", reverse_path=None, recipients=(RITA,), options=options)
    return Submission(
        queue_id=format_queue_id(1_700_000_000_000 + number, number),
        envelope_json=format_envelope(envelope),
        content=content,
        content_sha256=b"",
        seal=b"",
        release_at=options.release_at,
        priority=options.priority,
        fingerprint=fingerprint,
    )


@asynccontextmanager
async def spooling(address: RedisAddress, repeats_known_s: float = 60) -> AsyncIterator[RedisSpool]:
    """Give an ingress's view of the spool."""
    spool = await connect_spool(address, repeats_known_s=repeats_known_s)
    try:
        yield spool
    finally:
        await spool.close()


def claim_ids(queue: SignQueue) -> list[QueueId]:
    """Claim what is due for signing."""
    return [entry.queue_id for entry in queue.claim()[0]]


async def test_held_message_waits_in_the_sign_queue_for_its_time(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """RFC 4865: nothing looks at it before, the queue says why and until when, and then it goes its way."""
    second = client.time()[0]
    held = make(1, Options(release_at=second + 3600))
    async with spooling(address) as spool:
        await spool.submit(held)
    queue = SignQueue(address, LEASE_S)
    assert claim_ids(queue) == []
    client.select(address.broker_db)
    assert not client.exists(f"{keys.WAKE}sign")
    client.select(1)
    listed = ptt("queue", "list").stdout
    assert "its sender asked for this time (FUTURERELEASE)" in listed
    assert "waiting until " in listed
    assert "asked:     released at " in ptt("queue", "show", held.queue_id).stdout
    client.zadd(keys.SIGN, {held.queue_id: second * 1000})  # its time has come
    assert claim_ids(queue) == [held.queue_id]


async def test_message_whose_hold_is_over_is_due_at_once(address: RedisAddress, client: redis.Redis) -> None:
    """A clock that ran on between MAIL and the spool changes nothing."""
    async with spooling(address) as spool:
        await spool.submit(make(1, Options(release_at=client.time()[0] - 1)))
    assert len(claim_ids(SignQueue(address, LEASE_S))) == 1


async def test_urgent_mail_goes_first_in_both_queues(address: RedisAddress) -> None:
    """RFC 6710: among what is due, the order is that of the priorities, and of arrival within one."""
    submissions = [make(number, Options(priority=priority)) for number, priority in enumerate((-9, 0, 9, 0, 1))]
    expected = [submissions[index].queue_id for index in (2, 4, 1, 3, 0)]
    async with spooling(address) as spool:
        for submission in submissions:
            await spool.submit(submission)
            await asyncio.sleep(0.002)  # the clock of the queue counts milliseconds
    queue = SignQueue(address, LEASE_S)
    assert claim_ids(queue) == expected
    for submission in submissions:
        queue.record([Signed(submission.queue_id, b"S: x\r\n", {DESTINATION: [RITA]}, submission.priority)])
        await asyncio.sleep(0.002)  # the same
    async with relaying(address) as relay:
        claimed = await relay.claim(DESTINATION, 10)
    assert [entry.queue_id for entry in claimed.entries] == expected


async def test_submission_made_again_is_known_by_two_processes_at_once(
    address: RedisAddress, client: redis.Redis
) -> None:
    """Whichever comes first counts, also when they race; nothing else is left of the others."""
    content = b"x" * (CHUNK_BYTES + 1)
    copies = [make(number, Options(), content=content, fingerprint=FINGERPRINT) for number in range(1, 5)]
    async with spooling(address) as one, spooling(address) as two:
        kept = await asyncio.gather(*(spool.submit(copy) for copy in copies[:2] for spool in (one, two)))
        kept += await asyncio.gather(one.submit(copies[2]), two.submit(copies[3]))
    assert len(set(kept)) == 1
    assert claim_ids(SignQueue(address, LEASE_S)) == [kept[0]]
    assert list(client.scan_iter(f"{keys.MESSAGE}*")) == [keys.message(kept[0]).encode()]
    assert list(client.scan_iter(f"{keys.CONTENT}*")) == [keys.content(kept[0]).encode()]


async def test_submission_of_another_client_or_after_the_window_is_new(address: RedisAddress) -> None:
    """Without a fingerprint, with another one, and without a window each message counts."""
    first = make(1, Options(), fingerprint=FINGERPRINT)
    others = [make(2, Options()), make(3, Options()), make(4, Options(), fingerprint=b"\x08" * 32)]
    async with spooling(address) as spool:
        kept = [await spool.submit(one) for one in (first, *others)]
    async with spooling(address, repeats_known_s=0) as spool:
        kept.append(await spool.submit(make(5, Options(), fingerprint=FINGERPRINT)))
    assert len(set(kept)) == 5


async def test_submission_whose_answer_was_lost_is_not_taken_back_when_it_is_made_again(
    address: RedisAddress, client: redis.Redis
) -> None:
    """The client heard 451, tried again and heard 250: the withdrawal that comes last must not lose the message."""
    first, again = (make(number, Options(), fingerprint=FINGERPRINT) for number in (1, 2))
    async with spooling(address) as spool, spooling(address) as other:
        Runner(client).run([spool._spool_call(first, 0)])  # noqa: SLF001 - what ran although no answer came
        assert await other.submit(again) == first.queue_id
        spool._withdraw(first)  # noqa: SLF001 - what the timeout of `submit` does
        await wait_until_async(lambda: not spool._withdrawals, "the withdrawal is answered")  # noqa: SLF001 - same
    assert claim_ids(SignQueue(address, LEASE_S)) == [first.queue_id]


async def test_submission_that_was_taken_back_is_new_when_it_is_made_again(
    address: RedisAddress, client: redis.Redis
) -> None:
    """The withdrawal forgets the fingerprint with the message, in one step."""
    first, again = (make(number, Options(), fingerprint=FINGERPRINT) for number in (1, 2))
    async with spooling(address) as spool:
        Runner(client).run([spool._spool_call(first, 0)])  # noqa: SLF001 - what ran although no answer came
        spool._withdraw(first)  # noqa: SLF001 - what the timeout of `submit` does
        await wait_until_async(lambda: not spool._withdrawals, "the withdrawal is answered")  # noqa: SLF001 - same
        assert await spool.submit(again) == again.queue_id
    assert claim_ids(SignQueue(address, LEASE_S)) == [again.queue_id]


async def test_submission_known_after_the_first_is_delivered_is_answered_like_it(address: RedisAddress) -> None:
    """A client that repeats after minutes finds the message gone, and its queue-id still known."""
    first = make(1, Options(), fingerprint=FINGERPRINT)
    async with spooling(address) as spool:
        await spool.submit(first)
        queue = SignQueue(address, LEASE_S)
        queue.claim()
        queue.record([Signed(first.queue_id, b"", {DESTINATION: [RITA]})])
        async with relaying(address) as relay:
            (entry,) = (await relay.claim(DESTINATION, 1)).entries
            await relay.record(entry, _DONE)
        assert await spool.submit(replace(first, queue_id=format_queue_id(2, 2))) == first.queue_id
    assert claim_ids(SignQueue(address, LEASE_S)) == []
