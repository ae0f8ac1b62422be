"""Passwords: Argon2id hashes (RFC 9106), remembered for a while once they were right.

Wrong passwords are never remembered, and nothing here tells by its time whether a login exists.
"""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial

import argon2

from ptt.core.errors import MalformedInput, Unavailable
from ptt.core.ports import Attempt
from ptt.core.scram import SALT_BYTES, ScramVerifier, make_verifier
from ptt.store.hashing import HashingPool

MEMORY_KIB = 19_456
TIME_COST = 2
PARALLELISM = 1
_HASHER = argon2.PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
ENCODED_DECOY = f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p={PARALLELISM}$" + "A" * 22 + "$" + "A" * 43

MAX_PASSWORD_BYTES = 1024  # octets; hashing a megabyte for anyone who asks would be a gift
MAX_MEMORY_KIB = 262_144  # a hash with m=2^32 pushed to the repository would take all memory at one login
MAX_TIME_COST = 16  # the same for time
MAX_PARALLELISM = 16  # the same for threads
MAX_REMEMBERED = 10_000  # right passwords; who knows one could fill the memory with no more than this
REMEMBER_S = 600.0  # a client that logs in for each message pays for the hash once in ten minutes


def hash_password(password: bytes) -> str:
    """Hash a new password, as it stands in a user's file.

    Raises:
        MalformedInput: it is empty or too long.
    """
    if not 0 < len(password) <= MAX_PASSWORD_BYTES:
        raise MalformedInput(f"password: must have 1 to {MAX_PASSWORD_BYTES} octets")
    return _HASHER.hash(password)


def derive_scram(password: bytes) -> ScramVerifier | None:
    """Derive what SCRAM needs of a new password; None if no SCRAM client could send it."""
    try:
        return make_verifier(password, secrets.token_bytes(SALT_BYTES))
    except MalformedInput:
        return None


def check_hash(encoded: str) -> None:
    """Refuse a hash that costs more than a login may.

    Raises:
        MalformedInput: it is no hash, or its parameters are beyond the limits.
    """
    try:
        parameters = argon2.extract_parameters(encoded)
    except argon2.exceptions.InvalidHashError as error:
        raise MalformedInput("password: not an argon2id hash") from error
    for name, value, most in (
        ("m", parameters.memory_cost, MAX_MEMORY_KIB),
        ("t", parameters.time_cost, MAX_TIME_COST),
        ("p", parameters.parallelism, MAX_PARALLELISM),
    ):
        if not 1 <= value <= most:
            raise MalformedInput(f"password: {name}={value} in the hash is not within 1 to {most}")


class PasswordChecker:
    """Checks passwords against hashes without blocking the event loop."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._pool = HashingPool()
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}

    async def check(self, login: str, password: bytes, encoded: str, attempt: Attempt) -> bool:
        """Tell whether the password is right; costs microseconds if it was right a short while ago.

        Raises:
            Refused: the attempt may not be checked.
            Unavailable: too many checks are waiting.
        """
        # The hash is in the key, so a changed password is forgotten by itself.
        key = self._digest(login, password, encoded)
        if self._remembered.get(key, 0.0) > time.monotonic():
            self._remembered.move_to_end(key)
            return True
        right = await self._join(key, lambda: self._verify(login, partial(_verify, encoded, password), attempt))
        if right:
            self._remember(key, time.monotonic() + REMEMBER_S)
        return right

    async def check_in_vain(self, login: str, password: bytes, encoded: str, attempt: Attempt) -> None:
        """Take as long as `check` for a login that must be refused, whatever the password is.

        Raises:
            Refused: the attempt may not be checked.
            Unavailable: too many checks are waiting.
        """
        work = partial(_verify, encoded, password)
        await self._join(self._digest(login, password), lambda: self._verify(login, work, attempt, is_in_vain=True))

    def close(self) -> None:
        """Start no further check."""
        self._pool.close()

    def _digest(self, *parts: str | bytes) -> bytes:
        octets = [part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape") for part in parts]
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in octets)
        return hashlib.blake2b(framed, key=self._key, digest_size=32).digest()

    def _remember(self, key: bytes, until: float) -> None:
        self._remembered[key] = until
        self._remembered.move_to_end(key)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _join(self, key: bytes, verify: Callable[[], Coroutine[None, None, bool]]) -> bool:
        # A client that opens a hundred connections at once pays for one check, and guesses once.
        if (task := self._running.get(key)) is None:
            task = asyncio.create_task(verify())
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key))
        return await asyncio.shield(task)

    async def _verify(
        self, login: str, work: Callable[[], bool], attempt: Attempt, *, is_in_vain: bool = False
    ) -> bool:
        trust = await attempt.ask()
        try:
            right = await self._pool.run(trust, login, work)
        except Unavailable:
            attempt.settle(is_good=False)
            raise
        if is_in_vain or not right:
            return False
        attempt.settle(is_good=True)
        return True


def _verify(encoded: str, password: bytes) -> bool:
    try:
        return _HASHER.verify(encoded, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
