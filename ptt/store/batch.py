"""Group commit: all scripts that wait go to Redis in one MULTI, so that they share one fsync and one round trip.

One transaction is under way at a time; what arrives meanwhile forms the next. Scripts may be repeated (each checks its
own effect), so a transaction whose answer was lost is simply sent again; only who claims hears that it was.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ptt.core.errors import Unavailable
from ptt.store.ending import end
from ptt.store.scripts import LIBRARY, Call, is_loaded_already, is_missing, is_temporary, translate

MAX_CALLS = 256
"""Most scripts in one transaction: it must not hold up the other clients of Redis."""
MAX_BYTES = 4_194_304
"""Most octets in one transaction, for the same reason."""
FIRST_RETRY_S = 0.05
MAX_RETRY_S = 0.25
"""Longest pause before Redis is asked again: a Redis that goes and comes may be there for a second only."""
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)


@dataclass(slots=True)
class _Waiting:
    call: Call
    future: "asyncio.Future[object]"
    is_patient: bool = False
    """Whether it is sent again when Redis refuses it for now."""
    is_repeated: bool = False
    """Whether it is sent again because the answer was lost; what was refused has not run."""


class Batch:
    """Runs scripts from many coroutines of one event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """Use this client; `start` begins."""
        self._client = client
        self._queue: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="redis-batch")

    async def close(self) -> None:
        """Stop sending; who still waits hears Unavailable."""
        self._is_closing = True
        await end(self._task)
        while self._queue:
            _fail(self._queue.popleft(), Unavailable("stopping"))

    async def run(self, call: Call, timeout_s: float | None = None) -> object:
        """Run one script and give its result.

        Args:
            call: what to run.
            timeout_s: how long to try while Redis is away; None means for ever.

        Raises:
            Unavailable: refused; or not known to be done, in time or because it is not repeatable: it may have been.
            Refused: Redis is out of memory (452).
        """
        waiting = self._add(call)
        if timeout_s is None:
            return await waiting.future
        try:
            async with asyncio.timeout(timeout_s):
                return await waiting.future
        except TimeoutError as error:
            raise Unavailable(f"no answer from redis within {timeout_s} s") from error

    async def run_told(self, call: Call) -> tuple[object, bool]:
        """Run one script, however long Redis is away or refuses it for now (`is_temporary`).

        Returns:
            Its result, and whether it may have run more than once.

        Raises:
            Unavailable: this batch is closed, or waiting will not help.
        """
        waiting = self._add(call, is_patient=True)
        return await waiting.future, waiting.is_repeated

    def post(self, call: Call) -> None:
        """Run one script when Redis answers; nobody waits for what comes of it."""
        self._add(call, is_patient=True).future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _add(self, call: Call, *, is_patient: bool = False) -> _Waiting:
        waiting = _Waiting(call, asyncio.get_running_loop().create_future(), is_patient)
        self._queue.append(waiting)
        self._work.set()
        return waiting

    async def _run(self) -> None:
        delay_s = FIRST_RETRY_S
        while not self._is_closing:
            await self._work.wait()
            group = self._take()
            if not group:
                self._work.clear()
                continue
            if await self._try(group):
                delay_s = FIRST_RETRY_S
                continue
            self._queue.extendleft(reversed(group))
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, MAX_RETRY_S)

    async def _try(self, group: list[_Waiting]) -> bool:
        """Run these; tell whether all are settled, so that none is to be sent again."""
        try:
            await self._execute(group)
        except _AWAY as error:
            for waiting in group:
                waiting.is_repeated = True
                if not waiting.call.is_repeatable:
                    _fail(waiting, translate(error))
        return all(waiting.future.done() for waiting in group)

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._queue and len(group) < MAX_CALLS and size < MAX_BYTES:
            waiting = self._queue.popleft()
            if not waiting.future.done():  # its caller may have given up
                group.append(waiting)
                size += waiting.call.size_bytes
        return group

    async def _execute(self, group: list[_Waiting]) -> None:
        try:
            results = await self._transact(group)
        except _AWAY:
            raise
        except RedisError as error:
            if len(group) == 1:
                _settle(group[0], error)
                return
            # The transaction was refused as a whole: let each call have its own answer.
            for waiting in group:
                await self._execute([waiting])
            return
        missing = []
        for waiting, result in zip(group, results, strict=True):
            if isinstance(result, Exception) and is_missing(result):
                missing.append(waiting)
            else:
                _settle(waiting, result)
        if missing:
            await self._load_and_execute(missing)

    async def _load_and_execute(self, group: list[_Waiting]) -> None:
        try:
            await self._load()
        except _AWAY:
            raise
        except RedisError as error:
            # This user may not load them, or the server is full: who asked hears so, and the batch goes on.
            for waiting in group:
                _settle(waiting, error)
            return
        await self._execute(group)

    async def _transact(self, group: list[_Waiting]) -> list[object]:
        if len(group) == 1:
            try:
                return [await self._client.execute_command(*group[0].call.fcall())]  # type: ignore[no-untyped-call]
            except ResponseError as error:
                if isinstance(error, ReadOnlyError):
                    # Another server may have taken over at this address: a connection that is kept would never see it.
                    await self._client.connection_pool.disconnect(inuse_connections=False)
                return [error]
        async with self._client.pipeline(transaction=True) as pipeline:
            for waiting in group:
                pipeline.execute_command(*waiting.call.fcall())
            results: list[object] = await pipeline.execute(raise_on_error=False)
            return results

    async def _load(self) -> None:
        try:
            await self._client.function_load(LIBRARY.text)
        except ResponseError as error:
            if not is_loaded_already(error):
                raise


def _settle(waiting: _Waiting, result: object) -> None:
    if isinstance(result, Exception):
        if not waiting.is_patient or not is_temporary(result):
            _fail(waiting, translate(result))
    elif not waiting.future.done():
        waiting.future.set_result(result)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)
