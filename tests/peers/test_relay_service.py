"""The relay service against a real Valkey: how much of one destination it takes in hand."""

import asyncio
from collections.abc import Sequence

from typing_extensions import override

from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, Submission, format_envelope, format_queue_id
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Delivered, Outcome
from ptt.core.ports import Courier
from ptt.core.reply import Reply
from ptt.store import keys
from ptt.store.connection import RedisAddress
from ptt.store.relay_queue import RelayQueue
from ptt.store.sign_queue import Signed, SignQueue
from ptt.store.spool import connect_spool
from ptt.tasks.attempt import AttemptPolicy
from ptt.tasks.relay import RelayService
from ptt.tasks.window import FIRST_WINDOW, WINDOW
from tests.restarts import pretend_restart
from tests.servers.redis import RedisServer
from tests.waiting import wait_until_async

DESTINATION = Domain("destination.test")
RECIPIENT = Address("rita", DESTINATION)
POLICY = AttemptPolicy(
    retry_schedule_s=[900], max_age_s=432_000, delay_notice_after_s=14_400, holds_uncertain=False, jitter=lambda: 0.0
)


class SlowCourier(Courier):
    """Delivers nothing until it is told to."""

    def __init__(self) -> None:
        """Begin with the gate shut."""
        self.gate = asyncio.Event()
        self.begun = 0
        self.in_hand = 0
        self.most_in_hand = 0

    @override
    async def deliver(self, destination: Domain, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Wait for the gate."""
        self.begun += 1
        self.in_hand += 1
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        await self.gate.wait()
        self.in_hand -= 1
        return [(recipient, Delivered(reply=Reply(250, "2.0.0", "ok"))) for recipient in message.recipients]

    @override
    async def close(self) -> None:
        """Have nothing to close."""


async def spool_signed(address: RedisAddress, count: int) -> None:
    """Leave messages that wait for the relay role."""
    envelope = Envelope(user="alice", reverse_path=Address("alice", Domain("example.test")), recipients=(RECIPIENT,))
    spool = await connect_spool(address)
    submissions = [
        Submission(
            queue_id=format_queue_id(1_700_000_000_000, number),
            envelope_json=format_envelope(envelope),
            content=b"From: alice@example.test\r\n\r\nHello\r\n",
            content_sha256=b"x" * 32,
            seal=b"y" * 32,
        )
        for number in range(count)
    ]
    await asyncio.gather(*(spool.submit(submission) for submission in submissions))
    await spool.close()
    queue = SignQueue(address, 30)
    while entries := queue.claim()[0]:
        queue.record([Signed(entry.queue_id, b"S: 1\r\n", {DESTINATION: [RECIPIENT]}) for entry in entries])


async def test_relay_woken_often_keeps_one_window_for_a_slow_destination(address: RedisAddress) -> None:
    """Each further wake-up finds the window full: no more is claimed, and in the end all of it is delivered."""
    await spool_signed(address, 3 * WINDOW)
    courier = SlowCourier()
    service = RelayService(RelayQueue(address, 30), courier, POLICY, 30)
    await service.start()
    try:
        first = asyncio.create_task(service.serve(DESTINATION))
        await wait_until_async(lambda: courier.in_hand == FIRST_WINDOW, "the window is full")
        others = [asyncio.create_task(service.serve(DESTINATION)) for _ in range(3)]
        queue = RelayQueue(address, 30)
        queue.start()
        left = (await queue.claim(DESTINATION, 3 * WINDOW)).entries
        await queue.close()
        assert len(left) == 3 * WINDOW - FIRST_WINDOW
        assert courier.most_in_hand == FIRST_WINDOW
        courier.gate.set()
        await asyncio.gather(first, *others)
        assert courier.begun == FIRST_WINDOW
    finally:
        await service.stop()


async def test_relay_woken_while_it_claims_misses_nothing(address: RedisAddress) -> None:
    """All that is due when the last wake-up comes is delivered, with more messages than one window."""
    await spool_signed(address, 3 * WINDOW)
    courier = SlowCourier()
    courier.gate.set()
    service = RelayService(RelayQueue(address, 30), courier, POLICY, 30)
    await service.start()
    try:
        await asyncio.gather(*(service.serve(DESTINATION) for _ in range(3)))
        assert courier.begun == 3 * WINDOW
    finally:
        await service.stop()


async def test_relay_that_was_frozen_does_not_take_its_own_messages_for_a_dead_workers(
    address: RedisAddress, valkey: RedisServer
) -> None:
    """Its leases ended while it was stopped: it renews them before it claims, and sends nothing twice."""
    await spool_signed(address, 1)
    courier = SlowCourier()
    queue = RelayQueue(address, 30)
    service = RelayService(queue, courier, POLICY, 30)
    await service.start()
    try:
        first = asyncio.create_task(service.serve(DESTINATION))
        await wait_until_async(lambda: courier.in_hand == 1, "the delivery has begun")
        with valkey.client() as client:
            client.zadd(keys.queue(DESTINATION), {format_queue_id(1_700_000_000_000, 0): 1})
            service._renewed_at -= 60  # noqa: SLF001 - what SIGSTOP does
            await first
            pretend_restart(queue)
            again = asyncio.create_task(service.serve(DESTINATION))
            await wait_until_async(
                lambda: (client.zscore(keys.queue(DESTINATION), format_queue_id(1_700_000_000_000, 0)) or 0) > 1,
                "the lease is renewed",
            )
        courier.gate.set()
        await again
        assert courier.begun == 1
    finally:
        await service.stop()
