"""One attempt at one message against a real Valkey: what is said in the log, and when."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import pytest
import redis
from typing_extensions import override

from ptt import maillog
from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, QueueId, Submission, format_envelope, parse_time_ms
from ptt.core.options import ByMode, Deadline, Options
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Deferred, Outcome, Scope
from ptt.core.ports import Courier
from ptt.store import keys
from ptt.store.connection import RedisAddress
from ptt.store.entries import Claim
from ptt.store.relay_queue import RelayQueue
from ptt.store.sign_queue import Signed, SignQueue
from ptt.store.spool import connect_spool
from ptt.tasks.attempt import AttemptPolicy, attempt, expire
from tests.servers.redis import RedisServer

DESTINATION = Domain("destination.test")
RECIPIENT = Address("rita", DESTINATION)
QUEUE_ID = QueueId("1M843AQV1KA1VCKRD41S")
POLICY = AttemptPolicy(
    retry_schedule_s=[900], max_age_s=432_000, delay_notice_after_s=14_400, holds_uncertain=False, jitter=lambda: 0.0
)

LATER = Deferred(reason="greylisted", scope=Scope.MESSAGE)


class SilentCourier(Courier):
    """Sends the final dot and never hears of it again."""

    @override
    async def deliver(self, destination: Domain, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Commit, and leave the outcome open."""
        await message.commit(message.recipients, [])
        lost = Deferred(reason="connection lost", scope=Scope.HOST, uncertain=True)
        return [(recipient, lost) for recipient in message.recipients]

    @override
    async def close(self) -> None:
        """Have nothing to close."""


@contextmanager
def listening(client: redis.Redis) -> Iterator[list[tuple[str, bool]]]:
    """Give each event with whether the spool still marks the recipient as in doubt at that moment."""
    heard: list[tuple[str, bool]] = []

    class Listener(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            is_marked = bool(client.hexists(keys.delivery(QUEUE_ID), f"x:{DESTINATION}"))
            heard.append((record.getMessage(), is_marked))

    listener = Listener()
    maillog.LOGGER.addHandler(listener)
    try:
        yield heard
    finally:
        maillog.LOGGER.removeHandler(listener)


async def test_uncertain_delivery_is_told_before_its_mark_is_taken_away(
    address: RedisAddress, valkey: RedisServer
) -> None:
    """A worker that dies right after its record has said who may get a double: nobody could say it later."""
    envelope = Envelope(user="alice", reverse_path=Address("alice", Domain("example.test")), recipients=(RECIPIENT,))
    spool = await connect_spool(address)
    await spool.submit(
        Submission(
            queue_id=QUEUE_ID,
            envelope_json=format_envelope(envelope),
            content=b"From: alice@example.test\r\n\r\nHello\r\n",
            content_sha256=b"x" * 32,
            seal=b"y" * 32,
        )
    )
    await spool.close()
    sign_queue = SignQueue(address, 30)
    (waiting,), _ = sign_queue.claim()
    sign_queue.record([Signed(waiting.queue_id, b"S: 1\r\n", {DESTINATION: [RECIPIENT]})])
    queue = RelayQueue(address, 30)
    queue.start()
    try:
        (entry,) = (await queue.claim(DESTINATION, 1)).entries
        with valkey.client() as client, listening(client) as heard:
            await attempt(queue, SilentCourier(), POLICY, entry)
            assert heard == [("recipient.uncertain", True)]
            assert not client.hexists(keys.delivery(QUEUE_ID), f"x:{DESTINATION}")
    finally:
        await queue.close()


class RefusingCourier(Courier):
    """Defers everything, and counts."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.messages: list[OutboundMessage] = []

    @override
    async def deliver(self, destination: Domain, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Say that it is not the time."""
        self.messages.append(message)
        return [(recipient, LATER) for recipient in message.recipients]

    @override
    async def close(self) -> None:
        """Have nothing to close."""


@pytest.mark.parametrize(
    ("mode", "left_s", "tries", "action", "next_try_s"),
    [
        (ByMode.RETURN, 100, 1, None, 101),
        (ByMode.RETURN, 100_000, 1, None, 900),
        (ByMode.RETURN, -1, 0, "failed", None),
        (ByMode.NOTIFY, 100, 1, None, 101),
        (ByMode.NOTIFY, -1, 1, "delayed", 900),
    ],
)
async def test_deadline_decides_when_to_try_and_what_to_tell(  # noqa: PLR0913, PLR0917 - a case
    address: RedisAddress,
    client: redis.Redis,
    mode: ByMode,
    left_s: int,
    tries: int,
    action: str | None,
    next_try_s: int | None,
) -> None:
    """RFC 2852: looked at again when the time is up; then returned without a try, or told of and tried on."""
    accepted_s = parse_time_ms(QUEUE_ID) // 1000
    options = Options(deadline=Deadline(at=accepted_s + left_s, mode=mode))
    before_s = client.time()[0]
    queue = await _claimable(address, options)
    courier = RefusingCourier()
    try:
        (entry,) = (await queue.claim(DESTINATION, 1)).entries
        await attempt(queue, courier, POLICY, entry)
    finally:
        await queue.close()
    assert [message.options for message in courier.messages] == [options] * tries
    told = cast("bytes | None", client.hget(keys.delivery(QUEUE_ID), "d:1"))
    assert (None if told is None else json.loads(told.partition(b" ")[2])[0][2]) == action
    due = client.zscore(keys.queue(DESTINATION), QUEUE_ID)
    if next_try_s is None:
        assert due is None
    else:
        assert due is not None
        assert before_s + next_try_s - 1 <= due / 1000 <= client.time()[0] + next_try_s + 1


async def test_held_message_is_as_old_as_its_release(address: RedisAddress) -> None:
    """RFC 4865: what was held for longer than mail is tried is neither late nor too old when it is released."""
    held_s = 1_000_000
    queue = await _claimable(address, Options(release_at=parse_time_ms(QUEUE_ID) // 1000 + held_s))
    try:
        (entry,) = (await queue.claim(DESTINATION, 1)).entries
        entry = replace(entry, age_s=held_s + 60)
        assert expire(LATER, entry, POLICY) is not LATER  # what it would be without the hold
        await attempt(queue, RefusingCourier(), POLICY, entry)
        assert await queue.claim(DESTINATION, 1) == Claim()  # it waits for its next try
    finally:
        await queue.close()


async def _claimable(address: RedisAddress, options: Options) -> RelayQueue:
    """Spool and sign a message with options."""
    reverse_path = Address("alice", Domain("example.test"))
    envelope = Envelope(user="alice", reverse_path=reverse_path, recipients=(RECIPIENT,), options=options)
    submission = Submission(
        queue_id=QUEUE_ID, envelope_json=format_envelope(envelope), content=b"x\r\n", content_sha256=b"", seal=b""
    )
    spool = await connect_spool(address)
    await spool.submit(submission)
    await spool.close()
    sign_queue = SignQueue(address, 30)
    sign_queue.claim()
    sign_queue.record([Signed(QUEUE_ID, b"S: 1\r\n", {DESTINATION: [RECIPIENT]})])
    queue = RelayQueue(address, 30)
    queue.start()
    return queue
