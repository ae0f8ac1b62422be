"""Checking passwords: right and wrong, remembered and not, in time and within limits. Real Argon2."""

import asyncio
import time
from collections.abc import AsyncIterator

import argon2
import pytest

from ptt.core.errors import MalformedInput, Refused, Unavailable
from ptt.core.guessing import Trust
from ptt.core.reply import Reply
from ptt.store.hashing import MAX_WAITING
from ptt.store.users_password import (
    MAX_PASSWORD_BYTES,
    MEMORY_KIB,
    PARALLELISM,
    TIME_COST,
    PasswordChecker,
    check_hash,
    derive_scram,
    hash_password,
)
from tests.servers.attempts import FreeAttempt

HASH = hash_password(b"secret")


@pytest.fixture
async def checker() -> AsyncIterator[PasswordChecker]:
    """Give a checker that remembers nothing yet."""
    made = PasswordChecker()
    yield made
    made.close()


def test_hash_password_has_the_recommended_parameters() -> None:
    """Argon2id, 19 MiB, two passes, one lane."""
    found = argon2.extract_parameters(HASH)
    assert HASH.startswith("$argon2id$")
    assert (found.memory_cost, found.time_cost, found.parallelism) == (MEMORY_KIB, TIME_COST, PARALLELISM)
    assert (MEMORY_KIB, TIME_COST, PARALLELISM) == (19_456, 2, 1)


@pytest.mark.parametrize("password", [b"", b"x" * (MAX_PASSWORD_BYTES + 1)])
def test_hash_password_outside_the_limits_is_refused(password: bytes) -> None:
    """What could never be used to log in is not taken."""
    with pytest.raises(MalformedInput):
        hash_password(password)


@pytest.mark.parametrize(
    "encoded",
    [
        "$argon2id$",
        "$argon2id$v=19$m=19456,t=2$c2FsdA$aGFzaA",
        "$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdHNhbHQ$aGFzaA",
        "$argon2id$v=19$m=19456,t=4294967295,p=1$c2FsdHNhbHQ$aGFzaA",
        "$argon2id$v=19$m=19456,t=2,p=16777215$c2FsdHNhbHQ$aGFzaA",
        "$argon2id$v=19$m=-1,t=2,p=1$c2FsdHNhbHQ$aGFzaA",
    ],
)
def test_check_hash_that_costs_too_much_is_refused(encoded: str) -> None:
    """One login must not take all memory or time of the host."""
    with pytest.raises(MalformedInput, match=r"^password: "):
        check_hash(encoded)


def test_check_hash_of_other_programs_is_taken() -> None:
    """The low-memory profile of RFC 9106 are within the limits."""
    check_hash("$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaA")


async def test_check_right_and_wrong(checker: PasswordChecker) -> None:
    """Only the right password is right, before and after it was remembered."""
    for _ in range(2):
        assert not await checker.check("alice", b"Secret", HASH, FreeAttempt())
        assert not await checker.check("alice", b"", HASH, FreeAttempt())
        assert await checker.check("alice", b"secret", HASH, FreeAttempt())


