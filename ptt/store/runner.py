"""Runs scripts from one thread, several in one MULTI: the synchronous twin of ``batch.py``."""

from collections.abc import Sequence

import redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from ptt.store.scripts import LIBRARY, Call, is_loaded_already, is_missing, translate


class Runner:
    """Runs scripts on one client."""

    def __init__(self, client: redis.Redis) -> None:
        """Use this client; it connects when it is used."""
        self.client = client

    def run(self, calls: Sequence[Call]) -> list[object]:
        """Run all calls in one transaction and give their results.

        Raises:
            Unavailable: Redis is away; it is not known whether they ran.
            Refused: Redis is out of memory.
        """
        if not calls:
            return []
        try:
            try:
                return self._transact(calls)
            except OutOfMemoryError:
                # Redis 7.0 takes nothing into a transaction then, not even what may run.
                return [result for call in calls for result in self._transact([call])]
            except ResponseError as error:
                if not is_missing(error):
                    raise
                # None of the transaction ran, for all functions are unknown.
                load_library(self.client)
                return self._transact(calls)
        except (RedisError, OSError) as error:
            if isinstance(error, ReadOnlyError):
                # Another server may have taken over at this address: a connection that is kept would never see it.
                self.client.connection_pool.disconnect()
            raise translate(error) from error

    def _transact(self, calls: Sequence[Call]) -> list[object]:
        if len(calls) == 1:
            return [self.client.execute_command(*calls[0].fcall())]  # type: ignore[no-untyped-call]
        with self.client.pipeline(transaction=True) as pipeline:
            for call in calls:
                pipeline.execute_command(*call.fcall())  # type: ignore[no-untyped-call]
            results: list[object] = pipeline.execute()
            return results


def load_library(client: redis.Redis) -> None:
    """Load our functions; whoever uses an ACL has the administrator do it by `ptt redis load`."""
    try:
        client.function_load(LIBRARY.text)
    except ResponseError as error:
        if not is_loaded_already(error):
            raise
