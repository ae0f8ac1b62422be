"""A Redis that restarts again and again: what is held for a while hides nothing, keeps its place, and is let go."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import redis

from ptt.core.envelope import QueueId
from ptt.store import keys
from ptt.store.batch import Batch
from ptt.store.connection import RedisAddress, connect_async
from ptt.store.runner import Runner
from ptt.store.scripts import SCRIPTS, Call
from ptt.store.sign_queue import Signed, SignQueue
from ptt.store.stage_queue import BATCH
from ptt.store.sweep import sweep_call
from tests.chaos.proxy import reset
from tests.peers.queue_tools import ANN, ONE, now_ms
from tests.restarts import pretend_restart
from tests.servers.ports import free_port
from tests.spooled import LEASE_S, accept, enqueue, relaying
from tests.waiting import wait_until_async

AHEAD_MS = 50_000
"""By how much the restarts of these tests lie ahead, so that no busy machine comes to the end of what they begin."""
PLAIN_MS = keys.lead_ms(0)
MAX_GAP_S = 0.5
"""Redis may be there for a second only: so soon it is asked again, however long it was away."""


def restart(queue: object, at_ms: int) -> None:
    """Let a queue believe that Redis has just restarted."""
    pretend_restart(queue, {"uptime_in_seconds": 0, "server_time_usec": at_ms * 1000})


def put(client: redis.Redis, names: Sequence[QueueId], at_ms: int, lead_ms: int = PLAIN_MS) -> None:
    """Let messages be accepted at this time, one each millisecond."""
    for number, name in enumerate(names):
        client.hset(keys.message(name), "accepted", at_ms + number)
        client.zadd(keys.SIGN, {name: at_ms + number - lead_ms})


def list_sign(client: redis.Redis) -> list[str]:
    """Give the sign queue in its order."""
    return [name.decode() for name in cast("list[bytes]", client.zrange(keys.SIGN, 0, -1))]


async def accept_many(address: RedisAddress, count: int, first: int = 0) -> list[QueueId]:
    """Accept messages."""
    return [await accept(address, first + number, ANN) for number in range(count)]


async def test_mail_that_is_held_after_a_restart_hides_no_new_mail_and_keeps_its_place(
    address: RedisAddress, client: redis.Redis
) -> None:
    """More than a claim looks at is from before: what came since is signed at once, and later the old in its order."""
    old, new = await accept_many(address, BATCH + 1), await accept_many(address, 3, 500)
    restarted_ms = now_ms(client) + AHEAD_MS
    put(client, old, restarted_ms - 10_000)
    put(client, new[:2], restarted_ms)
    put(client, new[2:], restarted_ms + 1000, keys.lead_ms(9))
    before = [*(new[2:]), *old, *new[:2]]
    assert list_sign(client) == before
    queue = SignQueue(address, LEASE_S)
    restart(queue, restarted_ms)
    assert [entry.queue_id for entry in queue.claim()[0]] == [new[2], *new[:2]]
    assert queue.claim() == ([], [])
    assert list_sign(client)[: len(old)] == old
    pretend_restart(queue)
    assert [entry.queue_id for entry in queue.claim()[0]] == old[:BATCH]


def give_to_the_dead(client: redis.Redis, queue: keys.Stage, names: Sequence[QueueId], ended_ms: int) -> None:
    """Let somebody own messages whose lease has ended."""
    for name in names:
        client.hset(keys.state(name, queue), keys.Fields(queue).owner, "somebody")
        client.zadd(keys.queue(queue), {name: ended_ms})


async def test_leases_that_are_left_to_their_signers_hide_nothing(address: RedisAddress, client: redis.Redis) -> None:
    """As many as a claim looks at are owned since before the restart: it gives what comes behind them."""
    names = await accept_many(address, BATCH + 1)
    give_to_the_dead(client, "", names[:-1], 1)
    queue = SignQueue(address, LEASE_S)
    # Long enough ago for nothing to be held for ingress any more.
    pretend_restart(queue, {"uptime_in_seconds": 2 * keys.WITHDRAWAL_MS // 1000})
    assert [entry.queue_id for entry in queue.claim()[0]] == names[-1:]


async def test_leases_that_are_left_to_their_relays_hide_nothing(address: RedisAddress, client: redis.Redis) -> None:
    """The same at a destination."""
    names = [await enqueue(address, number, ANN) for number in range(4)]
    give_to_the_dead(client, ONE, names[:-1], 1)
    async with relaying(address) as queue:
        restart(queue, now_ms(client) + AHEAD_MS)
        assert [entry.queue_id for entry in (await queue.claim(ONE, 2)).entries] == names[-1:]


async def test_lease_of_a_dead_worker_ends_however_often_redis_restarts(
    address: RedisAddress, client: redis.Redis
) -> None:
    """Who has renewed through none of several graces is dead; who renews has all of them again."""
    name = await enqueue(address, 1, ANN)
    restarted_ms = now_ms(client) + AHEAD_MS
    async with relaying(address) as owner, relaying(address) as other:
        (entry,) = (await owner.claim(ONE, 1)).entries

        async def restart_again() -> Sequence[QueueId]:
            """Let the grace end and Redis restart; give what a claim finds."""
            ends_ms = cast("float", client.zscore(keys.queue(ONE), name))
            client.zincrby(keys.queue(ONE), -int(ends_ms), name)
            restart(other, restarted_ms)
            return [one.queue_id for one in (await other.claim(ONE, 1)).entries]

        for _ in range(keys.MAX_GRACES):
            assert await restart_again() == []
            assert int(client.zscore(keys.queue(ONE), name) or 0) == restarted_ms + keys.RESTART_GRACE_MS
        await owner.renew(entry)
        for _ in range(keys.MAX_GRACES):
            assert await restart_again() == []
        assert await restart_again() == [name]


async def test_mail_that_comes_due_again_has_its_share_of_a_long_queue(
    address: RedisAddress, client: redis.Redis
) -> None:
    """What was given back lies behind the plain mail of nine minutes: a queue that is never empty lets it go too."""
    retried = [await enqueue(address, number, ANN) for number in range(4)]
    fresh = [await enqueue(address, 100 + number, ANN) for number in range(20)]
    due_ms = now_ms(client) - 1000
    client.zadd(keys.queue(ONE), {name: due_ms + number for number, name in enumerate(retried)})
    async with relaying(address) as queue:
        pretend_restart(queue)
        found = [[entry.queue_id for entry in (await queue.claim(ONE, 10)).entries] for _ in range(3)]
    assert found == [[*retried[:2], *fresh[:8]], [*retried[2:], *fresh[8:16]], fresh[16:]]


async def test_lease_that_ended_at_the_signer_has_its_share_of_a_long_queue(
    address: RedisAddress, client: redis.Redis
) -> None:
    """The same before the signature: what was taken back from a lost claim is signed before the queue is empty."""
    names = await accept_many(address, 2 * BATCH)
    client.zadd(keys.SIGN, {names[0]: now_ms(client) - 1000})
    queue = SignQueue(address, LEASE_S)
    pretend_restart(queue)
    assert [entry.queue_id for entry in queue.claim()[0]] == names[:BATCH]


async def test_message_that_a_signer_has_claimed_is_taken_back(address: RedisAddress, client: redis.Redis) -> None:
    """Its client heard 451, and until it is signed nothing has left: who is about to sign it has lost its lease."""
    name = await accept(address, 1, ANN)
    queue = SignQueue(address, LEASE_S)
    assert [entry.queue_id for entry in queue.claim()[0]] == [name]
    call = Call(SCRIPTS["withdraw"], (keys.message(name), keys.SIGN, keys.content(name)), (name, keys.WITHDRAWN_TTL_MS))
    assert Runner(client).run([call]) == [1]
    assert queue.record([Signed(name, b"S: x\r\n", {ONE: [ANN]})]) == [False]
    assert not queue.park(name, "its content is gone")
    assert not client.exists(keys.SIGN, keys.delivery(name), keys.PARKED, keys.queue(ONE))


async def test_redis_that_is_away_is_asked_again_at_a_short_steady_pace() -> None:
    """It may be there for a second only: pauses that grew to a second would miss it."""
    asked_at: list[float] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked_at.append(asyncio.get_running_loop().time())
        reset(writer)

    port = free_port()
    async with await asyncio.start_server(hang_up, "127.0.0.1", port):
        client = connect_async(RedisAddress(url=f"redis://127.0.0.1:{port}/1"))
        batch = Batch(client)
        batch.start()
        batch.post(sweep_call(0))
        await wait_until_async(lambda: len(asked_at) >= 10, "redis is asked ten times")
        await batch.close()
        await client.aclose()
    # The shortest of the last, as a busy machine makes each longer.
    assert min(later - earlier for earlier, later in pairwise(asked_at[-5:])) < MAX_GAP_S
