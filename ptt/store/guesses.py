"""The count of wrong guesses at passwords, shared by all ingress processes: implements `ptt.core.ports.Guesses`.

In Redis stand keyed hashes, so who reads it learns neither logins nor addresses.
"""

import redis.asyncio

from ptt.core.errors import Unavailable
from ptt.core.guessing import GUESSES, KNOWN_FOR_S, LOGIN_GUESSES, LOGIN_WINDOW_S, WINDOW_S, Permit, Trust
from ptt.store import keys
from ptt.store.batch import Batch
from ptt.store.connection import RedisAddress, connect_async
from ptt.store.scripts import SCRIPTS, Call

TIMEOUT_S = 3.0
"""Longest wait for Redis: then a login goes on without the count, for nobody can send mail meanwhile anyway."""
LOGIN_SLOTS = 65_536
"""Counters of guesses at logins; logins share them by chance. The threat: guesses at made-up logins fill the memory."""


class RedisGuesses:
    """Counts on one Redis server; made within a running event loop."""

    def __init__(self, address: RedisAddress) -> None:
        """Connect when it is used."""
        self._client: redis.asyncio.Redis = connect_async(address)
        self._batch = Batch(self._client)
        self._batch.start()

    async def ask(self, login: bytes, network: bytes) -> Permit | None:
        """Count a guess, and give leave to check it; None if there were too many.

        Args:
            login: keyed hash of the login.
            network: keyed hash of the network.

        Raises:
            Unavailable: Redis does not answer in time.
        """
        # A call whose answer was lost is repeated and counts twice: that harms nobody who guesses right.
        limits = (GUESSES, WINDOW_S * 1000, LOGIN_GUESSES, LOGIN_WINDOW_S * 1000)
        result = await self._batch.run(Call(SCRIPTS["guess"], _name(login, network), limits), TIMEOUT_S)
        match result:
            case [int(trust), bytes(stamp)]:
                return None if trust < 0 else Permit(Trust(trust), stamp.decode())
            case _:
                raise Unavailable(f"redis: unexpected answer {result!r}")

    async def settle(self, login: bytes, network: bytes, stamp: str, *, is_good: bool) -> None:
        """Take a guess out of the count: it was right, or nobody has checked it.

        Raises:
            Unavailable: Redis does not answer in time.
        """
        known_ms = KNOWN_FOR_S * 1000 if is_good else 0
        await self._batch.run(Call(SCRIPTS["welcome"], _name(login, network), (stamp, known_ms)), TIMEOUT_S)

    async def close(self) -> None:
        """Stop; who waits hears Unavailable."""
        await self._batch.close()
        await self._client.aclose()


def _name(login: bytes, network: bytes) -> tuple[str, ...]:
    pair = f"{login.hex()}:{network.hex()}"
    slot = int.from_bytes(login, "big") % LOGIN_SLOTS
    return (
        f"{keys.KNOWN}{pair}",
        f"{keys.GUESSES}{pair}",
        f"{keys.GUESSES}{network.hex()}",
        f"{keys.GUESSES}login:{slot:04x}",
    )
