"""Reports against a real Valkey: recorded with the outcome, made once whatever crashes, and queued signed."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from ptt.core.address import Address
from ptt.core.envelope import parse_envelope
from ptt.core.errors import LeaseLost
from ptt.core.notify import Notify, RecipientRequest
from ptt.core.outcome import Outcome
from ptt.core.reply import Reply
from ptt.core.seal import is_sealed
from ptt.core.signature import Algorithm
from ptt.signing.keys import KeyRing
from ptt.signing.signer import Signer
from ptt.store import keys
from ptt.store.connection import RedisAddress
from ptt.store.queue_control import QueueControl, Result
from ptt.store.queue_view import QueueView
from ptt.store.runner import Runner
from ptt.store.spool import CHUNK_BYTES, connect_spool
from ptt.store.sweep import sweep_sign_call
from ptt.tasks.attempt import AttemptPolicy, attempt
from tests.reporting import (
    ALICE,
    BOB,
    CONTENT,
    FIRST,
    HOME,
    LATER,
    PEER,
    REFUSED,
    RITA,
    SEAL_KEY,
    SECOND,
    TAKEN,
    Fate,
    House,
    actions_of,
    make_submission,
    relay_queue,
    report_queue,
)
from tests.servers.redis import RedisServer
from tests.signing_keys import make_ring


@pytest.fixture
def house(valkey: RedisServer, address: RedisAddress, tmp_path: Path) -> Iterator[House]:
    """Give both roles, with a key for the senders' domain."""
    ring, _ = make_ring(tmp_path, Algorithm.ED25519_SHA256, domain=HOME)
    with valkey.client() as client:
        yield House(address=address, client=client, signer=Signer(ring))


async def test_failure_makes_one_signed_report_and_forgets_the_message(house: House) -> None:
    """The report is queued to the reverse-path with its signature, and nothing is left of the message."""
    queue_id = await house.accept(make_submission())
    await house.deliver(FIRST, {"rita": REFUSED})
    assert house.client.hget(keys.delivery(queue_id), "open") == b"1"
    house.report()
    ((entry, content),) = await house.list_reports()
    envelope = parse_envelope(entry.envelope_json)
    assert (envelope.reverse_path, entry.recipients) == (None, (ALICE,))
    assert content.startswith(b"DKIM-Signature: ")
    assert b"d=example.test;" in content
    assert actions_of(content) == ["rfc822; rita@destination.test failed"]
    assert not house.client.exists(keys.message(queue_id), keys.REPORTS)
    house.report()
    assert len(await house.list_reports()) == 1


async def test_report_in_the_spool_is_sealed_like_any_message(house: House) -> None:
    """What the sign role makes it seals, so that no message in the spool is without a seal."""
    await house.accept(make_submission())
    await house.deliver(FIRST, {"rita": REFUSED})
    house.report()
    ((entry, _),) = await house.list_reports()
    names = ("envelope", "sha256", "seal", "content")
    sealed = cast("list[bytes]", house.client.hmget(keys.message(entry.queue_id), *names))
    envelope_json, digest, seal, content = sealed
    assert sha256(content).digest() == digest
    assert is_sealed(SEAL_KEY, entry.queue_id, envelope_json, digest, seal)


