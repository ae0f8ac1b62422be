"""What users may send, counted by a real Valkey for several ingress processes at once."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis

from ptt.core.envelope import QueueId, Submission
from ptt.core.errors import Refused
from ptt.core.rates import Quota, Rates
from ptt.store import keys
from ptt.store.connection import RedisAddress
from ptt.store.sign_queue import SignQueue
from ptt.store.spool import CHUNK_BYTES, RedisSpool, connect_spool
from ptt.store.usage import read_usage
from tests.peers.test_spool import CONTENT, make_submission

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def make(number: int, rates: Rates, recipients: int = 1, content: bytes = CONTENT) -> Submission:
    """Make a submission that is counted."""
    quota = Quota(login="alice", recipients=recipients, rates=rates)
    return dataclasses.replace(make_submission(number, content), quota=quota)


@asynccontextmanager
async def spools(address: RedisAddress) -> AsyncIterator[tuple[RedisSpool, RedisSpool]]:
    """Connect two ingress processes."""
    first, second = await connect_spool(address), await connect_spool(address)
    try:
        yield first, second
    finally:
        await first.close()
        await second.close()


async def submit(spool: RedisSpool, submission: Submission) -> str:
    """Submit; give the refusal, or nothing."""
    try:
        await spool.submit(submission)
    except Refused as refusal:
        return str(refusal.reply)
    return ""


async def test_limit_holds_for_all_processes_and_exactly(address: RedisAddress, client: redis.Redis) -> None:
    """Ten at once through two processes with a limit of five: five are spooled, the others leave nothing."""
    rates = Rates(messages_per_hour=5)
    async with spools(address) as both:
        answers = await asyncio.gather(*(submit(both[number % 2], make(number, rates)) for number in range(10)))
    assert answers.count("") == 5
    refused = "451 4.7.1 You may send 5 messages an hour; try again in 60 minutes"
    assert answers.count(refused) == 5
    assert client.zcard(keys.SIGN) == 5
    assert len(list(client.scan_iter(f"{keys.MESSAGE}*"))) == 5
    assert 0 < client.pttl(keys.rate("alice")) <= DAY_MS


async def test_refusal_is_foreseen_until_the_window_ends_or_the_limit_changes(address: RedisAddress) -> None:
    """MAIL is refused without asking Redis; a raised limit counts at once."""
    rates, more = Rates(messages_per_day=1), Rates(messages_per_day=2)
    async with spools(address) as (first, second):
        assert await submit(first, make(1, rates)) == ""
        assert first.foresee_refusal(make(2, rates).quota) is None  # type: ignore[arg-type]  # made with a quota
        refusal = await submit(first, make(2, rates))
        assert refusal == "451 4.7.1 You may send 1 messages a day; try again in 24 hours"
        quota = make(3, rates).quota
        assert quota is not None
        assert str(first.foresee_refusal(quota)) == refusal
        assert second.foresee_refusal(quota) is None
        raised = dataclasses.replace(quota, rates=more)
        assert first.foresee_refusal(raised) is None
        assert await submit(first, make(3, more)) == ""


async def test_window_that_ended_starts_anew(address: RedisAddress, client: redis.Redis) -> None:
    """An hour that is over leaves the day as it was."""
    rates = Rates(messages_per_hour=1, messages_per_day=2)
    async with spools(address) as (spool, _):
        assert await submit(spool, make(1, rates)) == ""
        assert "an hour" in await submit(spool, make(2, rates))
        client.hset(keys.rate("alice"), "hour_ends", 1)
        assert await submit(spool, make(3, rates)) == ""
        assert "a day" in await submit(spool, make(4, rates)), "the longer wait is named"
        client.hset(keys.rate("alice"), mapping={"hour_ends": 1, "day_ends": 1})
        assert await submit(spool, make(5, rates)) == ""
    usage = read_usage(address, "alice")
    assert (usage.messages_this_hour, usage.messages_this_day, usage.recipients_this_day) == (1, 1, 1)
    assert 0 < usage.hour_ends_in_s <= HOUR_MS / 1000


async def test_recipients_are_counted_and_what_is_left_may_be_used(address: RedisAddress) -> None:
    """A refused message is not counted, and a smaller one still passes."""
    rates = Rates(recipients_per_day=10)
    async with spools(address) as (spool, _):
        assert await submit(spool, make(1, rates, recipients=8)) == ""
        refusal = await submit(spool, make(2, rates, recipients=3))
        assert refusal == "452 4.7.1 You may send 10 recipients a day, 2 are left; try again in 24 hours"
        assert spool.foresee_refusal(Quota(login="alice", recipients=1, rates=rates)) is None
        assert await submit(spool, make(3, rates, recipients=2)) == ""


async def test_repeated_command_counts_once(address: RedisAddress) -> None:
    """A spool command whose answer was lost is sent again: the user must not pay for it."""
    rates = Rates(messages_per_hour=2)
    async with spools(address) as (spool, _):
        for number in (1, 1, 1, 2):
            assert await submit(spool, make(number, rates)) == ""
    assert read_usage(address, "alice").messages_this_hour == 2


async def test_refused_large_message_leaves_no_chunks(address: RedisAddress, client: redis.Redis) -> None:
    """The threat: who is over a limit fills the memory of Redis with uploads."""
    rates = Rates(messages_per_hour=1)
    async with spools(address) as (spool, _):
        assert await submit(spool, make(1, rates)) == ""
        large = make(2, rates, content=b"x" * (CHUNK_BYTES + 1))
        assert "an hour" in await submit(spool, large)
    assert list(client.scan_iter(f"{keys.CONTENT}*")) == []


@pytest.mark.parametrize("rates", [Rates(), None])
async def test_user_without_limits_costs_nothing(
    address: RedisAddress, client: redis.Redis, rates: Rates | None
) -> None:
    """No key is written."""
    submission = make_submission(1) if rates is None else make(1, rates)
    async with spools(address) as (spool, _):
        assert await submit(spool, submission) == ""
    assert list(client.scan_iter(f"{keys.RATE}*")) == []
    assert read_usage(address, "alice").messages_this_day == 0


async def test_refused_message_is_never_signed(address: RedisAddress) -> None:
    """RFC 5321 section 4.2.5: what was answered with 4yz is not delivered."""
    rates = Rates(messages_per_hour=1)
    async with spools(address) as (spool, _):
        for number in (1, 2):
            await submit(spool, make(number, rates))
    queue = SignQueue(address, 30)
    claimed: list[QueueId] = [entry.queue_id for entry in queue.claim()[0]]
    assert claimed == [make(1, rates).queue_id]
