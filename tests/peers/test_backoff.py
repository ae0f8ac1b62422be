"""A destination that cannot be reached: one message at a time finds out, the others wait, and nobody is forgotten."""

import asyncio
import json
from collections.abc import Sequence
from typing import cast

import pytest
import redis
from typing_extensions import override

from ptt.core.address import Address
from ptt.core.envelope import Envelope, QueueId, format_envelope, parse_time_ms
from ptt.core.options import ByMode, Deadline, Options
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Deferred, Delivered, Outcome, Scope
from ptt.core.ports import Courier
from ptt.core.reply import Reply
from ptt.core.wakeup import RELAY_QUEUE
from ptt.store import keys
from ptt.store.attempts import Attempt
from ptt.store.connection import RedisAddress
from ptt.store.relay_queue import RelayQueue
from ptt.tasks.attempt import AttemptPolicy
from ptt.tasks.relay import RelayService
from ptt.tasks.window import FIRST_WINDOW
from tests.peers.queue_tools import ANN, ONE, Run, list_json
from tests.servers.redis import RedisServer
from tests.spooled import LEASE_S, SENDER, enqueue, relaying
from tests.waiting import wait_until_async

UNREACHED = Deferred(reason="no connection at connect", scope=Scope.DOMAIN)
POLICY = AttemptPolicy(
    retry_schedule_s=[900, 1800],
    max_age_s=432_000,
    delay_notice_after_s=14_400,
    holds_uncertain=False,
    jitter=lambda: 0.0,
)


