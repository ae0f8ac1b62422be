"""Whom the guard hears: what it asks the count, what it remembers, what it does without one."""

import pytest

from ptt.core.errors import Refused, Unavailable
from ptt.core.guessing import Trust
from ptt.ingress.guard import Guard
from tests.servers.submission import SEAL_KEY, CountedGuesses

HOME, CAFE = "192.0.2.1", "198.51.100.1"


@pytest.fixture
def guesses() -> CountedGuesses:
    """Give a count that allows three guesses."""
    return CountedGuesses(most=3)


@pytest.fixture
def guard(guesses: CountedGuesses) -> Guard:
    """Give a guard."""
    return Guard(guesses, SEAL_KEY, delay_s=0)


async def test_wrong_guesses_of_a_network_are_counted_together(guard: Guard) -> None:
    """Whatever login they are for; another network is not concerned."""
    for login in ("alice", "bob", "carol"):
        await guard.begin(login, "2001:db8::1").ask()
    with pytest.raises(Refused) as caught:
        await guard.begin("dave", "2001:db8::ffff").ask()
    assert caught.value.reply.code == 454
    assert await guard.begin("dave", "2001:db8:0:1::1").ask() is Trust.FRESH


async def test_right_guess_is_not_counted_and_makes_a_friend(guard: Guard, guesses: CountedGuesses) -> None:
    """The count is not even asked again for a while."""
    attempt = guard.begin("alice", HOME)
    assert await attempt.ask() is Trust.FRESH
    attempt.settle(is_good=True)
    await guard.finish()
    assert guesses.stamps == []
    for _ in range(5):
        again = guard.begin("alice", HOME)
        assert await again.ask() is Trust.KNOWN
        assert guesses.stamps == []
        again.settle(is_good=True)
    assert await guard.begin("bob", HOME).ask() is Trust.FRESH


async def test_friend_who_guesses_wrong_is_counted(guard: Guard, guesses: CountedGuesses) -> None:
    """Who sits beside a friend gets one guess for each of his logins, not any number."""
    attempt = guard.begin("alice", HOME)
    await attempt.ask()
    attempt.settle(is_good=True)
    await guard.finish()
    await guard.begin("alice", HOME).ask()
    assert guesses.stamps == []
    await guard.begin("alice", HOME).ask()
    assert len(guesses.stamps) == 1


async def test_unchecked_guess_is_not_counted(guard: Guard, guesses: CountedGuesses) -> None:
    """Whoever heard 454 for a full line has not guessed, and is no friend either."""
    attempt = guard.begin("alice", HOME)
    await attempt.ask()
    attempt.settle(is_good=False)
    await guard.finish()
    assert (guesses.stamps, guesses.known) == ([], set())


async def test_without_the_count_everybody_is_fresh(guard: Guard, guesses: CountedGuesses) -> None:
    """A login must not depend on Redis; one line a minute says that it is away."""
    guesses.fault = Unavailable("redis: gone")
    attempt = guard.begin("alice", HOME)
    assert await attempt.ask() is Trust.FRESH
    attempt.settle(is_good=True)
    await guard.finish()


def test_seed_depends_on_login_and_key_alone(guard: Guard, guesses: CountedGuesses) -> None:
    """Decoys look the same in every process and from everywhere, and nobody outside can compute them."""
    seed = guard.begin("alice", HOME).seed
    assert seed == Guard(guesses, SEAL_KEY).begin("alice", CAFE).seed
    assert seed != guard.begin("bob", HOME).seed
    assert seed != Guard(guesses, bytes(32)).begin("alice", HOME).seed
