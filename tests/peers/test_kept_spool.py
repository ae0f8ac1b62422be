"""Entries that an earlier program left in the spool: those of a known data version are read, all others are parked."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptt.core.address import Domain
from ptt.core.signature import Algorithm
from ptt.signing.signer import Signer
from ptt.store import keys
from ptt.store.connection import RedisAddress
from tests import kept_spool
from tests.reporting import BOB, CONTENT, FIRST, HOME, RITA, SECOND, TAKEN, House, actions_of, relay_queue
from tests.servers.redis import RedisServer
from tests.signing_keys import make_ring
from tests.spooled import accept, sign

RELAYED = "rfc822; bob@elsewhere.test relayed"
FAILED = "rfc822; rita@destination.test failed"
TOLD = {
    "accepted": [],
    "accepted-in-chunks": [],
    "signed": [RELAYED],
    "deferred": [RELAYED],
    "in-doubt": [RELAYED],
    "to-report": [RELAYED, FAILED],
}
"""What the sender of each sample is told in the end."""


@pytest.fixture
def house(valkey: RedisServer, address: RedisAddress, tmp_path: Path) -> Iterator[House]:
    """Give both roles, with a key for the senders' domain."""
    ring, _ = make_ring(tmp_path, Algorithm.ED25519_SHA256, domain=HOME)
    with valkey.client() as client:
        yield House(address=address, client=client, signer=Signer(ring))


def test_samples_of_the_present_version_are_all_kept() -> None:
    """A new data version comes with its samples: `python -m tests.kept_spool`."""
    assert {path.stem for path in kept_spool.FOLDER.glob("*.json")} == set(TOLD) == set(kept_spool.SAMPLES)


@pytest.mark.parametrize("name", TOLD)
async def test_kept_entry_is_signed_delivered_and_reported_on(name: str, house: House) -> None:
    """Sign, relay and report read what was written when this data version was new, to the last octet."""
    kept_spool.load(house.client, kept_spool.FOLDER / f"{name}.json")
    house.sign()
    for destination, recipient in ((FIRST, RITA), (SECOND, BOB)):
        for content in await read_waiting(house, destination):
            assert content.startswith(b"DKIM-Signature: ")
            assert content.endswith(CONTENT)
        await house.deliver(destination, {recipient.local: TAKEN})
    house.report()
    told = [sorted(actions_of(content)) for _, content in await house.list_reports()]
    assert told == ([TOLD[name]] if TOLD[name] else [])
    left = [key.decode() for key in house.client.scan_iter(f"{keys.MESSAGE}*")]
    assert len(left) == len(told)  # nothing but the report


async def read_waiting(house: House, destination: Domain) -> list[bytes]:
    """Read what waits at a destination, as a relay would, and give it back."""
    house.make_due(keys.queue(destination))
    async with relay_queue(house.address) as queue:
        entries = (await queue.claim(destination, 50)).entries
        contents = [b"".join([part async for part in queue.read(entry)]) for entry in entries]
    for entry in entries:
        house.client.hdel(keys.delivery(entry.queue_id), f"o:{destination}", f"k:{destination}")
    return contents


async def test_entry_of_unknown_version_is_parked_by_sign_alone(house: House) -> None:
    """It is kept for a program that knows it; the others of its batch are signed."""
    strange, plain = [await accept(house.address, number, RITA) for number in (1, 2)]
    house.client.hset(keys.message(strange), "version", 99)
    kept_spool.load(house.client, kept_spool.FOLDER / "accepted.json")
    house.sign()
    assert house.client.hget(keys.message(strange), "parked") == b"data version 99 is unknown"
    assert house.client.hget(keys.message(plain), "parked") == b"content does not match its digest"
    assert house.client.zcard(keys.queue(FIRST)) == 1


@pytest.mark.parametrize("envelope", [b"", b"\xff{]"], ids=["version", "envelope"])
async def test_entry_that_cannot_be_read_is_parked_by_the_relay_alone(
    envelope: bytes, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown data version or no envelope: parked at once with its reason, and the others of its claim go out."""
    strange, plain = [await accept(house.address, number, RITA) for number in (1, 2)]
    sign(house.address, strange, RITA)
    # Both were claimed there; the other is as good as signed.
    house.client.hset(keys.message(plain), "owner", "")
    house.client.hdel(keys.message(plain), "owner", "claims")
    house.client.zadd(keys.SIGN, {plain: 1})
    sign(house.address, plain, RITA)
    if envelope:
        house.client.hset(keys.message(strange), "envelope", envelope)
    else:
        house.client.hset(keys.message(strange), "version", 99)
        house.client.hset(keys.delivery(strange), f"r:{FIRST}", json.dumps({"another": "form"}))
    await house.deliver(FIRST, {"rita": TAKEN})
    assert not house.client.exists(keys.message(plain))
    reason = house.client.hget(keys.delivery(strange), f"p:{FIRST}") or b""
    assert reason == b"data version 99 is unknown" if not envelope else reason
    assert house.client.zscore(keys.PARKED, f"{strange} {FIRST}") is not None
    assert [getattr(record, "event", "") for record in caplog.records].count("recipient.parked") == 1
    await house.deliver(FIRST, {})
    assert house.client.exists(keys.message(strange))