async def test_report_that_fails_makes_no_report(house: House) -> None:
    """RFC 5321 section 6.1: the null reverse-path is never answered, so that no loop can begin."""
    await house.accept(make_submission())
    await house.deliver(FIRST, {"rita": REFUSED})
    house.report()
    await house.deliver(HOME, {"alice": REFUSED})
    house.report()
    assert {name for name in house.client.scan_iter() if house.client.ttl(name) == -1} <= {keys.EVENTS.encode()}


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"reverse_path": None}, REFUSED),
        ({"requests": {RITA: RecipientRequest(notify=frozenset({Notify.NEVER}))}}, REFUSED),
        ({"requests": {RITA: RecipientRequest(notify=frozenset({Notify.SUCCESS}))}}, REFUSED),
        ({}, TAKEN),
        (
            {"requests": {RITA: RecipientRequest(notify=frozenset({Notify.SUCCESS}))}},
            replace(TAKEN, peer=replace(PEER, takes_requests=True)),
        ),
    ],
)
async def test_what_nobody_asked_for_is_not_reported(house: House, fields: dict[str, Any], outcome: Outcome) -> None:
    """Null reverse-path, NOTIFY without the event, success that the peer reports itself: the message just ends."""
    await house.accept(make_submission(**fields))
    await house.deliver(FIRST, {"rita": outcome})
    assert {name for name in house.client.scan_iter() if house.client.ttl(name) == -1} <= {keys.EVENTS.encode()}


async def test_success_is_reported_as_relayed_when_asked(house: House) -> None:
    """RFC 3461 section 5.2.2 (b): the peer does not offer DSN, so this is the last that can be told."""
    await house.accept(make_submission(requests={RITA: RecipientRequest(notify=frozenset({Notify.SUCCESS}))}))
    await house.deliver(FIRST, {"rita": TAKEN})
    house.report()
    ((_, content),) = await house.list_reports()
    assert actions_of(content) == ["rfc822; rita@destination.test relayed"]


async def test_failures_at_several_destinations_make_one_report(house: House) -> None:
    """What is recorded within the waiting time is told at once."""
    await house.accept(make_submission(recipients=(RITA, BOB)))
    await house.deliver(FIRST, {"rita": REFUSED})
    await house.deliver(SECOND, {"bob": REFUSED})
    house.report()
    ((_, content),) = await house.list_reports()
    assert len(actions_of(content)) == 2
    assert not list(house.client.scan_iter(f"{keys.MESSAGE}{make_submission().queue_id}"))


async def test_report_waits_and_the_sweep_wakes_for_it(house: House, valkey: RedisServer) -> None:
    """The report is not due at once; when it is, the sweep wakes the sign role."""
    queue_id = await house.accept(make_submission())
    before_s = house.client.time()[0]
    await house.deliver(FIRST, {"rita": REFUSED})
    assert (house.client.zscore(keys.REPORTS, queue_id) or 0) >= before_s * 1000 + keys.REPORT_WAIT_MS
    house.client.zincrby(keys.REPORTS, 60_000, queue_id)  # this test may take longer than the report waits
    with valkey.client(db=0) as broker:
        broker.flushdb()
        assert house.reporting().queue.claim() == ([], [])
        assert Runner(house.client).run([sweep_sign_call(0)]) == [0]
        house.make_due(keys.REPORTS)
        assert Runner(house.client).run([sweep_sign_call(0)]) == [1]
        assert broker.llen("sign") == 1
    house.report()


async def test_delay_is_told_once_and_the_failure_after_it_too(house: House) -> None:
    """One notice of a delay, however often it is tried; then one report of the end."""
    queue_id = await house.accept(make_submission())
    await house.deliver(FIRST, {"rita": LATER})
    assert not house.client.exists(keys.REPORTS)
    for _ in range(3):
        await house.deliver(FIRST, {"rita": LATER}, notice_after_s=0)
        house.report()
    ((_, content),) = await house.list_reports()
    assert actions_of(content) == ["rfc822; rita@destination.test delayed"]
    assert house.client.hget(keys.delivery(queue_id), "open") == b"1"
    await house.deliver(FIRST, {"rita": REFUSED}, notice_after_s=0)
    house.report()
    told = [actions_of(content)[0].split()[-1] for _, content in await house.list_reports()]
    assert sorted(told) == ["delayed", "failed"]
    assert not house.client.exists(keys.message(queue_id))


