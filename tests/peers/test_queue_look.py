"""`ptt queue list`, `show` and `ptt trace` on a real Valkey: every state, every filter, of any length."""

import json
from pathlib import Path
from typing import Any

import redis
from click.testing import CliRunner

from ptt.cli import main
from ptt.core.address import Address, Domain
from ptt.core.envelope import format_queue_id
from ptt.store import keys
from ptt.store.connection import RedisAddress
from ptt.store.queue_view import Filter, QueueView
from ptt.store.sign_queue import SignQueue
from tests.memory import tracing_memory
from tests.peers.queue_tools import ANN, BOB, CAT, ME, ONE, TWO, Run, list_json
from tests.servers.redis import RedisServer
from tests.spooled import LEASE_S, accept, claim, defer, enqueue, relaying


async def test_list_shows_each_state_with_reason_and_time(address: RedisAddress, ptt: Run) -> None:
    """A message is listed at each destination with its state, why, and until or since when."""
    parked = await accept(address, 1, ANN)
    sign_queue = SignQueue(address, LEASE_S)
    sign_queue.claim()
    assert [entry["state"] for entry in list_json(ptt)] == ["signing"]
    sign_queue.park(parked, "seal is wrong")
    keyless = await accept(address, 2, ANN)
    sign_queue.claim()
    sign_queue.put_back(keyless, 60, "no active key of example.test")
    await enqueue(address, 3, CAT)
    async with relaying(address) as queue:
        await claim(queue, TWO)
        await enqueue(address, 4, ANN)
        await defer(queue, await claim(queue, ONE))
        await enqueue(address, 5, BOB)
        held = await enqueue(address, 6, BOB, reverse_path=None)
        ptt("queue", "hold", held, "--reason", "is it wanted?")
        listed = list_json(ptt)
    assert [(one["state"], one["destination"], one["reason"]) for one in listed] == [
        ("parked", None, "seal is wrong"),
        ("waiting", None, "no active key of example.test"),
        ("delivering", TWO, ""),
        ("waiting", ONE, "451 4.7.1 greylisted"),
        ("queued", ONE, ""),
        ("held", ONE, "is it wanted?"),
    ]
    assert [one["until"] is not None for one in listed] == [False, True, True, True, False, False]
    assert [one["since"] is not None for one in listed] == [True, False, False, False, False, True]
    assert [one["reverse_path"] for one in listed] == ["alice@example.test"] * 5 + ["<>"]
    table = ptt("queue", "list").stdout.splitlines()
    assert table[0].split() == ["QUEUE-ID", "AGE", "SIZE", "FROM", "LEFT", "DESTINATION", "STATE", "REASON"]
    assert table[-1].startswith("6 in all, 6 shown, the oldest is ")
    assert "waiting until 20" in table[4]


async def test_list_filters(address: RedisAddress, ptt: Run) -> None:
    """Each filter alone and with others; what is not signed yet counts for the domains of its recipients."""
    first = await enqueue(address, 1, ANN, CAT)
    second = await enqueue(address, 2, BOB, reverse_path=Address("carol", Domain("other.test")))
    third = await accept(address, 3, CAT, reverse_path=None)

    def found(*arguments: str) -> list[str]:
        return [f"{one['queue_id']} {one['destination'] or '-'}" for one in list_json(ptt, *arguments)]

    assert found("--destination", ONE) == [f"{first} {ONE}", f"{second} {ONE}"]
    assert found("--destination", TWO) == [f"{first} {TWO}", f"{third} -"]
    assert found("--sender", "Carol@other.test") == [f"{second} {ONE}"]
    assert found("--sender", "example.test") == [f"{first} {ONE}", f"{first} {TWO}"]
    assert found("--sender", "<>") == [f"{third} -"]
    assert found("--recipient", "cat@two.test", "--destination", TWO) == [f"{first} {TWO}", f"{third} -"]
    assert found("--state", "held") == []
    assert found("--state", "queued", "--recipient", "two.test", "--limit", "1") == [f"{first} {TWO}"]
    assert ptt("queue", "list", "--state", "parked").stdout == "nothing\n"
    ptt("queue", "list", "--state", "odd", expected=2)


async def test_show_tells_every_attempt(address: RedisAddress, ptt: Run) -> None:
    """Envelope, who is left, why, until when, and each attempt with reply, host, address, TLS and duration."""
    queue_id = await enqueue(address, 1, ANN, CAT)
    async with relaying(address) as queue:
        await defer(queue, await claim(queue, ONE))
        ptt("queue", "retry", queue_id, "--destination", ONE)
        await defer(queue, await claim(queue, ONE))
    text = ptt("queue", "show", queue_id.lower()).stdout
    assert "from:      alice@example.test\n" in text
    assert "one.test: waiting until 20" in text
    assert "attempt 1  at one.test  took 42 ms" in text
    assert "attempt 2  at one.test  took 42 ms" in text
    assert f"recipient.retried  at one.test  by {ME}" in text
    assert (
        "ann@one.test deferred, by mx.one.test [192.0.2.7], TLSv1.3: 451 4.7.1 greylisted; refused for now at RCPT"
        in text
    )
    plain = json.loads(ptt("queue", "show", queue_id, "-o", "json").stdout)
    assert [(entry["destination"], entry["attempts"]) for entry in plain["entries"]] == [(ONE, 2), (TWO, 0)]
    assert plain["events"][0]["outcomes"][0]["mx_address"] == "192.0.2.7"


