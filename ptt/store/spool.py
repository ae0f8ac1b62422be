"""Where ingress leaves what it accepted: durable in Redis before the 250."""

import asyncio
import contextlib
from threading import Event

import redis.asyncio
from redis.exceptions import RedisError

from ptt import maillog
from ptt.core.envelope import QueueId, Submission, parse_envelope
from ptt.core.errors import Refused, Unavailable
from ptt.core.rates import UNLIMITED, Quota
from ptt.core.reply import Reply
from ptt.core.wakeup import SIGN_WAKEUP
from ptt.store import keys
from ptt.store.batch import Batch
from ptt.store.connection import RedisAddress, connect_async
from ptt.store.ending import end
from ptt.store.scripts import FULL, SCRIPTS, Call, translate
from ptt.store.server import check_server
from ptt.store.usage import Pauses

CHUNK_BYTES = 262_144
"""Larger content is written in such pieces: one command of 25 MB would stall all other clients for 0.2 s."""
_COMMON_KEYS = 3
MEMORY_SHARE = 0.7
"""Of maxmemory: above it new mail hears 452, for at the limit Redis could record no delivery either."""
WATCH_EVERY_S = 1.0
SUBMIT_TIMEOUT_S = 4.5
"""Longest wait for Redis: the client must hear 451 within 5 s."""
WITHDRAW_TIMEOUT_S = 600.0
"""How long a message that was answered with 451 is tried to be taken back."""