async def test_crash_between_claim_and_record_makes_the_same_report_once(house: House) -> None:
    """A sign process dies with the report in hand: its heir makes it again, with the same queue-id."""
    queue_id = await house.accept(make_submission())
    await house.deliver(FIRST, {"rita": REFUSED})
    house.make_due(keys.REPORTS)
    dead = report_queue(house.address)
    assert [entry.message.queue_id for entry in dead.claim()[0]] == [queue_id]
    house.make_due(keys.REPORTS)
    house.reporting(report_queue(house.address)).serve()
    house.make_due(keys.REPORTS)
    house.reporting(report_queue(house.address)).serve()
    assert len(await house.list_reports()) == 1
    assert not house.client.exists(keys.message(queue_id))


async def test_two_processes_with_the_same_report_queue_it_once(house: House) -> None:
    """A frozen process comes back after its lease was taken over: it changes nothing, whoever was first."""
    await house.accept(make_submission(recipients=(RITA, BOB)))
    await house.deliver(FIRST, {"rita": REFUSED})
    house.make_due(keys.REPORTS)
    frozen = report_queue(house.address)
    ((entry,), _) = frozen.claim()
    house.make_due(keys.REPORTS)
    house.reporting(report_queue(house.address)).serve()
    ((queued, _),) = await house.list_reports()
    service = house.reporting(frozen)
    service._report(entry)  # noqa: SLF001 - from where it was frozen
    assert [one.queue_id for one, _ in await house.list_reports()] == [queued.queue_id]
    assert house.client.hget(keys.delivery(entry.message.queue_id), "open") == b"1"


async def test_outcome_recorded_while_a_report_is_made_gets_the_next_one(house: House) -> None:
    """What comes between claim and record is neither lost nor told twice, and the message lives until it is told."""
    queue_id = await house.accept(make_submission(recipients=(RITA, BOB)))
    await house.deliver(FIRST, {"rita": REFUSED})
    house.make_due(keys.REPORTS)
    queue = report_queue(house.address)
    ((entry,), _) = queue.claim()
    await house.deliver(SECOND, {"bob": REFUSED})
    house.reporting(queue)._report(entry)  # noqa: SLF001 - the rest of a service that was slow
    assert house.client.exists(keys.message(queue_id))
    house.report()
    told = sorted(action for _, content in await house.list_reports() for action in actions_of(content))
    assert told == ["rfc822; bob@elsewhere.test failed", "rfc822; rita@destination.test failed"]
    assert not house.client.exists(keys.message(queue_id))


async def test_record_that_comes_a_second_time_reports_nothing_more(house: House) -> None:
    """What is recorded already is not reported again, whoever comes with it."""
    await house.accept(make_submission())
    async with relay_queue(house.address) as queue:
        house.make_due(keys.queue(FIRST))
        (entry,) = (await queue.claim(FIRST, 1)).entries
        policy = AttemptPolicy(
            retry_schedule_s=(900,), max_age_s=9e9, delay_notice_after_s=9e9, holds_uncertain=False, jitter=lambda: 0.0
        )
        await attempt(queue, Fate(outcomes={RITA: REFUSED}), policy, entry)
        with pytest.raises(LeaseLost):
            await attempt(queue, Fate(outcomes={RITA: REFUSED}), policy, entry)
    house.report()
    ((_, content),) = await house.list_reports()
    assert len(actions_of(content)) == 1


async def test_report_without_a_key_waits(house: House, tmp_path: Path) -> None:
    """No active key for the domain: it waits like mail, and is never sent unsigned."""
    await house.accept(make_submission())
    await house.deliver(FIRST, {"rita": REFUSED})
    keyless = replace(house, signer=Signer(KeyRing(tmp_path / "none")))
    keyless.report()
    assert await house.list_reports() == []
    assert house.client.zscore(keys.REPORTS, make_submission().queue_id)
    house.report()
    assert len(await house.list_reports()) == 1


