"""Limits guessing at passwords: asks the shared count, and remembers what spares asking again.

`ptt.core.guessing` has the limits and the threats. Without Redis there is no count, and every network is fresh: the
threads that hash, and the failed logins that end a connection, still bound what can be tried.
"""

import asyncio
import hashlib
import hmac
import random
import time
from collections import OrderedDict

from ptt import maillog
from ptt.core.errors import Refused, Unavailable
from ptt.core.guessing import Permit, Trust, find_network
from ptt.core.ports import Guesses
from ptt.ingress import replies

MAX_REMEMBERED = 10_000  # pairs of login and network; who guesses could fill the memory with no more than this
TRUSTED_FOR_S = 600.0  # a client that logs in by SCRAM for each message asks the count once in ten minutes
COMPLAIN_EVERY_S = 60.0  # one line a minute says that the count is away, not one a login
REFUSAL_DELAY_S = 1.0
"""How long who has guessed too often waits to hear so. The threat: refused at once, he is back with another handshake,
and handshakes cost more than anything else that he could ask for."""
HASH_BYTES = 12  # of keyed hashes in Redis; two networks share one by chance never
_CONTEXT = b"ptt guesses 1"


class Guard:
    """Whom to hear; one for all sessions."""

    def __init__(self, guesses: Guesses, seal_key: bytes, delay_s: float = REFUSAL_DELAY_S) -> None:
        """Start with an empty memory.

        Args:
            guesses: the shared count.
            seal_key: what keys of our own are derived from: all ingress processes share it.
            delay_s: how long who has guessed too often waits to hear so.
        """
        self._guesses = guesses
        self._delay_s = delay_s
        self._key = hmac.digest(seal_key, _CONTEXT, hashlib.sha256)
        self._trusted: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()
        self._settling: set[asyncio.Task[None]] = set()
        self._complained_at = -COMPLAIN_EVERY_S

    def begin(self, login: str, address: str) -> "GuardedAttempt":
        """Begin an attempt to log in from an IP address."""
        network = self.hash(b"network", find_network(address).encode())
        return GuardedAttempt(self, self.hash(b"login", login.encode("utf-8", "surrogateescape")), network)

    def hash(self, kind: bytes, octets: bytes) -> bytes:
        """Hash with our key."""
        return hmac.digest(self._key, kind + b"\0" + octets, hashlib.sha256)

    async def ask(self, login: bytes, network: bytes) -> Permit:
        """Ask for leave to check a guess.

        Raises:
            Refused: there were too many.
        """
        # Taken out until it turns out well: a friend's network is no place for unlimited guesses either.
        if self._trusted.pop((login, network), 0.0) > time.monotonic():
            return Permit(Trust.KNOWN)
        try:
            permit = await self._guesses.ask(login, network)
        except Unavailable as error:
            self._complain(error)
            return Permit(Trust.FRESH)
        if permit is None:
            # Not all of them at the same time: or they would come back at the same time.
            await asyncio.sleep(self._delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            raise Refused(replies.TOO_MANY_GUESSES)
        return permit

    def settle(self, login: bytes, network: bytes, permit: Permit, *, is_good: bool) -> None:
        """Take a guess out of the count; the client does not wait for it."""
        if is_good:
            self._trusted[login, network] = time.monotonic() + TRUSTED_FOR_S
            self._trusted.move_to_end((login, network))
            if len(self._trusted) > MAX_REMEMBERED:
                self._trusted.popitem(last=False)
        if permit.stamp:
            task = asyncio.create_task(self._settle(login, network, permit.stamp, is_good=is_good))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def finish(self) -> None:
        """Wait until all that was settled is in the count."""
        await asyncio.gather(*self._settling)

    async def _settle(self, login: bytes, network: bytes, stamp: str, *, is_good: bool) -> None:
        try:
            await self._guesses.settle(login, network, stamp, is_good=is_good)
        except Unavailable as error:
            self._complain(error)

    def _complain(self, error: Unavailable) -> None:
        if time.monotonic() >= self._complained_at + COMPLAIN_EVERY_S:
            self._complained_at = time.monotonic()
            maillog.emit("guesses.unavailable", maillog.ERROR, reason=str(error))


class GuardedAttempt:
    """One attempt: implements `ptt.core.ports.Attempt`."""

    def __init__(self, guard: Guard, login: bytes, network: bytes) -> None:
        """Take note of who and where from, as keyed hashes."""
        self.seed = guard.hash(b"seed", login)
        self._guard = guard
        self._login = login[:HASH_BYTES]
        self._network = network[:HASH_BYTES]
        self._permit = Permit(Trust.SUSPECT)

    async def ask(self) -> Trust:
        """Ask for leave to check a guess that is not known to be right; it counts as wrong from now on.

        Raises:
            Refused: there were too many.
        """
        self._permit = await self._guard.ask(self._login, self._network)
        return self._permit.trust

    def settle(self, *, is_good: bool) -> None:
        """Say that the guess was right, or that nobody has checked it after all."""
        self._guard.settle(self._login, self._network, self._permit, is_good=is_good)
