"""Spool entries as this version writes them, kept as files, so that later versions must read them.

``python -m tests.kept_spool`` writes the samples of the present data version anew; do that only before a release: from
then on the files of a version stay as they are. Field by field, for a dump of Redis is bound to the version of Redis.
"""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast
from unittest import mock

import redis

from ptt.core.notify import Notify, RecipientRequest
from ptt.core.signature import Algorithm
from ptt.signing.signer import Signer
from ptt.store import keys, spool
from ptt.store.connection import RedisAddress
from tests.reporting import BOB, FIRST, HOME, LATER, REFUSED, RITA, House, make_submission, relay_queue
from tests.servers.redis import running_server
from tests.signing_keys import make_ring

FOLDER = Path(__file__).parent / "data/spool" / f"v{keys.DATA_VERSION}"


def save(client: redis.Redis) -> Mapping[str, Any]:
    """Give all lasting keys of the spool in plain types; octets are written as ISO 8859-1."""
    names = [name for name in client.scan_iter("*") if client.ttl(name) == -1]
    return {name.decode(): _read(client, name) for name in sorted(names) if client.type(name) != b"stream"}


def load(client: redis.Redis, path: Path) -> None:
    """Put a sample into the spool."""
    for name, (kind, value) in json.loads(path.read_text()).items():
        if kind == "hash":
            client.hset(name, mapping={field: _to_octets(text) for field, text in value.items()})
        elif kind == "list":
            client.rpush(name, *map(_to_octets, value))
        elif kind == "zset":
            client.zadd(name, {_to_octets(member): score for member, score in value.items()})
        else:
            client.set(name, _to_octets(value))


async def write_samples(folder: Path) -> None:
    """Write each sample to a file of its own."""
    with running_server() as server, tempfile.TemporaryDirectory() as keys_dir, server.client() as client:
        ring, _ = make_ring(Path(keys_dir), Algorithm.ED25519_SHA256, domain=HOME)
        house = House(address=RedisAddress(url=server.url), client=client, signer=Signer(ring))
        for name, make in SAMPLES.items():
            client.flushall()
            await make(house)
            (folder / f"{name}.json").write_text(json.dumps(save(client), indent=1) + "\n")


async def _accept(house: House, **fields: Any) -> None:
    store = await spool.connect_spool(house.address)
    await store.submit(make_submission(**fields))
    await store.close()


async def _accept_chunks(house: House) -> None:
    with mock.patch.object(spool, "CHUNK_BYTES", 40):
        await _accept(house)


async def _sign(house: House) -> None:
    request = RecipientRequest(notify=frozenset({Notify.SUCCESS}), original_recipient="rfc822;b@elsewhere.test")
    await _accept(house, recipients=(RITA, BOB), ret="HDRS", envid="QQ314159", requests={BOB: request})
    house.sign()


async def _defer(house: House) -> None:
    await _sign(house)
    await house.deliver(FIRST, {"rita": LATER})


async def _fail(house: House) -> None:
    await _sign(house)
    await house.deliver(FIRST, {"rita": REFUSED})


async def _leave_in_doubt(house: House) -> None:
    await _sign(house)
    async with relay_queue(house.address) as queue:
        (entry,) = (await queue.claim(FIRST, 1)).entries
        await queue.commit(entry, [RITA], [RITA])


SAMPLES: Mapping[str, Callable[[House], Awaitable[None]]] = {
    "accepted": _accept,
    "accepted-in-chunks": _accept_chunks,
    "signed": _sign,
    "deferred": _defer,
    "to-report": _fail,
    "in-doubt": _leave_in_doubt,
}


def _read(client: redis.Redis, name: bytes) -> tuple[str, object]:
    kind = cast("bytes", client.type(name)).decode()
    if kind == "hash":
        fields = cast("Mapping[bytes, bytes]", client.hgetall(name))
        return kind, {field.decode(): _to_text(value) for field, value in sorted(fields.items())}
    if kind == "list":
        return kind, [_to_text(value) for value in cast("list[bytes]", client.lrange(name, 0, -1))]
    if kind == "zset":
        members = cast("list[tuple[bytes, float]]", client.zrange(name, 0, -1, withscores=True))
        return kind, {_to_text(member): score for member, score in members}
    return kind, _to_text(cast("bytes", client.get(name)))


def _to_text(octets: bytes) -> str:
    return octets.decode("iso-8859-1")


def _to_octets(text: str) -> bytes:
    return text.encode("iso-8859-1")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    asyncio.run(write_samples(FOLDER))