async def test_report_on_a_message_without_its_seal_is_parked(house: House) -> None:
    """The threat: a relay changes content in the spool to have it signed in a report."""
    queue_id = await house.accept(make_submission())
    await house.deliver(FIRST, {"rita": REFUSED})
    house.client.hset(keys.message(queue_id), "content", b"From: alice@example.test\r\nSubject: buy\r\n\r\n")
    house.report()
    assert await house.list_reports() == []
    assert house.client.zrange(keys.PARKED, 0, -1) == [f"{queue_id} {keys.REPORT}".encode()]
    assert house.client.hget(keys.delivery(queue_id), "report_parked") == b"content does not match its digest"


async def test_outcome_of_a_stranger_is_not_reported(house: House) -> None:
    """The threat: a relay reports on recipients that the sealed envelope does not name."""
    queue_id = await house.accept(make_submission())
    await house.deliver(FIRST, {"rita": REFUSED})
    record = cast("bytes", house.client.hget(keys.delivery(queue_id), "d:1"))
    house.client.hset(keys.delivery(queue_id), "d:1", record.replace(b'"rita"', b'"mallory"'))
    house.report()
    assert await house.list_reports() == []
    assert house.client.zcard(keys.PARKED) == 1


async def test_report_that_kills_its_workers_is_parked_and_the_mail_goes_on(house: House) -> None:
    """After three claims without an outcome the report is parked; what else the message has to do goes on."""
    queue_id = await house.accept(make_submission(recipients=(RITA, BOB)))
    await house.deliver(FIRST, {"rita": REFUSED})
    queue = report_queue(house.address)
    for _ in range(3):
        house.make_due(keys.REPORTS)
        assert len(queue.claim()[0]) == 1
    house.make_due(keys.REPORTS)
    assert queue.claim() == ([], [queue_id])
    await house.deliver(SECOND, {"bob": REFUSED})
    assert not house.client.exists(keys.REPORTS)
    assert house.client.hget(keys.delivery(queue_id), "recorded") == b"2"


@pytest.mark.parametrize("is_signed", [True, False])
async def test_mail_that_a_person_gives_up_is_reported(house: House, is_signed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """`ptt queue fail` tells the sender like any failure, also of mail that was never signed."""
    queue_id = make_submission().queue_id
    spool = await connect_spool(house.address)
    await spool.submit(make_submission())
    await spool.close()
    if is_signed:
        house.sign()
    message = QueueView(house.address).read_message(queue_id)
    assert message is not None
    assert QueueControl(house.address, "root").give_up(message.entries[0]) is Result.FAILED
    house.report()
    ((_, content),) = await house.list_reports()
    assert actions_of(content) == ["rfc822; rita@destination.test failed"]
    assert b"given up by the administrator" in content
    assert not house.client.exists(keys.message(queue_id), keys.SIGN)


async def test_message_in_chunks_is_reported_on_and_forgotten_with_them(house: House) -> None:
    """A large message: its header comes back, and its chunks go with it."""
    await house.accept(make_submission(CONTENT + b"x\r\n" * CHUNK_BYTES))
    await house.deliver(FIRST, {"rita": REFUSED})
    house.report()
    ((_, content),) = await house.list_reports()
    assert len(content) < 10_000
    assert not list(house.client.scan_iter(f"{keys.CONTENT}*"))


async def test_many_failures_make_reports_of_bounded_size(house: House) -> None:
    """A thousand recipients with long replies: each is told once, in reports that no server finds too large."""
    recipients = tuple(Address(f"r{number}", FIRST) for number in range(1000))
    wordy = replace(REFUSED, reply=Reply(550, "5.1.1", "x" * 10_000))
    queue_id = await house.accept(make_submission(recipients=recipients))
    await house.deliver(FIRST, {one.local: wordy for one in recipients})
    house.report()
    reports = await house.list_reports()
    assert 1 < len(reports) < 20
    assert max(len(content) for _, content in reports) < 400_000
    assert len({action for _, content in reports for action in actions_of(content)}) == 1000
    assert sum(len(actions_of(content)) for _, content in reports) == 1000
    assert not house.client.exists(keys.message(queue_id))
