"""`ptt queue hold`, `release`, `retry` and `fail` on a real Valkey: what a worker owns stays its own."""

import json

import pytest
import redis

from ptt.core.envelope import QueueId
from ptt.core.errors import LeaseLost
from ptt.store import keys
from ptt.store.attempts import Attempt, Recorded, Records
from ptt.store.connection import RedisAddress
from ptt.store.entries import Claim
from ptt.store.report_queue import ReportQueue
from ptt.store.sign_queue import SignQueue
from tests.peers.queue_tools import ANN, BOB, CAT, ME, ONE, TWO, Run, list_json, now_ms, read_events, states
from tests.restarts import pretend_restart
from tests.servers.redis import RedisServer
from tests.spooled import LEASE_S, accept, claim, defer, enqueue, relaying


def make_wait(client: redis.Redis, queue_id: QueueId) -> None:
    """Let a message wait to be signed, as one without a key does."""
    client.zadd(keys.SIGN, {queue_id: now_ms(client) + 60_000})


async def test_hold_and_release_of_a_waiting_message(
    address: RedisAddress, client: redis.Redis, ptt: Run, valkey: RedisServer
) -> None:
    """What is held is claimed by nobody; released, it is due and its role is woken; both tell who did it."""
    queue_id = await enqueue(address, 1, ANN, CAT)
    with valkey.client(db=0) as broker:
        broker.flushdb()
        ptt("queue", "hold", queue_id, "--destination", ONE)
        assert states(ptt) == {ONE: "held", TWO: "queued"}
        async with relaying(address) as queue:
            assert await queue.claim(ONE, 1) == Claim()
            ptt("queue", "hold", queue_id, "--destination", ONE, expected=1)
            ptt("queue", "retry", queue_id, "--destination", ONE, expected=1)
            assert broker.llen("relay") == 0
            ptt("queue", "release", queue_id, "--destination", ONE)
            assert broker.llen("relay") == 1
            ptt("queue", "release", queue_id, expected=1)
            assert (await claim(queue, ONE)).recipients == (ANN,)
    events = [(event[b"event"].decode(), event[b"by"].decode()) for event in read_events(client)]
    assert events == [("recipient.held", ME), ("recipient.released", ME)]
    assert client.zcard(keys.PARKED) == 0


async def test_hold_of_what_a_worker_has_waits_for_its_record(address: RedisAddress, ptt: Run) -> None:
    """The worker may commit and record; then the rest is held, with the reason that the person gave."""
    queue_id = await enqueue(address, 1, ANN)
    async with relaying(address) as queue:
        entry = await claim(queue, ONE)
        assert "as soon as the worker gives it back" in ptt("queue", "hold", queue_id, "--reason", "why").stdout
        assert "delivering (to be held)" in ptt("queue", "list").stdout
        await queue.commit(entry, [ANN], [ANN])
        await defer(queue, entry)
        assert [(one["state"], one["reason"]) for one in list_json(ptt)] == [("held", "why")]
        ptt("queue", "release", queue_id)
        entry = await claim(queue, ONE)
        ptt("queue", "hold", queue_id)
        assert "will not hold it any more" in ptt("queue", "release", queue_id).stdout
        await defer(queue, entry)
    assert states(ptt) == {ONE: "waiting"}