class FixedCourier(Courier):
    """Gives all recipients the same outcome."""

    def __init__(self, outcome: Outcome) -> None:
        """Give this one."""
        self.outcome = outcome
        self.seen: list[QueueId] = []

    @override
    async def deliver(self, destination: str, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Say so."""
        self.seen.append(message.queue_id)
        return [(recipient, self.outcome) for recipient in message.recipients]

    @override
    async def close(self) -> None:
        """Have nothing to close."""


async def serve(address: RedisAddress, courier: Courier) -> None:
    """Serve one wake-up of the destination, to its end."""
    service = RelayService(RelayQueue(address, LEASE_S), courier, POLICY, LEASE_S)
    await service.start()
    try:
        await service.serve(ONE)
    finally:
        await service.stop()


def end_backoff(client: redis.Redis) -> None:
    """Let the time of the back-off come."""
    client.hset(keys.backoff(ONE), "until", 1)


def read_backoff_s(client: redis.Redis) -> tuple[int, float]:
    """Give the failures in a row, and for how long the destination is left alone."""
    seconds, microseconds = client.time()
    failures, until_ms = client.hmget(keys.backoff(ONE), ("failures", "until"))
    return int(failures or 0), int(until_ms or 0) / 1000 - seconds - microseconds / 1e6


async def test_unreached_destination_is_asked_by_one_message_a_step(
    address: RedisAddress, valkey: RedisServer, client: redis.Redis, ptt: Run
) -> None:
    """After the first window nothing is tried until the back-off ends, and then one: the rest cost no wake-up."""
    names = [await enqueue(address, number, ANN) for number in range(FIRST_WINDOW + 15)]
    courier = FixedCourier(UNREACHED)
    await serve(address, courier)
    assert len(courier.seen) == FIRST_WINDOW
    failures, left_s = read_backoff_s(client)
    assert failures == 1
    assert 30 < left_s <= 60
    assert client.zscore(keys.DESTINATIONS, ONE) == float(client.hget(keys.backoff(ONE), "until") or 0)
    with valkey.client(address.broker_db) as broker:
        broker.delete(RELAY_QUEUE)
        names.append(await enqueue(address, 90, ANN))
        assert broker.llen(RELAY_QUEUE) == 0
    await serve(address, courier)
    assert len(courier.seen) == FIRST_WINDOW
    listed = list_json(ptt)
    assert {one["state"] for one in listed} == {"waiting"}
    assert {one["reason"] for one in listed} == {"no connection at connect"}
    for step, expected_s in ((2, 120), (3, 240)):
        end_backoff(client)
        await serve(address, courier)
        failures, left_s = read_backoff_s(client)
        assert (failures, len(courier.seen)) == (step, FIRST_WINDOW + step - 1)
        assert expected_s / 2 < left_s <= expected_s
    assert sorted(set(courier.seen)) == sorted(names[: FIRST_WINDOW + 2])


async def test_reached_destination_drains_at_once(address: RedisAddress, valkey: RedisServer) -> None:
    """The first success ends the back-off: all that was never tried is due, whatever step had been reached."""
    names = [await enqueue(address, number, ANN) for number in range(FIRST_WINDOW + 40)]
    with valkey.client() as client:
        await serve(address, FixedCourier(UNREACHED))
        client.hset(keys.backoff(ONE), mapping={"failures": 7})
        end_backoff(client)
        courier = FixedCourier(Delivered(reply=Reply(250, "2.0.0", "ok")))
        service = RelayService(RelayQueue(address, LEASE_S), courier, POLICY, LEASE_S)
        await service.start()
        try:
            await service.serve(ONE)
            assert not client.exists(keys.backoff(ONE))
            await service.serve(ONE)
            await wait_until_async(lambda: len(courier.seen) == 40, "all that was never tried is delivered")
        finally:
            await service.stop()
        assert sorted(courier.seen) == sorted(names[FIRST_WINDOW:])


async def test_probe_that_says_nothing_of_the_destination_leaves_its_backoff(
    address: RedisAddress, client: redis.Redis
) -> None:
    """It asked for more than others do, or crashed in our own code: the next one finds out, after the same step."""
    names = [await enqueue(address, number, ANN) for number in range(3)]
    client.hset(keys.backoff(ONE), mapping={"until": 1, "failures": 3})
    courier = FixedCourier(Deferred(reason="unexpected error", scope=Scope.ATTEMPT))
    await serve(address, courier)
    assert courier.seen == names[:1]
    failures, left_s = read_backoff_s(client)
    assert failures == 3
    assert left_s <= 0
    courier.outcome = UNREACHED
    await serve(address, courier)
    assert courier.seen == names[:2]
    failures, left_s = read_backoff_s(client)
    assert failures == 4
    assert 475 < left_s <= 480


@pytest.mark.parametrize(
    ("failures", "left_s", "step", "wait_s"), [(3, 100, 3, 101), (3, 1000, 4, 480), (0, 30, 1, 31)]
)
async def test_backoff_that_a_deadline_cuts_short_is_no_step(  # noqa: PLR0913, PLR0917 - a case
    address: RedisAddress, client: redis.Redis, failures: int, left_s: int, step: int, wait_s: int
) -> None:
    """RFC 2852: the sender is told in time, and the others are not left alone for longer because of it."""
    name = await enqueue(address, 1, ANN)
    envelope = Envelope(
        user="alice",
        reverse_path=SENDER,
        recipients=(ANN,),
        options=Options(deadline=Deadline(at=parse_time_ms(name) // 1000 + left_s, mode=ByMode.NOTIFY)),
    )
    client.hset(keys.message(name), "envelope", format_envelope(envelope))
    if failures:
        client.hset(keys.backoff(ONE), mapping={"until": 1, "failures": failures})
    await serve(address, FixedCourier(UNREACHED))
    found, found_s = read_backoff_s(client)
    assert found == step
    assert wait_s - 5 < found_s <= wait_s


async def test_message_level_refusal_does_not_back_off(address: RedisAddress, valkey: RedisServer) -> None:
    """Greylisting says nothing of the other messages: each is tried, and each has its own time."""
    for number in range(3 * FIRST_WINDOW):
        await enqueue(address, number, ANN)
    greylisted = Deferred(reason="refused for now", scope=Scope.RECIPIENT, reply=Reply(451, "4.7.1", "later"))
    courier = FixedCourier(greylisted)
    await serve(address, courier)
    assert len(courier.seen) == 3 * FIRST_WINDOW
    with valkey.client() as client:
        assert not client.exists(keys.backoff(ONE))


async def test_waiting_messages_are_told_of_and_given_up_untried(address: RedisAddress, valkey: RedisServer) -> None:
    """What is too old fails and what is late is told of once, although only the probe is ever tried."""
    names = [await enqueue(address, number, ANN) for number in range(FIRST_WINDOW + 6)]
    old, late, fresh = names[FIRST_WINDOW : FIRST_WINDOW + 2], names[FIRST_WINDOW + 2 : -1], names[-1]
    with valkey.client() as client:
        now_ms = client.time()[0] * 1000
        for name in old:
            client.hset(keys.message(name), "accepted", now_ms - 500_000_000)
        for name in late:
            client.hset(keys.message(name), "accepted", now_ms - 20_000_000)
        courier = FixedCourier(UNREACHED)
        await serve(address, courier)
        assert not set(courier.seen) & {*old, *late, fresh}
        assert all(read_records(client, name) == ["failed"] for name in old)
        assert all(read_records(client, name) == ["delayed"] for name in late)
        assert read_records(client, fresh) == []
        assert [client.zscore(keys.queue(ONE), name) for name in old] == [None, None]
        end_backoff(client)
        await serve(address, courier)
        assert all(read_records(client, name) == ["delayed"] for name in late)


def read_records(client: redis.Redis, name: QueueId) -> list[str]:
    """Give what the sender of a message is to be told."""
    fields = cast("dict[bytes, bytes]", client.hgetall(keys.delivery(name)))
    records = [value.partition(b" ")[2] for field, value in fields.items() if field.startswith(b"d:")]
    return [json.loads(record)[0][2] for record in records]


async def test_one_connection_that_fails_does_not_stop_those_that_work(
    address: RedisAddress, valkey: RedisServer
) -> None:
    """A success after the failure ends the back-off, also of a message that was claimed before it began."""
    await enqueue(address, 1, ANN)
    await enqueue(address, 2, ANN)
    queue = RelayQueue(address, LEASE_S)
    queue.start()
    try:
        with valkey.client() as client:
            service = RelayService(queue, FirstFails(client), POLICY, LEASE_S)
            await asyncio.wait_for(service.serve(ONE), 30)
            assert not client.exists(keys.backoff(ONE))
    finally:
        await queue.close()


class FirstFails(FixedCourier):
    """The second message is delivered after the first has made the destination back off."""

    def __init__(self, client: redis.Redis) -> None:
        """Watch the back-off in this Redis."""
        super().__init__(UNREACHED)
        self._client = client

    @override
    async def deliver(self, destination: str, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Fail first, then wait for that to be known and succeed."""
        if not self.seen:
            return await super().deliver(destination, message)
        await wait_until_async(lambda: self._client.exists(keys.backoff(ONE)) == 1, "the destination backs off")
        return [(recipient, Delivered(reply=Reply(250, "2.0.0", "ok"))) for recipient in message.recipients]


async def test_expired_probe_without_a_report_lets_the_others_expire(
    address: RedisAddress, valkey: RedisServer
) -> None:
    """The probe is forgotten in the record that makes the destination back off: the rest is looked at all the same."""
    names = [await enqueue(address, number, ANN, reverse_path=None) for number in range(FIRST_WINDOW + 5)]
    with valkey.client() as client:
        for name in names:
            client.hset(keys.message(name), "accepted", client.time()[0] * 1000 - 500_000_000)
        courier = FixedCourier(UNREACHED)
        await serve(address, courier)
        assert len(courier.seen) == FIRST_WINDOW
        assert not client.exists(*(keys.message(name) for name in names))


async def test_probe_that_finds_nothing_out_makes_room_for_the_next(address: RedisAddress, valkey: RedisServer) -> None:
    """It was given back untried: the destination does not wait for the end of its lease."""
    await enqueue(address, 1, ANN)
    with valkey.client() as client:
        client.hset(keys.backoff(ONE), mapping={"until": 1, "failures": 3})
        client.expire(keys.backoff(ONE), 60)
        async with relaying(address) as queue:
            (probe,) = (await queue.claim(ONE, 5)).entries
            assert (await queue.claim(ONE, 5)).entries == ()
            await queue.record(probe, Attempt(remaining=[ANN], delay_s=0, counts=False, history=b""))
            (again,) = (await queue.claim(ONE, 5)).entries
            assert again.failures == 3


async def test_doubt_about_a_waiting_message_is_told(
    address: RedisAddress, valkey: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its worker died after the dot; told of as late, untried, it is listed: it may be sent twice."""
    names = [await enqueue(address, number, ANN) for number in range(FIRST_WINDOW + 1)]
    with valkey.client() as client:
        client.hset(keys.message(names[-1]), "accepted", client.time()[0] * 1000 - 20_000_000)
        client.hset(keys.delivery(names[-1]), f"x:{ONE}", '["ann"]')
        await serve(address, FixedCourier(UNREACHED))
    listed = [vars(one)["fields"] for one in caplog.records if one.getMessage() == "recipient.uncertain"]
    assert [fields["queue_id"] for fields in listed] == [names[-1]]
