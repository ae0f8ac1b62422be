"""What kills workers takes no innocent message along: suspects are handed out few at a time, and at last alone."""

import asyncio
from dataclasses import replace

import pytest
import redis

from ptt.core.address import Address
from ptt.core.envelope import format_queue_id
from ptt.core.errors import Unavailable
from ptt.core.wakeup import RELAY_QUEUE, SIGN_QUEUE
from ptt.store import keys
from ptt.store.connection import RedisAddress, connect
from ptt.store.entries import ANY, Claim, RelayEntry, Room
from ptt.store.relay_queue import RelayQueue
from ptt.store.runner import Runner, load_library
from ptt.store.sign_queue import SignQueue
from ptt.store.sweep import sweep_sign_call
from ptt.tasks.window import Suspicion
from tests.peers.queue_tools import ANN, ONE
from tests.restarts import pretend_restart
from tests.servers.redis import RedisServer
from tests.spooled import LEASE_S, accept, enqueue, relaying


def let_die(client: redis.Redis, claim: Claim) -> None:
    """Let the worker of what was claimed die, and its leases end."""
    for entry in claim.entries:
        client.zadd(keys.queue(ONE), {entry.queue_id: 1})


async def test_suspects_are_handed_out_few_at_a_time_and_at_last_alone(
    address: RedisAddress, client: redis.Redis
) -> None:
    """Thirty die with their worker: then ten at most, then one, go to a worker; fresh mail is not held up by them."""
    names = [await enqueue(address, number, ANN) for number in range(30)]
    async with relaying(address) as queue:
        pretend_restart(queue)
        let_die(client, await queue.claim(ONE, 50))
        fresh = await enqueue(address, 90, ANN)
        second = await queue.claim(ONE, 50)
        assert [entry.claims for entry in second.entries] == [1] * ANY.suspects + [0]
        assert second.entries[-1].queue_id == fresh
        assert second.left == 30 - ANY.suspects
        let_die(client, second)
        third = await queue.claim(ONE, 50, Room(suspects=0, last_tries=ANY.last_tries))
        assert [entry.claims for entry in third.entries] == [2]
        let_die(client, third)
        parked = await queue.claim(ONE, 50, Room(suspects=0, last_tries=0))
        assert parked.parked == (third.entries[0].queue_id,)
        assert parked.entries == ()
        assert len(set(names) - set(parked.parked)) == 29


async def test_signer_takes_a_suspect_alone(address: RedisAddress, client: redis.Redis) -> None:
    """One message that kills the signer is parked after three; the others of its batch are signed."""
    names = [await accept(address, number, ANN) for number in range(5)]
    queue = SignQueue(address, LEASE_S)
    pretend_restart(queue)
    assert len(queue.claim()[0]) == 5
    for name in names:
        client.zadd(keys.SIGN, {name: 1})
    poison = names[0]
    for _ in range(2):
        (suspect,), _ = queue.claim()
        assert suspect.queue_id == poison
        client.zadd(keys.SIGN, {poison: 0})
    entries, parked = queue.claim()
    assert parked == [poison]
    assert len(entries) == 1
    assert len({*names} - {poison, entries[0].queue_id}) == 3


async def test_wakeup_that_died_with_its_worker_hides_nothing(address: RedisAddress, valkey: RedisServer) -> None:
    """A flag whose list is empty is of a wake-up that nobody serves: the next sweep pushes another."""
    await enqueue(address, 1, ANN)
    await accept(address, 2, Address("bob", ONE))
    with valkey.client(address.broker_db) as broker:
        for name in (RELAY_QUEUE, SIGN_QUEUE):
            assert broker.llen(name) == 1
            broker.delete(name)
        queue = RelayQueue(address, LEASE_S)
        queue.start()
        await queue.sweep()
        await queue.close()
        Runner(connect(address)).run([sweep_sign_call(address.broker_db)])
        assert [broker.llen(name) for name in (RELAY_QUEUE, SIGN_QUEUE)] == [1, 1]


async def test_waiting_for_room_asks_redis_for_nothing() -> None:
    """Two that find no room do not wake each other: only a delivery that gives room back does, and wakes one."""
    suspicion = Suspicion()
    held = suspicion.reserve()
    first, second = (asyncio.create_task(suspicion.wait()) for _ in range(2))
    await asyncio.sleep(0)
    for _ in range(5):  # claims of others that give nothing
        suspicion.settle(suspicion.reserve(), ())
    await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    entry = make_suspect()
    suspicion.settle(held, [entry])
    delivery = asyncio.create_task(asyncio.sleep(0))
    suspicion.watch(entry, delivery)
    assert await first is True
    assert await second is False


def make_suspect() -> RelayEntry:
    """Make a message whose worker died once."""
    return RelayEntry(
        queue_id=format_queue_id(1, 1),
        destination=ONE,
        version=1,
        envelope_json=b"{}",
        signature=b"",
        chunks=0,
        content=b"",
        size_bytes=0,
        recipients=(ANN,),
        age_s=0,
        attempts=0,
        token="t",
        in_doubt=(),
        claims=1,
    )


async def test_functions_that_may_not_be_loaded_do_not_end_the_batch(
    address: RedisAddress, valkey: RedisServer
) -> None:
    """A role without the right hears so at once, and works again as soon as the administrator has loaded them."""
    await enqueue(address, 1, ANN)
    with valkey.client() as admin:
        admin.execute_command("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-function")
        try:
            poor = replace(address, url=address.url.replace("unix://", "unix://poor:x@"))
            async with relaying(poor) as queue:
                admin.function_flush("SYNC")
                with pytest.raises(Unavailable):
                    await queue.claim(ONE, 1)
                load_library(admin)
                assert len((await queue.claim(ONE, 1)).entries) == 1
        finally:
            admin.execute_command("ACL", "DELUSER", "poor")