async def test_check_hash_with_broken_base64_is_wrong(checker: PasswordChecker) -> None:
    """A hash that cannot be decoded lets nobody in, and raises nothing."""
    assert not await checker.check("alice", b"secret", "$argon2id$v=19$m=19456,t=2,p=1$!$!", FreeAttempt())


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the hashes that argon2 has checked a password against."""
    verify, found = argon2.PasswordHasher.verify, list[str]()

    def note(hasher: argon2.PasswordHasher, encoded: str, password: bytes) -> bool:
        found.append(encoded)
        return verify(hasher, encoded, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", note)
    return found


async def test_check_remembered_costs_no_hashing(checker: PasswordChecker, hashed: list[str]) -> None:
    """A client that logs in for each message pays for the hash once."""
    for _ in range(100):
        assert await checker.check("alice", b"secret", HASH, FreeAttempt())
    assert hashed == [HASH]


async def test_check_remembered_is_forgotten_with_a_new_hash(checker: PasswordChecker) -> None:
    """A changed password counts at once."""
    assert await checker.check("alice", b"secret", HASH, FreeAttempt())
    assert not await checker.check("alice", b"secret", hash_password(b"other"), FreeAttempt())


async def test_check_remembered_belongs_to_one_login(checker: PasswordChecker) -> None:
    """Parts of the key do not run into each other."""
    assert await checker.check("alice", b"secret", HASH, FreeAttempt())
    assert not await checker.check("alic", b"esecret", HASH, FreeAttempt())


async def test_check_same_password_at_once_is_hashed_once(checker: PasswordChecker) -> None:
    """A client that opens hundreds of connections at once is not turned away, and guesses once."""
    attempt = FreeAttempt()
    assert all(await asyncio.gather(*(checker.check("alice", b"secret", HASH, attempt) for _ in range(1000))))
    assert (attempt.asked, attempt.settled) == (1, [True])


async def test_check_asks_for_leave_only_when_it_has_to_hash(checker: PasswordChecker) -> None:
    """What is remembered is no guess; what is wrong stays one; what may not be checked is not checked."""
    attempt = FreeAttempt()
    assert await checker.check("alice", b"secret", HASH, attempt)
    assert await checker.check("alice", b"secret", HASH, attempt)
    assert (attempt.asked, attempt.settled) == (1, [True])
    assert not await checker.check("alice", b"wrong", HASH, attempt)
    assert (attempt.asked, attempt.settled) == (2, [True])
    refused = FreeAttempt(refusal=Refused(Reply(454, "4.7.0", "Later")))
    for password in (b"wrong", b"secret "):
        with pytest.raises(Refused):
            await checker.check("alice", password, HASH, refused)
        with pytest.raises(Refused):
            await checker.check_in_vain("nobody", password, HASH, refused)
    assert await checker.check("alice", b"secret", HASH, refused)


async def test_check_with_a_full_line_is_no_guess(checker: PasswordChecker) -> None:
    """Who was never checked is taken out of the count again, and hears 454."""
    attempts = [FreeAttempt(trust=Trust.SUSPECT) for _ in range(MAX_WAITING[Trust.SUSPECT] + 20)]
    checks = [checker.check("alice", b"%d" % number, HASH, attempt) for number, attempt in enumerate(attempts)]
    results = await asyncio.gather(*checks, return_exceptions=True)
    turned_away = [isinstance(result, Unavailable) for result in results]
    assert any(turned_away)
    assert [attempt.settled for attempt in attempts] == [[False] if away else [] for away in turned_away]


async def test_check_in_vain_is_never_right(checker: PasswordChecker) -> None:
    """The decoy may be the hash of a user whose password somebody tries for another login."""
    attempt = FreeAttempt()
    await checker.check_in_vain("nobody", b"secret", HASH, attempt)
    assert attempt.settled == []


async def test_check_in_vain_takes_the_time_of_a_real_check(checker: PasswordChecker, hashed: list[str]) -> None:
    """An unknown login cannot be told from a wrong password by the clock: the same is hashed, and little else done."""
    # CPU of this process, not the clock on the wall: what others do on the machine must not count.
    wrong_s, unknown_s = [], []
    for number in range(7):
        started = time.process_time()
        await checker.check("alice", b"wrong%d" % number, HASH, FreeAttempt())
        wrong_s.append(time.process_time() - started)
        started = time.process_time()
        await checker.check_in_vain("nobody", b"wrong%d" % number, HASH, FreeAttempt())
        unknown_s.append(time.process_time() - started)
    assert hashed == [HASH] * 14
    assert 0.3 < min(unknown_s) / min(wrong_s) < 3


def test_derive_scram_is_of_the_same_password() -> None:
    """With a salt of its own each time; a password that no SCRAM client can send has none."""
    one, other = derive_scram(b"secret"), derive_scram(b"secret")
    assert one is not None
    assert other is not None
    assert one.salt != other.salt
    assert derive_scram(b"\xff") is None
