"""A claim whose answer is lost leaves nothing behind: what it leased is due again, and no worker has died on it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import redis

from ptt.core.envelope import QueueId
from ptt.core.errors import Unavailable
from ptt.store import keys
from ptt.store.attempts import Attempt, Records
from ptt.store.connection import RedisAddress
from ptt.store.entries import Claim
from ptt.store.report_queue import ReportQueue
from ptt.store.sign_queue import Signed, SignQueue
from tests.chaos.proxy import Proxy, Way
from tests.peers.queue_tools import ANN, ONE, now_ms
from tests.restarts import pretend_restart
from tests.servers.ports import free_port
from tests.servers.redis import SAFE, running_server
from tests.spooled import LEASE_S, accept, enqueue, relaying
from tests.waiting import wait_until_async


@dataclass(frozen=True, slots=True)
class Rig:
    """A server, and a proxy in front of it."""

    direct: RedisAddress
    proxied: RedisAddress
    proxy: Proxy
    client: redis.Redis

    async def lose_answer(self, is_done: Callable[[], object]) -> None:
        """Hold answers until Redis has done it, then reset all connections."""
        await wait_until_async(is_done, "redis has run it")
        self.proxy.reset_all()
        self.proxy.heal()


@asynccontextmanager
async def rigged() -> AsyncIterator[Rig]:
    """Run both."""
    port, front = free_port(), free_port()
    with running_server(options={**SAFE, "port": str(port)}) as server, server.client() as client:
        async with Proxy.running(("127.0.0.1", port), "127.0.0.1", front) as proxy:
            yield Rig(RedisAddress(url=server.url), RedisAddress(url=f"redis://127.0.0.1:{front}/1"), proxy, client)


@pytest.mark.parametrize(("is_stopped", "later_ms"), [(False, 0), (True, 0), (False, 90_000), (False, 65_000)])
async def test_relay_claim_whose_answer_is_lost_is_taken_back(is_stopped: bool, later_ms: int) -> None:  # noqa: FBT001 - a case
    """All of it is due at once for whoever asks next, none of it under suspicion; nothing more was taken meanwhile."""
    async with rigged() as rig, relaying(rig.proxied) as queue, relaying(rig.direct) as other:
        names = [await enqueue(rig.direct, number, ANN) for number in range(3)]
        await queue.sweep()
        pretend_restart(queue)  # connected, and only the claim is to be held
        rig.proxy.hold(Way.BACK)
        claiming = asyncio.create_task(queue.claim(ONE, 2))
        owner = (keys.delivery(names[1]), f"o:{ONE}")
        if is_stopped:
            await wait_until_async(lambda: rig.client.hexists(*owner), "two are leased")
            claiming.cancel()
        if later_ms:
            await wait_until_async(lambda: rig.client.hexists(*owner), "two are leased")
            for name in names[:2]:  # as if Redis had been away for so long
                rig.client.zincrby(keys.queue(ONE), -later_ms, name)
        await rig.lose_answer(lambda: rig.client.hexists(*owner))
        with pytest.raises(asyncio.CancelledError if is_stopped else Unavailable):
            await claiming
        await wait_until_async(lambda: not rig.client.hexists(*owner), "the leases are given back")
        assert (rig.client.zscore(keys.DESTINATIONS, ONE) or 0) <= now_ms(rig.client) + 1000
        found = (await other.claim(ONE, 5)).entries
        assert {entry.queue_id: entry.claims for entry in found} == dict.fromkeys(names, 0)


async def test_probe_whose_claim_is_lost_makes_room_for_the_next() -> None:
    """The destination does not wait for the end of a lease that nobody has."""
    async with rigged() as rig, relaying(rig.proxied) as queue, relaying(rig.direct) as other:
        name = await enqueue(rig.direct, 1, ANN)
        rig.client.hset(keys.backoff(ONE), mapping={"until": 1, "failures": 3})
        await queue.sweep()
        pretend_restart(queue)  # connected, and only the claim is to be held
        rig.proxy.hold(Way.BACK)
        claiming = asyncio.create_task(queue.claim(ONE, 5))
        await rig.lose_answer(lambda: rig.client.hexists(keys.delivery(name), f"o:{ONE}"))
        with pytest.raises(Unavailable):
            await claiming
        await wait_until_async(lambda: not rig.client.hexists(keys.delivery(name), f"o:{ONE}"), "it is given back")
        (probe,) = (await other.claim(ONE, 5)).entries
        assert (probe.failures, probe.claims) == (3, 0)


async def test_claim_that_comes_late_leases_nothing(address: RedisAddress, client: redis.Redis) -> None:
    """A partition that heals delivers what its worker gave up long ago: nobody would work on it."""
    of_long_ago = {"uptime_in_seconds": 1000, "server_time_usec": (now_ms(client) - 60_000) * 1000}
    signing = SignQueue(address, LEASE_S)
    waiting = await accept(address, 1, ANN)
    pretend_restart(signing, of_long_ago)  # as if the claim had been under way since
    assert signing.claim() == ([], [])
    assert not client.hexists(keys.message(waiting), "owner")
    name = await fail(address, client, 2)
    reports = ReportQueue(address, LEASE_S)
    pretend_restart(reports, of_long_ago)
    assert reports.claim() == ([], [])
    assert not client.hexists(keys.delivery(name), "report_owner")
    name = await enqueue(address, 3, ANN)
    async with relaying(address) as queue:
        pretend_restart(queue, of_long_ago)
        assert await queue.claim(ONE, 5) == Claim()
    assert not client.hexists(keys.delivery(name), f"o:{ONE}")


@pytest.mark.parametrize("kind", [SignQueue, ReportQueue])
async def test_claim_of_the_sign_role_whose_answer_is_lost_is_made_again(kind: type[SignQueue | ReportQueue]) -> None:
    """The worker is given the same messages, none of them under suspicion: not alone, and not counted twice."""
    async with rigged() as rig:
        if kind is SignQueue:
            names = [await accept(rig.direct, number, ANN) for number in range(3)]
        else:
            names = [await fail(rig.direct, rig.client, number) for number in range(3)]
        fields = keys.Fields(kind.stage)
        queue = kind(rig.proxied, LEASE_S)
        await asyncio.to_thread(queue._runner.client.ping)  # noqa: SLF001 - connected, and only the claim is to be held
        pretend_restart(queue)
        rig.proxy.hold(Way.BACK)
        claiming = asyncio.create_task(asyncio.to_thread(claim_names, queue))
        await rig.lose_answer(lambda: rig.client.hexists(keys.state(names[-1], kind.stage), fields.owner))
        assert await claiming == names
        assert [rig.client.hget(keys.state(name, kind.stage), fields.claims) for name in names] == [b"1"] * 3


def claim_names(queue: SignQueue | ReportQueue) -> list[QueueId]:
    """Claim, and give the queue-ids."""
    if isinstance(queue, SignQueue):
        return [entry.queue_id for entry in queue.claim()[0]]
    return [entry.message.queue_id for entry in queue.claim()[0]]


async def test_record_of_the_sign_role_whose_answer_is_lost_is_no_death() -> None:
    """Redis is away before it runs: the next claim of this worker gives the message again, as if it were new."""
    async with rigged() as rig:
        name = await accept(rig.direct, 1, ANN)
        queue = SignQueue(rig.proxied, LEASE_S)
        ((entry,), _) = await asyncio.to_thread(queue.claim)
        rig.proxy.refuse()
        with pytest.raises(Unavailable):
            await asyncio.to_thread(queue.record, [Signed(entry.queue_id, b"S: x\r\n", {ONE: [ANN]})])
        rig.proxy.heal()
        assert [one.queue_id for one in (await asyncio.to_thread(queue.claim))[0]] == [name]
        assert rig.client.hget(keys.message(name), "claims") == b"1"
        assert await asyncio.to_thread(queue.record, [Signed(name, b"S: x\r\n", {ONE: [ANN]})]) == [True]


async def fail(address: RedisAddress, client: redis.Redis, number: int) -> QueueId:
    """Have a message fail, so that a report is due."""
    name = await enqueue(address, number, ANN)
    async with relaying(address) as queue:
        (entry,) = (await queue.claim(ONE, 1)).entries
        told = Records(final=(b"[]",))
        await queue.record(entry, Attempt(remaining=(), delay_s=0, counts=True, history=b"[]", records=told))
    client.zadd(keys.REPORTS, {name: number})
    return name
