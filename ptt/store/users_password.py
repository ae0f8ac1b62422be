"""Passwords: Argon2id hashes (RFC 9106), checked in few threads, and remembered for a while once they were right.

Wrong passwords are never remembered, and nothing here tells by its time whether a login exists.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import argon2

from ptt.core.errors import MalformedInput, Unavailable
from ptt.core.scram import SALT_BYTES, ScramVerifier, make_verifier

MEMORY_KIB = 19_456
TIME_COST = 2
PARALLELISM = 1
_HASHER = argon2.PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
_ENCODED_DECOY = f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p={PARALLELISM}$" + "A" * 22 + "$" + "A" * 43

MAX_PASSWORD_BYTES = 1024  # octets; hashing a megabyte for anyone who asks would be a gift
MAX_MEMORY_KIB = 262_144  # a hash with m=2^32 pushed to the repository would take all memory at one login
MAX_TIME_COST = 16  # the same for time
MAX_PARALLELISM = 16  # the same for threads
MAX_WAITING = 256  # checks in hand and in line; guesses by the thousand must hear 454, not make all wait for minutes
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
        # As many threads as CPUs: each check takes 19 MiB and all of a CPU, so more would only fill the memory.
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="argon2")
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}

    async def check(self, login: str, password: bytes, encoded: str) -> bool:
        """Tell whether the password is right; costs microseconds if it was right a short while ago.

        Raises:
            Unavailable: too many checks are waiting.
        """
        # The hash is in the key, so a changed password is forgotten by itself.
        key = self._digest(login.encode("utf-8", "surrogateescape"), password, encoded.encode())
        if self._remembered.get(key, 0.0) > time.monotonic():
            self._remembered.move_to_end(key)
            return True
        right = await self._verify(key, encoded, password)
        if right:
            self._remember(key, time.monotonic() + REMEMBER_S)
        return right

    async def check_in_vain(self, login: str, password: bytes, hashes: tuple[str, ...]) -> None:
        """Take as long as `check` for a login that must be refused.

        Args:
            login: what the client says.
            password: same.
            hashes: those of all users.

        Raises:
            Unavailable: too many checks are waiting.
        """
        key = self._digest(login.encode("utf-8", "surrogateescape"), password)
        await self._verify(key, self.pick_decoy(login, hashes), password)

    def pick_decoy(self, login: str, hashes: tuple[str, ...]) -> str:
        """Pick one of the hashes, always the same for a login.

        So the times of unknown logins are spread as those of known ones are, whatever parameters their hashes have.
        """
        number = int.from_bytes(self._digest(login.encode("utf-8", "surrogateescape"))[:8], "big")
        return hashes[number % len(hashes)] if hashes else _ENCODED_DECOY

    def close(self) -> None:
        """Start no further check."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _digest(self, *parts: bytes) -> bytes:
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hashlib.blake2b(framed, key=self._key, digest_size=32).digest()

    def _remember(self, key: bytes, until: float) -> None:
        self._remembered[key] = until
        self._remembered.move_to_end(key)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _verify(self, key: bytes, encoded: str, password: bytes) -> bool:
        # A client that opens a hundred connections at once pays for one check.
        if (task := self._running.get(key)) is None:
            if len(self._running) >= MAX_WAITING:
                raise Unavailable("too many passwords are being checked")
            task = asyncio.create_task(self._run(key, encoded, password))
            self._running[key] = task
        return await asyncio.shield(task)

    async def _run(self, key: bytes, encoded: str, password: bytes) -> bool:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _verify, encoded, password)
        finally:
            del self._running[key]


def _verify(encoded: str, password: bytes) -> bool:
    try:
        return _HASHER.verify(encoded, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
