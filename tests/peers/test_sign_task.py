"""The sign role on a real Valkey: what is sealed gets signed, anything else is parked or waits, and is never sent."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

import pytest

from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, Submission, format_envelope, format_queue_id
from ptt.core.seal import compute_seal
from ptt.core.signature import Algorithm
from ptt.signing.keys import KeyRing
from ptt.signing.signer import Signer
from ptt.store import keys
from ptt.store.connection import RedisAddress
from ptt.store.entries import parse_recipients
from ptt.store.sign_queue import SignQueue
from ptt.store.spool import connect_spool
from ptt.tasks.sign import KEY_WAIT_S, SignService
from tests.servers.redis import RedisServer
from tests.signing_keys import add_active_key

SEAL_KEY = bytes(range(32))
CONTENT = b"From: alice@example.test\r\nSubject: x\r\n\r\nHello\r\n"
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
ONE, TWO = Domain("one.test"), Domain("two.test")
RECIPIENTS = (Address("a", ONE), Address("b", TWO), Address("c", ONE))


def make_submission(content: bytes = CONTENT, number: int = 1) -> Submission:
    """Make a submission as ingress does."""
    envelope = format_envelope(Envelope(user="alice", reverse_path=None, recipients=RECIPIENTS))
    queue_id, digest = format_queue_id(1_700_000_000_000, number), hashlib.sha256(content).digest()
    seal = compute_seal(SEAL_KEY, queue_id, envelope, digest)
    return Submission(queue_id=queue_id, envelope_json=envelope, content=content, content_sha256=digest, seal=seal)


async def spool(address: RedisAddress, submission: Submission) -> None:
    """Spool one message."""
    adapter = await connect_spool(address)
    try:
        await adapter.submit(submission)
    finally:
        await adapter.close()


@pytest.fixture
def service(address: RedisAddress, tmp_path: Path) -> SignService:
    """Give the service with an active key of example.test."""
    ring = KeyRing(tmp_path)
    add_active_key(ring, Algorithm.ED25519_SHA256)
    return SignService(SignQueue(address, 30), Signer(ring), SEAL_KEY, lambda: NOW, float("inf"))


async def test_sealed_message_is_signed_and_split_by_destination(
    address: RedisAddress, valkey: RedisServer, service: SignService
) -> None:
    """The signature lies beside the content, and each destination has its recipients and one wake-up."""
    submission = make_submission()
    await spool(address, submission)
    service.serve()
    with valkey.client() as client, valkey.client(0) as broker:
        fields = client.hgetall(keys.message(submission.queue_id))
        delivery = client.hgetall(keys.delivery(submission.queue_id))
        assert fields[b"signature"].startswith(b"DKIM-Signature: ")
        assert parse_recipients(delivery[b"r:one.test"], ONE) == (RECIPIENTS[0], RECIPIENTS[2])
        assert parse_recipients(delivery[b"r:two.test"], TWO) == (RECIPIENTS[1],)
        assert client.zcard(keys.SIGN) == 0
        assert broker.llen("relay") == 2


FORGERIES: dict[str, Callable[[Submission], Submission]] = {
    "content": lambda real: replace(real, content=CONTENT.replace(b"Hello", b"Jello")),
    "content and digest": lambda real: replace(real, content=b"x", content_sha256=hashlib.sha256(b"x").digest()),
    "recipients": lambda real: replace(real, envelope_json=real.envelope_json.replace(b"one", b"two")),
    "user": lambda real: replace(real, envelope_json=real.envelope_json.replace(b"alice", b"mallory")),
    "queue-id": lambda real: replace(real, queue_id=format_queue_id(1_700_000_000_000, 2)),
    "seal": lambda real: replace(real, seal=bytes(32)),
    "no seal": lambda real: replace(real, seal=b""),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_message_that_no_ingress_sealed_is_parked_unsigned(
    address: RedisAddress, valkey: RedisServer, service: SignService, forgery: str
) -> None:
    """Who can write to Redis but has no seal key gets nothing signed, whichever field is changed."""
    submission = FORGERIES[forgery](make_submission())
    await spool(address, submission)
    service.serve()
    with valkey.client() as client:
        fields = client.hgetall(keys.message(submission.queue_id))
        assert b"signature" not in fields
        assert fields[b"parked"]
        assert client.zrange(keys.PARKED, 0, -1) == [f"{submission.queue_id} ".encode()]
        assert client.keys(f"{keys.QUEUE}*") == []


async def test_message_without_a_key_waits_and_is_signed_later(
    address: RedisAddress, valkey: RedisServer, tmp_path: Path
) -> None:
    """No active key: the message waits a minute at a time, is never sent unsigned and never lost."""
    ring = KeyRing(tmp_path, clock=iter(range(0, 10_000, 10)).__next__)
    service = SignService(SignQueue(address, 30), Signer(ring), SEAL_KEY, lambda: NOW, float("inf"))
    submission = make_submission()
    await spool(address, submission)
    service.serve()
    with valkey.client() as client:
        due = client.zscore(keys.SIGN, submission.queue_id)
        seconds, _ = client.time()
        assert due is not None
        assert KEY_WAIT_S / 2 < float(str(due)) / 1000 - seconds <= KEY_WAIT_S + 1
        add_active_key(ring, Algorithm.ED25519_SHA256)
        client.zadd(keys.SIGN, {submission.queue_id: 1})
        service.serve()
        assert client.hexists(keys.message(submission.queue_id), "signature")


async def test_message_that_cannot_be_signed_harms_no_other(
    address: RedisAddress, valkey: RedisServer, service: SignService
) -> None:
    """A message without From is parked; its neighbour in the same batch is signed."""
    bad, good = make_submission(b"Subject: no From\r\n\r\n", 1), make_submission(number=2)
    await spool(address, bad)
    await spool(address, good)
    service.serve()
    with valkey.client() as client:
        assert client.hexists(keys.message(bad.queue_id), "parked")
        assert client.hexists(keys.message(good.queue_id), "signature")


async def test_unknown_data_version_is_parked(address: RedisAddress, valkey: RedisServer, service: SignService) -> None:
    """An entry of a later version is set aside, neither dropped nor guessed at."""
    submission = make_submission()
    await spool(address, submission)
    with valkey.client() as client:
        client.hset(keys.message(submission.queue_id), "version", 99)
        service.serve()
        assert b"99" in (client.hget(keys.message(submission.queue_id), "parked") or b"")


async def test_message_that_waited_for_a_key_too_long_is_parked(
    address: RedisAddress, valkey: RedisServer, tmp_path: Path
) -> None:
    """Mail of a domain that never gets a key must not fill the spool for ever: a person decides."""
    submission = make_submission()
    made_at = datetime.fromtimestamp(1_700_000_000, UTC)
    await spool(address, submission)
    for age_s, parked in ((999, 0), (1000, 1)):
        clock = repeat(made_at + timedelta(seconds=age_s))
        service = SignService(SignQueue(address, 30), Signer(KeyRing(tmp_path)), SEAL_KEY, clock.__next__, 1000)
        with valkey.client() as client:
            client.zadd(keys.SIGN, {submission.queue_id: 1})
            service.serve()
            assert client.zcard(keys.PARKED) == parked
            assert client.exists(keys.message(submission.queue_id))
