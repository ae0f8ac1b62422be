"""What goes wrong around the spool: Redis away, full, unsafe or slow to answer, and stops in the midst of a call."""

import asyncio
import time
from collections.abc import Callable

import pytest
import redis

from ptt import maillog
from ptt.core.errors import ConfigError, LeaseLost, Refused, Unavailable
from ptt.store import keys
from ptt.store.attempts import Recorded
from ptt.store.connection import RedisAddress
from ptt.store.relay_queue import RelayQueue
from ptt.store.runner import Runner
from ptt.store.server import check_server
from ptt.store.sign_queue import SignQueue
from ptt.store.spool import CHUNK_BYTES, SUBMIT_TIMEOUT_S, connect_spool
from tests.chaos.proxy import Proxy, Way
from tests.peers.test_spool import (
    CONTENT,
    DESTINATION,
    DONE,
    LEASE_S,
    RECIPIENT,
    make_submission,
    relay_queue,
    sign_all,
    submit,
)
from tests.restarts import pretend_restart
from tests.servers.ports import free_port
from tests.servers.redis import SAFE, debian_redis, running_server
from tests.waiting import wait_until_async


async def test_submit_without_redis_is_unavailable_in_time() -> None:
    """When Redis is away the client hears 451 within 5 s; what was unsure is taken back when Redis returns."""
    with running_server() as server:
        spool = await connect_spool(RedisAddress(url=server.url))
        try:
            server.kill()
            started = asyncio.get_running_loop().time()
            with pytest.raises(Unavailable):
                await spool.submit(make_submission())
            took_s = asyncio.get_running_loop().time() - started
            assert SUBMIT_TIMEOUT_S < 5
            assert took_s < 2 * SUBMIT_TIMEOUT_S  # no other wait comes on top, but this machine may be busy
            server.start()
            await spool.submit(make_submission(2))
            with server.client() as client:
                assert client.zrange(keys.SIGN, 0, -1) == [make_submission(2).queue_id.encode()]
        finally:
            await spool.close()


@pytest.mark.parametrize("find_binary", [debian_redis, lambda: None], ids=["redis", "valkey"])
async def test_submit_with_full_redis_is_refused_and_the_rest_goes_on(find_binary: Callable[[], str | None]) -> None:
    """Out of memory is 452 for new mail, while claims and records still work, alone and many at once."""
    with running_server(find_binary()) as server:
        address = RedisAddress(url=server.url)
        spool = await connect_spool(address)
        try:
            await spool.submit(make_submission(1))
            await spool.submit(make_submission(2))
            with server.client() as client:
                client.config_set("maxmemory", 1)
                with pytest.raises(Refused) as refused:
                    await spool.submit(make_submission(3))
                assert refused.value.reply.code == 452
                assert sign_all(SignQueue(address, LEASE_S)) == [
                    make_submission(1).queue_id,
                    make_submission(2).queue_id,
                ]
                async with relay_queue(address) as queue:
                    entries = (await queue.claim(DESTINATION, 2)).entries
                    recorded = await asyncio.gather(*(queue.record(entry, DONE) for entry in entries))
                    assert recorded == [Recorded.DONE, Recorded.DONE]
        finally:
            await spool.close()


@pytest.mark.parametrize(
    ("name", "value"), [("appendonly", "no"), ("appendfsync", "everysec"), ("maxmemory-policy", "allkeys-lru")]
)
def test_unsafe_redis_is_refused_with_one_line(name: str, value: str) -> None:
    """A server that may lose or delete mail is refused, unless that is asked for."""
    with running_server() as server:
        with server.client() as client:
            client.config_set(name, value)
        address = RedisAddress(url=server.url)
        with pytest.raises(ConfigError) as refused:
            check_server(address, allow_unsafe=False)
        assert [line.split(":")[1].strip() for line in refused.value.problems] == [name]
        check_server(address, allow_unsafe=True)


async def test_close_in_the_midst_of_a_call_ends_at_once(address: RedisAddress) -> None:
    """A stop must not hang when it meets a script under way, at whichever await of redis-py."""
    for turns in range(40):
        queue = RelayQueue(address, LEASE_S)
        queue.start()
        call = asyncio.create_task(queue.sweep())
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        async with asyncio.timeout(30):
            await queue.close()


async def test_expired_lease_taken_again_by_the_same_worker_voids_its_first_claim(
    address: RedisAddress, client: redis.Redis
) -> None:
    """A worker that was frozen claims its own entry again: of its two deliveries only the later may send the dot."""
    await submit(address, make_submission())
    sign_all(SignQueue(address, LEASE_S))
    async with relay_queue(address) as queue:
        pretend_restart(queue)
        (first,) = (await queue.claim(DESTINATION, 1)).entries
        client.zadd(keys.queue(DESTINATION), {first.queue_id: 1})
        (second,) = (await queue.claim(DESTINATION, 1)).entries
        with pytest.raises(LeaseLost):
            await queue.commit(first, [RECIPIENT], [RECIPIENT])
        await queue.commit(second, [RECIPIENT], [RECIPIENT])
        with pytest.raises(LeaseLost):
            await queue.record(first, DONE)
        assert await queue.record(second, DONE) is Recorded.DONE