class RedisSpool:
    """The `ptt.core.ports.Spool` on Redis; made by `connect_spool`."""

    def __init__(self, client: redis.asyncio.Redis, broker_db: int, repeats_known_s: float = 0) -> None:
        """Use this client, and know a repeated submission for so long; needs a running event loop."""
        self._repeats_known_ms = int(repeats_known_s * 1000)
        self._client = client
        self._broker_db = broker_db
        self._withdrawals: set[asyncio.Task[object]] = set()
        self._has_room = True
        self._pauses = Pauses()
        self._batch = Batch(client)
        self._batch.start()
        self._watch = asyncio.create_task(self._watch_memory(), name="redis-memory")

    @property
    def has_room(self) -> bool:
        """Tell whether the memory of Redis is below MEMORY_SHARE of its limit."""
        return self._has_room

    def foresee_refusal(self, quota: Quota) -> Reply | None:
        """Give what a message of this user would be refused with, if the spool said so a while ago."""
        return self._pauses.find(quota)

    async def submit(self, submission: Submission) -> QueueId:
        """Make the message durable and wake the sign role; see `ptt.core.ports.Spool.submit`.

        Raises:
            Unavailable: not known to be durable in time; it is taken back as soon as Redis answers.
            Refused: Redis is out of memory, or nearly so (452), or the user is over a limit (451, 452).
        """
        if not self._has_room:
            raise Refused(FULL)
        chunks = 0
        if len(submission.content) > CHUNK_BYTES:
            chunks = await self._upload(submission)
        try:
            answer = await self._batch.run(self._spool_call(submission, chunks), SUBMIT_TIMEOUT_S)
        except Unavailable:
            self._withdraw(submission)
            raise
        if isinstance(answer, list) and submission.quota is not None:
            raise Refused(self._pauses.note(submission.quota, answer))
        return QueueId(answer.decode()) if isinstance(answer, bytes) else submission.queue_id

    async def close(self) -> None:
        """Stop; what waits hears Unavailable."""
        await end(self._watch)
        await self._batch.close()
        await self._client.aclose()

    def _spool_call(self, submission: Submission, chunks: int) -> Call:
        queue_id = submission.queue_id
        counts, limits = _count_against(submission.quota)
        names = self._name_keys(submission)
        if counts and len(names) == _COMMON_KEYS:
            names = (*names, keys.SAME)  # holds the place
        return Call(
            SCRIPTS["spool"],
            (*names, *counts),
            (
                queue_id,
                submission.envelope_json,
                submission.content_sha256,
                submission.seal,
                len(submission.content),
                chunks,
                b"" if chunks else submission.content,
                self._broker_db,
                keys.WAKE_TTL_MS,
                SIGN_WAKEUP,
                submission.release_at * 1000,
                keys.lead_ms(submission.priority),
                self._repeats_known_ms if submission.fingerprint else 0,
                *limits,
            ),
        )

    def _name_keys(self, submission: Submission) -> tuple[str, ...]:
        queue_id = submission.queue_id
        names = (keys.message(queue_id), keys.SIGN, keys.content(queue_id))
        is_known = self._repeats_known_ms and submission.fingerprint
        return (*names, keys.SAME + submission.fingerprint.hex()) if is_known else names

    async def _upload(self, submission: Submission) -> int:
        name = keys.content(submission.queue_id)
        view = memoryview(submission.content)
        offsets = range(0, len(view), CHUNK_BYTES)
        try:
            for offset in offsets:
                async with self._client.pipeline(transaction=True) as pipeline:
                    _ = pipeline.rpush(name, bytes(view[offset : offset + CHUNK_BYTES]))
                    _ = pipeline.expire(name, keys.UPLOAD_TTL_S)
                    await pipeline.execute()
        except (RedisError, OSError) as error:
            raise translate(error) from error
        return len(offsets)

    async def _watch_memory(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):  # while Redis is away the last answer stands
                memory = await self._client.info("memory")
                limit = int(memory["maxmemory"])
                has_room = not limit or int(memory["used_memory"]) < MEMORY_SHARE * limit
                if has_room is not self._has_room:
                    self._has_room = has_room
                    maillog.emit("spool.has_room" if has_room else "spool.full", maillog.WARNING, limit_bytes=limit)
            await asyncio.sleep(WATCH_EVERY_S)

    def _withdraw(self, submission: Submission) -> None:
        queue_id = submission.queue_id
        call = Call(SCRIPTS["withdraw"], self._name_keys(submission), (queue_id, keys.WITHDRAWN_TTL_MS))
        task = asyncio.create_task(self._batch.run(call, WITHDRAW_TIMEOUT_S), name=f"withdraw-{queue_id}")
        self._withdrawals.add(task)
        task.add_done_callback(lambda done: self._withdrawn(done, submission))

    def _withdrawn(self, task: "asyncio.Task[object]", submission: Submission) -> None:
        self._withdrawals.discard(task)
        if task.cancelled() or (task.exception() is None and task.result() in (1, 2)):
            return
        # Not taken back: it is being delivered although its client was told to try again, which makes a double.
        for recipient in parse_envelope(submission.envelope_json).recipients:
            maillog.emit(
                "recipient.uncertain",
                maillog.WARNING,
                queue_id=submission.queue_id,
                recipient=str(recipient),
                reason="the client heard 451, and the message could not be taken back",
            )


def _count_against(quota: Quota | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Give the key and the arguments for what is counted; nothing for a user without limits."""
    if quota is None or quota.rates == UNLIMITED:
        return (), ()
    rates = quota.rates
    limits = (rates.messages_per_hour, rates.messages_per_day, rates.recipients_per_day)
    return (keys.rate(quota.login),), (quota.recipients, *limits)


async def connect_spool(address: RedisAddress, *, allow_unsafe: bool = False, repeats_known_s: float = 0) -> RedisSpool:
    """Connect ingress to the spool.

    Args:
        address: where it is.
        allow_unsafe: whether Redis may lose mail; for experiments.
        repeats_known_s: how long a submission that is made again is known; 0: never.

    Raises:
        Unavailable: Redis does not answer.
        ConfigError: Redis may lose or delete mail.
    """
    stopped = Event()
    try:
        await asyncio.to_thread(check_server, address, allow_unsafe=allow_unsafe, stopped=stopped)
    finally:
        stopped.set()  # cancelled, the thread would go on, and the process could not end before it
    return RedisSpool(connect_async(address), address.broker_db, repeats_known_s)
