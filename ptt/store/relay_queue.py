"""The relay role's view of the spool: claim by destination, renew, commit, record. For one event loop."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import cast

from redis.exceptions import RedisError

from ptt.core.address import Address, Domain
from ptt.core.envelope import QueueId, parse_time_ms
from ptt.core.errors import LeaseLost, Unavailable
from ptt.store import keys
from ptt.store.attempts import Attempt, Recorded, Records
from ptt.store.batch import Batch
from ptt.store.connection import RedisAddress, connect_async
from ptt.store.entries import ANY, Claim, RelayEntry, Room, format_recipients, parse_relay_claim
from ptt.store.restart import SECTIONS, RestartGuard
from ptt.store.scripts import SCRIPTS, Call, translate
from ptt.store.sweep import sweep_call

BATCH_BYTES = 8_388_608
"""Most octets in one claim: 300 destinations at once must fit in a worker's memory."""
MAX_CLAIMS = 3
"""A message that three workers died on is parked, so that it stops killing workers."""
SCAN_PAGE = 500
"""Messages of a long queue that are looked at in one go: Redis serves others in between."""
ASK_TIMEOUT_S = 5.0
"""Longest wait for an answer that can be given up without harm."""


class RelayQueue:
    """Messages that wait to be delivered, by destination."""

    def __init__(self, address: RedisAddress, lease_s: float) -> None:
        """Make a client; `start` begins."""
        self._client = connect_async(address)
        self._batch = Batch(self._client)
        self._broker_db = address.broker_db
        self._lease_ms = int(lease_s * 1000)
        self._guard = RestartGuard()

    def start(self) -> None:
        """Begin to send to Redis; needs a running event loop."""
        self._batch.start()

    async def close(self) -> None:
        """Stop; what waits hears Unavailable."""
        await self._batch.close()
        await self._client.aclose()

    async def begin(self, destination: Domain) -> None:
        """Take note that the wake-up of this destination is being served."""
        await self._ask(Call(SCRIPTS["begin"], (), (self._broker_db, f"relay:{destination}")))

    async def claim(self, destination: Domain, limit: int, room: Room = ANY) -> Claim:
        """Lease up to ``limit`` messages of a destination that are due; one if it is to be probed.

        Raises:
            Unavailable: Redis is away.
        """
        return await self._claim(destination, limit, room)

    async def claim_aged(self, destination: Domain, wanted: Sequence[QueueId], max_age_s: float) -> Claim:
        """Lease those of the wanted that nobody has, due or not, while their destination cannot be reached.

        Those whose sender was told of the delay are left out until they are older than ``max_age_s``.

        Raises:
            Unavailable: Redis is away.
        """
        return await self._claim(destination, len(wanted), ANY, int(max_age_s * 1000), *wanted)

    async def list_aged(self, destination: Domain, age_s: float) -> AsyncIterator[Sequence[QueueId]]:
        """Give the messages of a destination that were accepted ``age_s`` ago or earlier, in parts, in no order.

        Raises:
            Unavailable: Redis is away.
        """
        cursor = -1
        while cursor:
            try:
                seconds, _ = await self._client.time()
                cursor, page = await self._client.zscan(keys.queue(destination), max(cursor, 0), count=SCAN_PAGE)
            except (RedisError, OSError) as error:
                raise translate(error) from error
            before_ms = (seconds - age_s) * 1000
            names = [QueueId(name.decode()) for name, _ in cast("list[tuple[bytes, float]]", page)]
            if aged := [name for name in names if parse_time_ms(name) <= before_ms]:
                yield aged

    async def _claim(self, destination: Domain, limit: int, room: Room, *wanted: int | str) -> Claim:
        restarted_ms = await self._ask_restarted_ms()
        queue, backoff = keys.queue(destination), keys.backoff(destination)
        names = (queue, keys.DESTINATIONS, keys.PARKED, keys.EVENTS, backoff)
        token = secrets.token_hex(8)
        arguments = (
            destination,
            token,
            limit,
            BATCH_BYTES,
            self._lease_ms,
            restarted_ms,
            MAX_CLAIMS,
            keys.MAX_EVENTS,
            room.suspects,
            room.last_tries,
            int(room.may_probe),
            self._guard.give_up_ms(ASK_TIMEOUT_S),
            *wanted,
        )
        try:
            answer = await self._ask(Call(SCRIPTS["claim_relay"], names, arguments, is_repeatable=False))
        except (Unavailable, asyncio.CancelledError):
            # Nobody works on what it may have been given: that must neither wait for the lease nor pass for a death.
            places, told = (queue, keys.DESTINATIONS, backoff), (destination, token, self._lease_ms, int(not wanted))
            self._batch.post(Call(SCRIPTS["unclaim_relay"], places, told))
            raise
        claimed, parked, left = cast("tuple[Sequence[Sequence[bytes]], Sequence[bytes], int]", answer)
        return Claim(
            entries=tuple(parse_relay_claim(row, destination, token) for row in claimed),
            parked=tuple(QueueId(name.decode()) for name in parked),
            left=left,
        )

    async def read(self, entry: RelayEntry) -> AsyncIterator[bytes]:
        """Give the message in parts: signature fields, then content.

        Raises:
            Unavailable: Redis is away, or a chunk is missing.
        """
        yield entry.signature
        if not entry.chunks:
            yield entry.content
            return
        for index in range(entry.chunks):
            try:
                chunk = await self._client.lindex(keys.content(entry.queue_id), index)
            except (RedisError, OSError) as error:
                raise translate(error) from error
            if chunk is None:
                raise Unavailable(f"chunk {index} of the content is missing")
            yield cast("bytes", chunk)

    async def renew(self, entry: RelayEntry) -> None:
        """Prolong the lease.

        Raises:
            LeaseLost: another worker owns the entry.
            Unavailable: Redis is away.
        """
        await self._check_lease("renew", entry)

    async def commit(self, entry: RelayEntry, in_doubt: Sequence[Address], left: Sequence[Address]) -> None:
        """Prolong the lease right before the final dot, and write down durably whom the dot is for.

        Args:
            entry: what was claimed.
            in_doubt: whom the dot is for.
            left: who is without a delivery so far, those in doubt too.

        Raises:
            LeaseLost: another worker owns the entry: do not send the dot.
            Unavailable: Redis is away: do not send the dot.
        """
        remaining = format_recipients(left) if len(left) != len(entry.recipients) else b""
        await self._check_lease("commit", entry, format_recipients(in_doubt), remaining)

    async def record(self, entry: RelayEntry, attempt: Attempt) -> Recorded:
        """Record an attempt, however long Redis is away or takes no writes.

        Raises:
            LeaseLost: another worker owns the entry by now: if the dot was sent, it may be sent twice.
        """
        names = (
            keys.delivery(entry.queue_id),
            keys.queue(entry.destination),
            keys.DESTINATIONS,
            keys.EVENTS,
            keys.PARKED,
            keys.REPORTS,
            keys.backoff(entry.destination),
        )
        remaining = format_recipients(attempt.remaining) if attempt.remaining else b""
        arguments = (
            entry.queue_id,
            entry.destination,
            entry.token,
            remaining,
            int(attempt.delay_s * 1000),
            int(attempt.counts),
            attempt.history,
            keys.MAX_EVENTS,
            attempt.hold,
            attempt.number,
            attempt.duration_ms,
            attempt.reverse_path,
            attempt.why,
            b"" if attempt.backoff_s is None else int(attempt.backoff_s * 1000),
            entry.failures,
            int(attempt.is_step),
            int(attempt.is_late),
            *_format_records(attempt.records),
        )
        result, is_repeated = await self._batch.run_told(Call(SCRIPTS["record"], names, arguments))
        # That nobody owns it is our own doing only if the answer to the first record was lost.
        if result == 0 or (result == Recorded.BEFORE and not is_repeated):
            raise LeaseLost(f"{entry.queue_id} {entry.destination}")
        return Recorded(cast("int", result))

    async def park(self, entry: RelayEntry, reason: str) -> None:
        """Park at its destination what cannot be read.

        Raises:
            LeaseLost: another worker owns the entry.
            Unavailable: Redis is away.
        """
        names = (keys.delivery(entry.queue_id), keys.queue(entry.destination), keys.PARKED, keys.EVENTS)
        arguments = (entry.queue_id, entry.destination, entry.token, reason, keys.MAX_EVENTS)
        if not await self._ask(Call(SCRIPTS["park_relay"], names, arguments)):
            raise LeaseLost(f"{entry.queue_id} {entry.destination}")

    async def sweep(self) -> None:
        """Wake the relay role for all that is past due.

        Raises:
            Unavailable: Redis is away.
        """
        if not self._guard.run_id:
            await self._ask_restarted_ms()  # so that it knows the next run of Redis from this one
        await self._ask(sweep_call(self._broker_db))

    async def _check_lease(self, script: str, entry: RelayEntry, *more: bytes) -> None:
        names = (keys.delivery(entry.queue_id), keys.queue(entry.destination))
        arguments: tuple[str | bytes | int, ...] = (
            entry.queue_id,
            entry.destination,
            entry.token,
            self._lease_ms,
            *more,
        )
        if not await self._ask(Call(SCRIPTS[script], names, arguments)):
            raise LeaseLost(f"{entry.queue_id} {entry.destination}")

    async def _ask(self, call: Call) -> object:
        return await self._batch.run(call, ASK_TIMEOUT_S)

    async def _ask_restarted_ms(self) -> int:
        if self._guard.is_fresh():
            return self._guard.restarted_ms
        try:
            return self._guard.learn(await self._client.info(*SECTIONS))
        except (RedisError, OSError) as error:
            raise translate(error) from error


def _format_records(records: Records) -> tuple[bytes | int, ...]:
    told = (*records.delayed, *records.final)
    return (keys.REPORT_WAIT_MS, len(records.delayed), *told) if told else ()
