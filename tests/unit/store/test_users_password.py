"""Checking passwords: right and wrong, remembered and not, in time and within limits. Real Argon2."""

import asyncio
import time
from collections.abc import AsyncIterator

import argon2
import pytest

from ptt.core.errors import MalformedInput, Unavailable
from ptt.store.users_password import (
    MAX_PASSWORD_BYTES,
    MAX_WAITING,
    MEMORY_KIB,
    PARALLELISM,
    TIME_COST,
    PasswordChecker,
    check_hash,
    hash_password,
)

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
        assert not await checker.check("alice", b"Secret", HASH)
        assert not await checker.check("alice", b"", HASH)
        assert await checker.check("alice", b"secret", HASH)


async def test_check_hash_with_broken_base64_is_wrong(checker: PasswordChecker) -> None:
    """A hash that cannot be decoded lets nobody in, and raises nothing."""
    assert not await checker.check("alice", b"secret", "$argon2id$v=19$m=19456,t=2,p=1$!$!")


async def test_check_remembered_costs_no_hashing(checker: PasswordChecker) -> None:
    """A client that logs in for each message pays for the hash once."""
    started = time.perf_counter()
    assert await checker.check("alice", b"secret", HASH)
    hashed_s = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(100):
        assert await checker.check("alice", b"secret", HASH)
    assert time.perf_counter() - started < hashed_s


async def test_check_remembered_is_forgotten_with_a_new_hash(checker: PasswordChecker) -> None:
    """A changed password counts at once."""
    assert await checker.check("alice", b"secret", HASH)
    assert not await checker.check("alice", b"secret", hash_password(b"other"))


async def test_check_remembered_belongs_to_one_login(checker: PasswordChecker) -> None:
    """Parts of the key do not run into each other."""
    assert await checker.check("alice", b"secret", HASH)
    assert not await checker.check("alic", b"esecret", HASH)


async def test_check_same_password_at_once_is_hashed_once(checker: PasswordChecker) -> None:
    """A client that opens hundreds of connections at once is not turned away."""
    count = MAX_WAITING * 4
    assert all(await asyncio.gather(*(checker.check("alice", b"secret", HASH) for _ in range(count))))


async def test_check_too_many_different_at_once_are_told_to_wait(checker: PasswordChecker) -> None:
    """Guesses by the thousand do not queue up."""
    tasks = [asyncio.create_task(checker.check("alice", b"%d" % number, HASH)) for number in range(MAX_WAITING + 1)]
    with pytest.raises(Unavailable):
        await tasks[-1]
    for task in tasks:
        task.cancel()
    checker.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_check_in_vain_takes_the_time_of_a_real_check(checker: PasswordChecker) -> None:
    """An unknown login cannot be told from a wrong password by the clock, with users and without."""

    async def measure(kind: str) -> float:
        # CPU of this process, not the clock on the wall: what others do on the machine must not count.
        started = time.process_time()
        for number in range(5):
            password = f"{kind}{number}".encode()
            if kind == "wrong":
                await checker.check("alice", password, HASH)
            else:
                await checker.check_in_vain("nobody", password, (HASH,) if kind == "unknown" else ())
        return time.process_time() - started

    wrong_s, unknown_s, empty_s = [await measure(kind) for kind in ("wrong", "unknown", "empty")]
    assert 0.3 < unknown_s / wrong_s < 3
    assert 0.3 < empty_s / wrong_s < 3


async def test_pick_decoy_is_the_same_for_a_login_and_spread_over_logins(checker: PasswordChecker) -> None:
    """Where hashes differ in cost, an unknown login has one cost of them, and always the same one."""
    hashes = (HASH, "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA")
    picked = {login: checker.pick_decoy(login, hashes) for login in map(str, range(100))}
    assert set(picked.values()) == set(hashes)
    assert all(checker.pick_decoy(login, hashes) == decoy for login, decoy in picked.items())
