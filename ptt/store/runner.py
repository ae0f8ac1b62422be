"""Runs scripts from one thread, several in one MULTI: the synchronous twin of ``batch.py``."""

from collections.abc import Sequence

import redis
from redis.exceptions import NoScriptError, RedisError

from ptt.store.scripts import SCRIPTS, Call, translate


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
            except NoScriptError:
                # A restarted Redis has forgotten the scripts; none of the transaction ran, for all are unknown.
                for script in SCRIPTS.values():
                    self.client.script_load(script.text)
                return self._transact(calls)
        except (RedisError, OSError) as error:
            raise translate(error) from error

    def _transact(self, calls: Sequence[Call]) -> list[object]:
        with self.client.pipeline(transaction=True) as pipeline:
            for call in calls:
                pipeline.execute_command(*call.evalsha())  # type: ignore[no-untyped-call]
            results: list[object] = pipeline.execute()
            return results