async def test_spool_script_that_arrives_after_its_withdrawal_does_nothing(
    address: RedisAddress, client: redis.Redis
) -> None:
    """A partition that heals delivers the old command after the new one: the client was told 451."""
    spool = await connect_spool(address)
    call = spool._spool_call(make_submission(), 0)  # noqa: SLF001 - what a broken connection still had on its way
    spool._withdraw(make_submission())  # noqa: SLF001 - what the timeout of `submit` does
    await asyncio.gather(*spool._withdrawals)  # noqa: SLF001 - until it is done
    await spool.close()
    Runner(client).run([call])
    assert not client.exists(keys.SIGN)
    assert client.ttl(keys.message(make_submission().queue_id)) > 0


async def test_spool_above_its_share_of_memory_refuses_new_mail_and_takes_it_again_later() -> None:
    """Above 70 % of maxmemory new mail is refused while there is still room to record deliveries."""
    with running_server() as server, server.client() as client:
        address = RedisAddress(url=server.url)
        spool = await connect_spool(address)
        try:
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", int(used / 0.8))
            await wait_until_async(lambda: not spool.has_room, "the spool is full")
            with pytest.raises(Refused) as refused:
                await spool.submit(make_submission())
            assert str(refused.value.reply).startswith("452 4.3.1 ")
            assert not client.exists(keys.SIGN)
            client.config_set("maxmemory", used * 10)
            await wait_until_async(lambda: spool.has_room, "the spool has room")
            await spool.submit(make_submission())
        finally:
            await spool.close()


async def test_close_of_a_spool_in_the_midst_of_its_watch_ends_at_once(address: RedisAddress) -> None:
    """Ingress must end within its time, whatever the watch of the memory is waiting for."""
    for turns in range(40):
        spool = await connect_spool(address)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await spool.close()


async def test_spool_repeated_after_the_message_is_done_makes_no_new_one(
    address: RedisAddress, client: redis.Redis
) -> None:
    """An answer was lost, the message was signed and delivered meanwhile, and then the command comes again."""
    submission = make_submission(content=CONTENT + b"x" * CHUNK_BYTES)
    spool = await connect_spool(address)
    try:
        await spool.submit(submission)
        sign_all(SignQueue(address, LEASE_S))
        async with relay_queue(address) as queue:
            (entry,) = (await queue.claim(DESTINATION, 1)).entries
            assert await queue.record(entry, DONE) is Recorded.DONE
        assert Runner(client).run([spool._spool_call(submission, 2)]) == [0]  # noqa: SLF001 - what the batch repeats
        assert not client.exists(keys.SIGN)
    finally:
        await spool.close()


async def test_message_that_cannot_be_taken_back_is_named(
    address: RedisAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """The client heard 451 and the message is signed already: the possible double is in the log."""
    spool = await connect_spool(address)
    try:
        await spool.submit(make_submission())
        sign_all(SignQueue(address, LEASE_S))
        spool._withdraw(make_submission())  # noqa: SLF001 - what the timeout of `submit` does
        await wait_until_async(lambda: not spool._withdrawals, "the withdrawal is answered")  # noqa: SLF001 - same
    finally:
        await spool.close()
    assert [record.getMessage() for record in caplog.records if record.name == maillog.LOGGER.name] == [
        "recipient.uncertain"
    ]


async def test_record_whose_answer_was_lost_is_no_lost_lease() -> None:
    """It is sent again and finds nobody's name, because the first one worked: that is told apart from a takeover."""
    port, front = free_port(), free_port()
    with running_server(options={**SAFE, "port": str(port)}) as server:
        address = RedisAddress(url=server.url)
        await submit(address, make_submission())
        sign_all(SignQueue(address, LEASE_S))
        async with (
            Proxy.running(("127.0.0.1", port), "127.0.0.1", front) as proxy,
            relay_queue(RedisAddress(url=f"redis://127.0.0.1:{front}/1")) as queue,
        ):
            (entry,) = (await queue.claim(DESTINATION, 1)).entries
            proxy.hold(Way.BACK)
            recording = asyncio.create_task(queue.record(entry, DONE))
            with server.client() as client:
                await wait_until_async(lambda: not client.exists(keys.message(entry.queue_id)), "it is recorded")
            proxy.reset_all()
            proxy.heal()
            assert await recording is Recorded.BEFORE


async def test_mail_from_before_a_restart_is_not_signed_at_once(address: RedisAddress) -> None:
    """Its client may have heard 451: ingress gets the time to take it back before the sign role begins with it."""
    await submit(address, make_submission(1))
    queue = SignQueue(address, LEASE_S)
    restarted_ms = int(time.time() * 1000) + 60_000
    pretend_restart(queue, {"uptime_in_seconds": 0, "server_time_usec": restarted_ms * 1000})
    assert queue.claim() == ([], [])
    pretend_restart(queue)
    assert [entry.queue_id for entry in queue.claim()[0]] == [make_submission(1).queue_id]
