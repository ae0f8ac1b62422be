"""One attempt at one message against a real Valkey: what is said in the log, and when."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis
from typing_extensions import override

from ptt import maillog
from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, QueueId, Submission, format_envelope
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Deferred, Outcome, Scope
from ptt.core.ports import Courier
from ptt.store import keys
from ptt.store.connection import RedisAddress
from ptt.store.relay_queue import RelayQueue
from ptt.store.sign_queue import Signed, SignQueue
from ptt.store.spool import connect_spool
from ptt.tasks.attempt import AttemptPolicy, attempt
from tests.servers.redis import RedisServer

DESTINATION = Domain("destination.test")
RECIPIENT = Address("rita", DESTINATION)
QUEUE_ID = QueueId("1M843AQV1KA1VCKRD41S")
POLICY = AttemptPolicy(
    retry_schedule_s=[900], max_age_s=432_000, delay_notice_after_s=14_400, holds_uncertain=False, jitter=lambda: 0.0
)


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