async def test_show_says_that_the_history_is_cut(address: RedisAddress, client: redis.Redis, ptt: Run) -> None:
    """Attempts that the capped stream has lost are counted, not hidden."""
    queue_id = await enqueue(address, 1, ANN)
    async with relaying(address) as queue:
        await defer(queue, await claim(queue, ONE))
    client.xtrim(keys.EVENTS, 0)
    assert "(the history has lost the first 1 of them)" in ptt("queue", "show", queue_id).stdout


async def test_trace_tells_of_a_message_after_it_is_done(address: RedisAddress, ptt: Run) -> None:
    """By queue-id, by recipient and by sender; in the queue and after; other mail is not told of."""
    queue_id = await enqueue(address, 1, ANN)
    other = await enqueue(address, 2, Address("joann", ONE), reverse_path=None)
    async with relaying(address) as queue:
        entries = (await queue.claim(ONE, 5)).entries
        entry = next(one for one in entries if one.queue_id == queue_id)
        await defer(queue, entry)
        for subject in (queue_id, "ann@one.test", "ALICE@example.test"):
            text = ptt("trace", subject).stdout
            assert "now: one.test: waiting until" in text
            assert other not in text
        ptt("queue", "retry", queue_id)
        await defer(queue, await claim(queue, ONE), [])
    for subject in (queue_id, "Ann@ONE.test", "alice@example.test"):
        text = ptt("trace", subject).stdout
        assert text.startswith(f"{queue_id}\n")
        assert text.count("ann@one.test deferred, by mx.one.test [192.0.2.7]") == 2
        assert text.endswith("  now: not in the queue any more\n")
    (story,) = json.loads(ptt("trace", queue_id, "-o", "json").stdout)
    assert (story["in_queue"], [event["event"] for event in story["events"]]) == (
        False,
        ["attempt", "recipient.retried", "attempt"],
    )
    assert other in ptt("trace", "joann@one.test").stdout


def test_unknown_and_malformed_subjects_have_their_exit_codes(ptt: Run) -> None:
    """3 for what is not there, 2 for what cannot be."""
    unknown = format_queue_id(1, 1)
    for command in (["queue", "show"], ["queue", "hold"], ["queue", "fail", "--yes"], ["trace"]):
        ptt(*command, unknown, expected=3)
        ptt(*command, "nonsense", expected=2)
    ptt("trace", "nobody@nowhere.test", expected=3)
    ptt("trace", "no one@nowhere.test", expected=2)


async def test_control_characters_do_not_reach_the_terminal(
    address: RedisAddress, client: redis.Redis, ptt: Run
) -> None:
    """Whoever could write into the spool must not own the operator's terminal."""
    queue_id = await enqueue(address, 1, ANN)
    client.hset(keys.delivery(queue_id), f"l:{ONE}", "\x1b]0;owned\x07\u202e")
    for arguments in (["list"], ["show", queue_id]):
        assert "?]0;owned??" in ptt("queue", *arguments).stdout


def test_twenty_thousand_entries_are_listed_in_bounded_memory(address: RedisAddress, client: redis.Redis) -> None:
    """A page and the lines to show are all that is in memory at once, also with filters that read each entry."""
    envelope = (
        b'{"user":"a","reverse_path":["a","b.test"],"recipients":[["c","one.test"]],"body":"7BIT","smtputf8":false}'
    )
    ids = [format_queue_id(1_700_000_000_000 + number, number) for number in range(20_000)]
    fields: dict[Any, Any] = {"envelope": envelope, "size": 1, "accepted": 1, "signature": b""}
    with client.pipeline(transaction=False) as pipeline:
        for queue_id in ids:
            pipeline.hset(keys.message(queue_id), mapping=fields)
            pipeline.hset(keys.delivery(queue_id), mapping={"open": 1, f"r:{ONE}": b'["c"]'})
        pipeline.zadd(keys.queue(ONE), dict.fromkeys(ids, 9e12))
        pipeline.zadd(keys.DESTINATIONS, {ONE: 9e12})
        pipeline.execute()
    view = QueueView(address)
    for wanted in (Filter(), Filter(recipient="one.test")):
        with tracing_memory() as measure:
            listing = view.list_entries(wanted, 100)
            _, peak = measure()
        assert listing.total >= 20_000
        assert [entry.queue_id for entry in listing.entries] == ids[:100]
        assert peak < 6_000_000
    client.flushall()  # what is left of a test is looked at key by key


def test_without_redis_url_the_running_ptt_up_is_needed(tmp_path: Path, valkey: RedisServer) -> None:
    """Its socket is used when it is there; else 75 and a line that says what is missing."""
    config = tmp_path / "ptt.toml"
    folder = valkey.folder / "up"
    config.write_text(f'[up]\ndata_dir = "{folder}"\n')
    command = ["--config", str(config), "queue", "list"]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, "`ptt up` does not run" in result.output) == (75, True)
    folder.mkdir()
    (folder / "valkey.sock").symlink_to(valkey.socket)
    assert CliRunner().invoke(main, command).output == "nothing\n"
