"""Redis answers, and takes no writes for now: what was sent is recorded as soon as it does, and never twice."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from ptt.core.errors import LeaseLost, Unavailable
from ptt.store import keys
from ptt.store.attempts import Attempt, Recorded
from ptt.store.connection import RedisAddress
from ptt.store.entries import RelayEntry
from ptt.store.sign_queue import SignQueue
from tests.chaos.proxy import Proxy
from tests.peers.queue_tools import ANN, ONE
from tests.servers.ports import free_port
from tests.servers.redis import SAFE, RedisServer, debian_redis, running_server
from tests.spooled import LEASE_S, accept, enqueue, relaying
from tests.waiting import wait_until, wait_until_async

DONE = Attempt(remaining=(), delay_s=0, counts=True, history=b"[]")


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Run a server that may be made to refuse."""
    with running_server(debian_redis() if request.param == "redis" else None) as server:
        yield server


@contextmanager
def refusing(server: RedisServer, code: str) -> Iterator[None]:
    """Have the server refuse all writes."""
    with server.client() as client:
        if code == "READONLY":
            client.replicaof("127.0.0.1", "1")
            yield
            client.replicaof("NO", "ONE")
        elif code == "NOREPLICAS":
            client.config_set("min-replicas-to-write", 1)
            yield
            client.config_set("min-replicas-to-write", 0)
        else:
            snapshot = server.folder / "dump.rdb"
            snapshot.mkdir()
            client.config_set("save", "3600 1")
            client.bgsave()
            wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the snapshot has failed")
            yield
            client.config_set("save", "")
            shutil.rmtree(snapshot)


def count_refused(client: redis.Redis, code: str) -> int:
    """Give how often the server has refused something in this way."""
    errors = client.info("errorstats").get(f"errorstat_{code}", {"count": 0})
    return int(errors["count"])


@pytest.mark.parametrize("code", ["READONLY", "NOREPLICAS", "MISCONF"])
async def test_record_that_is_refused_for_now_is_made_when_redis_takes_it(server: RedisServer, code: str) -> None:
    """What was delivered is not sent again for it, alone or with others; a commit is told at once."""
    address = RedisAddress(url=server.url)
    with server.client() as client:
        client.flushall()
        for number in range(3):
            await enqueue(address, number, ANN)
        async with relaying(address) as queue:
            *sent, waiting = (await queue.claim(ONE, 3)).entries
            before = count_refused(client, code)
            with refusing(server, code):
                recording = asyncio.gather(*(queue.record(entry, DONE) for entry in sent))
                await wait_until_async(lambda: count_refused(client, code) > before, "redis has refused it")
                with pytest.raises(Unavailable):
                    await queue.commit(waiting, [ANN], [ANN])
                assert not recording.done()
            assert await recording == [Recorded.DONE, Recorded.DONE]
            await queue.commit(waiting, [ANN], [ANN])


@pytest.mark.parametrize("is_finished", [False, True], ids=["at-work", "finished"])
async def test_record_that_is_refused_until_its_lease_is_lost_says_so(server: RedisServer, is_finished: bool) -> None:  # noqa: FBT001 - a case
    """Another worker has it, or had it and is done: that must not pass for a record of ours, for it may be a double."""
    address = RedisAddress(url=server.url)
    with server.client() as client:
        client.flushall()
        await enqueue(address, 1, ANN)
        async with relaying(address) as queue:
            (entry,) = (await queue.claim(ONE, 1)).entries
            before = count_refused(client, "NOREPLICAS")
            with refusing(server, "NOREPLICAS"):
                recording = asyncio.create_task(queue.record(entry, DONE))
                await wait_until_async(lambda: count_refused(client, "NOREPLICAS") > before, "redis has refused it")
                let_another_take_it(client, entry, is_finished=is_finished)
            with pytest.raises(LeaseLost):
                await recording


def let_another_take_it(client: redis.Redis, entry: RelayEntry, *, is_finished: bool) -> None:
    """Have Redis take writes again, and do in the same packet what another worker does first."""
    name, field = keys.delivery(entry.queue_id), f"o:{ONE}"
    with client.pipeline(transaction=False) as pipeline:
        pipeline.execute_command("CONFIG", "SET", "min-replicas-to-write", 0)  # type: ignore[no-untyped-call]
        _ = pipeline.hdel(name, field) if is_finished else pipeline.hset(name, field, "another")
        pipeline.execute()


async def test_failover_behind_an_address_is_followed_by_all_roles() -> None:
    """A connection that is kept leads to what is a replica now: the next try connects anew, to the new master."""
    ports, front = (free_port(), free_port()), free_port()
    with (
        running_server(options={**SAFE, "port": str(ports[0])}) as old,
        running_server(options={**SAFE, "port": str(ports[1])}) as new,
        old.client() as old_client,
        new.client() as new_client,
    ):
        new_client.replicaof("127.0.0.1", str(ports[0]))
        await enqueue(RedisAddress(url=old.url), 1, ANN)
        address = RedisAddress(url=f"redis://127.0.0.1:{front}/1")
        async with Proxy.running(("127.0.0.1", ports[0]), "127.0.0.1", front) as proxy, relaying(address) as queue:
            signing = SignQueue(address, LEASE_S)
            assert await asyncio.to_thread(signing.claim) == ([], [])
            waiting = await accept(address, 2, ANN)
            (entry,) = (await queue.claim(ONE, 1)).entries
            await wait_until_async(lambda: new_client.hexists(keys.delivery(entry.queue_id), f"o:{ONE}"), "replicated")
            new_client.replicaof("NO", "ONE")
            old_client.replicaof("127.0.0.1", str(ports[1]))
            proxy.target = ("127.0.0.1", ports[1])
            assert await asyncio.wait_for(queue.record(entry, DONE), 10) is Recorded.DONE
            entries, _ = await asyncio.to_thread(signing.claim)
            assert [one.queue_id for one in entries] == [waiting]
