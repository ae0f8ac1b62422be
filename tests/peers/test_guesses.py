"""The shared count of wrong guesses, in a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import redis

from ptt.core.errors import Unavailable
from ptt.core.guessing import GUESSES, LOGIN_GUESSES, Permit, Trust
from ptt.store import guesses as module
from ptt.store.connection import RedisAddress
from ptt.store.guesses import RedisGuesses
from tests.servers.redis import running_server

ALICE, BOB = b"a" * 12, b"b" * 12


def place(number: int) -> bytes:
    """Name a network."""
    return number.to_bytes(12, "big")


@pytest.fixture
async def guesses(address: RedisAddress) -> AsyncIterator[RedisGuesses]:
    """Give the count of one process."""
    made = RedisGuesses(address)
    yield made
    await made.close()


async def ask(guesses: RedisGuesses, login: bytes, network: bytes) -> Permit:
    """Ask for leave that is given."""
    permit = await guesses.ask(login, network)
    assert permit is not None
    return permit


async def test_network_has_so_many_guesses_a_window(guesses: RedisGuesses, address: RedisAddress) -> None:
    """For all logins together, and in all processes together; other networks are not concerned."""
    other = RedisGuesses(address)
    trusts = [(await ask(guesses, bytes([number]) * 12, place(1))).trust for number in range(GUESSES)]
    assert trusts == [Trust.FRESH] + [Trust.SUSPECT] * (GUESSES - 1)
    assert await guesses.ask(ALICE, place(1)) is None
    assert await other.ask(ALICE, place(1)) is None
    assert (await ask(other, ALICE, place(2))).trust is Trust.FRESH
    await other.close()


async def test_guesses_at_once_are_counted_one_by_one(guesses: RedisGuesses) -> None:
    """The threat: a thousand connections ask in the same moment, before the first has failed."""
    permits = await asyncio.gather(*(guesses.ask(ALICE, place(1)) for _ in range(50)))
    assert sum(permit is not None for permit in permits) == GUESSES


async def test_right_guess_is_taken_out_and_makes_the_network_known(guesses: RedisGuesses) -> None:
    """Known for this user alone; not for another, and not elsewhere."""
    permit = await ask(guesses, ALICE, place(1))
    await guesses.settle(ALICE, place(1), permit.stamp, is_good=True)
    assert (await ask(guesses, ALICE, place(1))).trust is Trust.KNOWN
    assert (await ask(guesses, BOB, place(1))).trust is Trust.FRESH
    assert (await ask(guesses, ALICE, place(2))).trust is Trust.FRESH


async def test_unchecked_guess_is_taken_out_and_makes_no_friend(guesses: RedisGuesses) -> None:
    """As if it had not been."""
    permit = await ask(guesses, ALICE, place(1))
    await guesses.settle(ALICE, place(1), permit.stamp, is_good=False)
    assert (await ask(guesses, ALICE, place(1))).trust is Trust.FRESH


async def test_known_user_is_heard_beside_somebody_who_guesses(guesses: RedisGuesses) -> None:
    """Behind one address: the guesses at others do not count against the friend, and his own have a limit too."""
    permit = await ask(guesses, ALICE, place(1))
    await guesses.settle(ALICE, place(1), permit.stamp, is_good=True)
    for _ in range(GUESSES):
        await ask(guesses, BOB, place(1))
    assert await guesses.ask(BOB, place(1)) is None
    for _ in range(GUESSES):
        assert (await ask(guesses, ALICE, place(1))).trust is Trust.KNOWN
    assert await guesses.ask(ALICE, place(1)) is None


async def test_user_under_attack_is_not_locked_out(guesses: RedisGuesses) -> None:
    """After guesses from everywhere: known networks as before, new ones with their first guess, no second one."""
    permit = await ask(guesses, ALICE, place(1))
    await guesses.settle(ALICE, place(1), permit.stamp, is_good=True)
    for number in range(LOGIN_GUESSES):
        await ask(guesses, ALICE, place(100 + number))
    assert (await ask(guesses, ALICE, place(1))).trust is Trust.KNOWN
    assert await guesses.ask(ALICE, place(100)) is None
    permit = await ask(guesses, ALICE, place(2))
    assert permit.trust is Trust.FRESH
    assert await guesses.ask(ALICE, place(2)) is None
    await guesses.settle(ALICE, place(2), permit.stamp, is_good=True)
    assert (await ask(guesses, ALICE, place(2))).trust is Trust.KNOWN
    assert (await ask(guesses, BOB, place(100))).trust is Trust.SUSPECT


async def test_everything_expires_and_names_nobody(guesses: RedisGuesses, client: redis.Redis) -> None:
    """Each key has a TTL; in Redis stand hashes."""
    permit = await ask(guesses, ALICE, place(1))
    await guesses.settle(ALICE, place(1), permit.stamp, is_good=True)
    await ask(guesses, ALICE, place(1))
    await ask(guesses, BOB, place(1))
    names = list(client.scan_iter())
    assert {name.split(b":")[1] for name in names} == {b"guess", b"known"}
    assert all(client.ttl(name) > 0 for name in names)


async def test_window_passes(guesses: RedisGuesses, client: redis.Redis) -> None:
    """A list of guesses whose oldest is older than the window leaves room for one more."""
    for _ in range(GUESSES):
        await ask(guesses, ALICE, place(1))
    (name,) = [name for name in client.scan_iter() if client.type(name) == b"list"]
    oldest = client.lindex(name, -1)
    assert isinstance(oldest, bytes)
    client.lset(name, GUESSES - 1, str(int(oldest) - 60_000_000))
    assert (await ask(guesses, ALICE, place(1))).trust is Trust.SUSPECT
    assert await guesses.ask(ALICE, place(1)) is None


async def test_redis_away_is_unavailable_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login must not wait for the count for longer than a moment."""
    with running_server() as server:
        guesses = RedisGuesses(RedisAddress(url=server.url))
        await ask(guesses, ALICE, place(1))
        server.kill()
        with monkeypatch.context() as patched:
            patched.setattr(module, "TIMEOUT_S", 0.2)
            with pytest.raises(Unavailable):
                await guesses.ask(ALICE, place(1))
        server.start()
        with suppress(Unavailable):
            await guesses.ask(ALICE, place(1))
        assert await guesses.ask(ALICE, place(1)) is not None
        await guesses.close()