async def test_hold_of_what_a_dead_worker_had_is_done_at_the_next_claim(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """A worker that dies does not take the wish of a person with it."""
    queue_id = await enqueue(address, 1, ANN)
    async with relaying(address) as dead, relaying(address) as heir:
        await claim(dead, ONE)
        ptt("queue", "hold", queue_id)
        client.zadd(keys.queue(ONE), {queue_id: 1})
        pretend_restart(heir)
        assert await heir.claim(ONE, 1) == Claim()
    assert states(ptt) == {ONE: "held"}


async def test_lease_that_ended_long_ago_protects_nobody(address: RedisAddress, client: redis.Redis, ptt: Run) -> None:
    """With all workers gone a person can act; a worker that comes back can neither commit nor record."""
    queue_id = await enqueue(address, 1, ANN)
    async with relaying(address) as frozen:
        entry = await claim(frozen, ONE)
        client.zadd(keys.queue(ONE), {queue_id: now_ms(client) - 31_000})
        ptt("queue", "hold", queue_id)
        assert states(ptt) == {ONE: "held"}
        with pytest.raises(LeaseLost):
            await frozen.commit(entry, [ANN], [ANN])
        with pytest.raises(LeaseLost):
            await defer(frozen, entry)
    assert states(ptt) == {ONE: "held"}


async def test_message_before_signing_is_held_released_and_retried_as_a_whole(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """Without a destination yet there is one entry; a destination cannot be named."""
    queue_id = await accept(address, 1, ANN, CAT)
    ptt("queue", "hold", queue_id, "--destination", ONE, expected=1)
    ptt("queue", "hold", queue_id)
    sign_queue = SignQueue(address, LEASE_S)
    assert sign_queue.claim() == ([], [])
    ptt("queue", "release", queue_id)
    make_wait(client, queue_id)
    assert states(ptt) == {None: "waiting"}
    ptt("queue", "retry", queue_id)
    assert [entry.queue_id for entry in sign_queue.claim()[0]] == [queue_id]
    for action in ("hold", "retry"):
        assert "a worker has it now" in ptt("queue", action, queue_id, expected=1).stderr
    ptt("queue", "fail", queue_id, "--yes", expected=1)


async def test_parked_message_is_released_with_a_clean_record(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """What was parked because its workers died may kill three more before it is parked again."""
    queue_id = await enqueue(address, 1, ANN)
    async with relaying(address) as queue:
        pretend_restart(queue)
        for _ in range(3):
            await claim(queue, ONE)
            client.zadd(keys.queue(ONE), {queue_id: 1})
        assert await queue.claim(ONE, 1) == Claim(parked=(queue_id,))
        assert states(ptt) == {ONE: "parked"}
        ptt("queue", "release", queue_id)
        await claim(queue, ONE)
        assert client.hget(keys.delivery(queue_id), f"k:{ONE}") == b"1"


async def make_parked_report(address: RedisAddress, client: redis.Redis) -> QueueId:
    """Leave a message whose report killed three workers, and nothing else of it."""
    queue_id = await enqueue(address, 1, ANN)
    records = Records(final=(b'[["ann","one.test","failed","5.1.1","","","unknown"]]',))
    async with relaying(address) as queue:
        entry = await claim(queue, ONE)
        await queue.record(entry, Attempt(remaining=(), delay_s=0, counts=True, history=b"[]", records=records))
    reports = ReportQueue(address, LEASE_S)
    pretend_restart(reports)
    for _ in range(3):
        client.zadd(keys.REPORTS, {queue_id: 1})
        assert len(reports.claim()[0]) == 1
    client.zadd(keys.REPORTS, {queue_id: 1})
    assert reports.claim() == ([], [queue_id])
    return queue_id


async def test_parked_report_is_listed_and_released(address: RedisAddress, client: redis.Redis, ptt: Run) -> None:
    """What could not be reported is seen like all that is parked, and made again when a person says so."""
    queue_id = await make_parked_report(address, client)
    (listed,) = list_json(ptt, "--state", "parked")
    assert (listed["queue_id"], listed["destination"], listed["is_report"]) == (queue_id, None, True)
    assert listed["recipients"] == ["alice@example.test"]
    assert "report to the sender: parked since" in ptt("queue", "show", queue_id).stdout
    assert "  report to the sender  parked since" in ptt("queue", "list").stdout
    ptt("queue", "release", queue_id)
    assert [entry.message.queue_id for entry in ReportQueue(address, LEASE_S).claim()[0]] == [queue_id]
    assert "a worker has it now" in ptt("queue", "fail", queue_id, "--yes", expected=1).stderr


async def test_parked_report_is_given_up(address: RedisAddress, client: redis.Redis, ptt: Run) -> None:
    """With the report goes the message, for nothing else is left of it; the event says who did it."""
    queue_id = await make_parked_report(address, client)
    ptt("queue", "fail", queue_id, "--yes")
    assert not client.exists(keys.message(queue_id), keys.delivery(queue_id), keys.PARKED)
    assert f"dsn.dropped  by {ME}" in ptt("trace", queue_id).stdout


NO_KEY = "no active DKIM key for example.test"


def make_report_wait(address: RedisAddress, client: redis.Redis, queue_id: QueueId) -> None:
    """Let a report wait for a key, as the sign role does each minute."""
    client.zadd(keys.REPORTS, {queue_id: 1})
    reports = ReportQueue(address, LEASE_S)
    pretend_restart(reports)
    assert [entry.message.queue_id for entry in reports.claim()[0]] == [queue_id]
    reports.put_back(queue_id, 60, NO_KEY)


async def test_report_that_waits_is_listed_counted_and_told_in_words(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """Nothing that waits is invisible: the report has a line, with its reason, and no internal name is shown."""
    queue_id = await accept(address, 1, ANN)
    ptt("queue", "fail", queue_id, "--yes")
    make_report_wait(address, client, queue_id)
    listing = json.loads(ptt("queue", "list", "-o", "json").stdout)
    (listed,) = listing["entries"]
    assert (listing["total"], listed["is_report"], listed["state"], listed["reason"]) == (1, True, "waiting", NO_KEY)
    assert ptt("queue", "list", "--destination", ONE).stdout == "nothing\n"
    ptt("queue", "retry", queue_id)
    shown = [ptt(*command).stdout for command in (("queue", "list"), ("queue", "show", queue_id), ("trace", queue_id))]
    assert ["report to the sender" in text for text in shown] == [True] * 3
    assert ["!report" in text for text in (*shown, ptt("trace", queue_id, "-o", "json").stdout)] == [False] * 4
    assert shown[0].splitlines()[-1].startswith("1 in all, 1 shown")
    assert "signed:    no\n" in shown[1]
    assert "now: report to the sender: queued: 1 left\n" in shown[2]
    assert f"recipient.retried  report to the sender  by {ME}\n" in shown[2]


async def test_report_that_waits_is_held_released_retried_and_given_up(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """When nothing else is left of the message; the person is asked about the report and not about recipients."""
    queue_id = await accept(address, 1, ANN)
    ptt("queue", "fail", queue_id, "--yes")
    make_report_wait(address, client, queue_id)
    found = []
    for action in ("hold", "release", "hold", "release", "retry"):
        ptt("queue", action, queue_id)
        found.append(states(ptt))
    assert found == [{None: state} for state in ("held", "queued", "held", "queued", "queued")]
    assert ptt("queue", "retry", "--all").stdout.startswith("0 due now")
    make_report_wait(address, client, queue_id)
    assert ptt("queue", "retry", "--all").stdout.startswith("1 due now")
    asked = ptt("queue", "fail", queue_id, stdin="n\n", expected=1).stdout
    assert f"Give up on the report on {queue_id}, so that its sender is told nothing more?" in asked
    told = ptt("queue", "fail", queue_id, "--yes").stdout
    assert told == f"{queue_id} report to the sender: given up; the message is done\n"
    assert ptt("queue", "list").stdout == "nothing\n"
    assert not client.exists(keys.message(queue_id), keys.delivery(queue_id), keys.REPORTS, keys.PARKED)


async def test_report_is_not_given_up_with_the_rest_nor_by_accident(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """While recipients are left it is they who are given up; `fail` said twice does not silence what it has caused."""
    queue_id = await enqueue(address, 1, ANN, CAT)
    ptt("queue", "fail", queue_id, "--destination", ONE, "--yes")
    make_report_wait(address, client, queue_id)
    ptt("queue", "hold", queue_id)
    assert states(ptt) == {TWO: "held", None: "waiting"}
    ptt("queue", "fail", queue_id, "--yes")
    assert states(ptt) == {None: "waiting"}
    other = await enqueue(address, 2, ANN)
    ptt("queue", "fail", other, "--yes")
    assert "made in a moment" in ptt("queue", "fail", other, "--yes", expected=1).stderr
    assert client.zscore(keys.REPORTS, other)


async def test_retry_ends_the_backoff_of_a_destination(address: RedisAddress, ptt: Run) -> None:
    """Whoever has repaired the other side need not wait for the next probe."""
    async with relaying(address) as queue:
        for number in range(3):
            await enqueue(address, number, ANN)
        unreached = Attempt(remaining=[ANN], delay_s=900, counts=True, history=b"[]", backoff_s=600, why="refused")
        await queue.record(await claim(queue, ONE), unreached)
        assert await queue.claim(ONE, 5) == Claim()
        assert {one["state"] for one in list_json(ptt)} == {"waiting"}
        assert "tried at once: 1 of the destinations" in ptt("queue", "retry", "--destination", ONE).stdout
        assert len((await queue.claim(ONE, 5)).entries) == 3


async def test_retry_of_a_destination_and_of_all(address: RedisAddress, client: redis.Redis, ptt: Run) -> None:
    """Only what waits is made due: not what is held, and not what a worker has."""
    async with relaying(address) as queue:
        for number, recipient in enumerate((ANN, BOB, CAT)):
            await enqueue(address, number, recipient)
            await defer(queue, await claim(queue, recipient.domain))
        held = await enqueue(address, 7, BOB)
        ptt("queue", "hold", held)
        keyless = await accept(address, 8, ANN)
        make_wait(client, keyless)
        await enqueue(address, 9, ANN)
        await claim(queue, ONE)
        assert ptt("queue", "retry", "--destination", ONE).stdout == "2 due now, 1 in the hands of a worker\n"
        assert ptt("queue", "retry", "--all").stdout == "2 due now, 1 in the hands of a worker\n"
    assert sorted(one["state"] for one in list_json(ptt)) == ["delivering", "held", *["queued"] * 4]
    for wrong in (["--all", held], ["--all", "--destination", ONE], []):
        ptt("queue", "retry", *wrong, expected=2)


async def test_fail_records_who_is_left_and_what_the_sender_is_told(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """Each recipient that is left gets a failed outcome with our reply; the message then waits to be reported on."""
    queue_id = await enqueue(address, 1, ANN, BOB, CAT)
    async with relaying(address) as queue:
        await defer(queue, await claim(queue, ONE), [BOB])
    ptt("queue", "fail", queue_id, stdin="n\n", expected=1)
    assert states(ptt) == {ONE: "waiting", TWO: "queued"}
    ptt("queue", "fail", queue_id, "--destination", ONE, "--yes")
    assert states(ptt) == {TWO: "queued", None: "waiting"}
    ptt("queue", "hold", queue_id)
    assert "for the 1 recipients" in ptt("queue", "fail", queue_id, stdin="y\n").stdout
    fields = read_events(client)[-1]
    assert (fields[b"event"], fields[b"by"], fields[b"reverse_path"]) == (
        b"recipient.failed",
        ME.encode(),
        b"alice@example.test",
    )
    assert json.loads(fields[b"outcomes"]) == [
        {
            "recipient": "cat@two.test",
            "event": "failed",
            "reply": "550 5.7.0 given up by the administrator",
            "reason": f"given up by {ME}",
        }
    ]
    assert states(ptt) == {None: "waiting"}
    assert client.zrange(keys.REPORTS, 0, -1) == [queue_id.encode()]


async def test_fail_of_an_unsigned_message_leaves_nothing(address: RedisAddress, client: redis.Redis, ptt: Run) -> None:
    """Also one that is parked because nobody can read it."""
    queue_id = await accept(address, 1, ANN)
    SignQueue(address, LEASE_S).claim()
    client.hdel(keys.message(queue_id), "owner")
    client.hset(keys.message(queue_id), "envelope", b"\xff")
    assert "<>" in ptt("queue", "list").stdout
    ptt("queue", "fail", queue_id, "--yes")
    assert [name for name in client.scan_iter() if client.ttl(name) == -1] == [keys.EVENTS.encode()]


async def test_fail_of_what_a_worker_has_is_refused(address: RedisAddress, ptt: Run) -> None:
    """The dot may be on its way: nothing is changed, exit 1, and the worker records as ever."""
    queue_id = await enqueue(address, 1, ANN)
    async with relaying(address) as queue:
        entry = await claim(queue, ONE)
        assert "a worker has it now" in ptt("queue", "fail", queue_id, "--yes", expected=1).stderr
        assert "a worker has it now" in ptt("queue", "retry", queue_id, expected=1).stderr
        assert await queue.record(entry, Attempt(remaining=(), delay_s=0, counts=True, history=b"[]")) is Recorded.DONE
