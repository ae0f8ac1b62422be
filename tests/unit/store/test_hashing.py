"""The line before the threads that hash: who comes first, who is turned away."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from ptt.core.errors import Unavailable
from ptt.core.guessing import Trust
from ptt.store.hashing import MAX_WAITING, HashingPool


@pytest.fixture
async def pool() -> AsyncIterator[HashingPool]:
    """Give a pool of two threads."""
    made = HashingPool(2)
    yield made
    made.close()


class Gate:
    """Hashing that takes until it is opened, and keeps in which order it was begun."""

    def __init__(self) -> None:
        """Start closed."""
        self.opened = threading.Event()
        self.begun: list[str] = []

    def hold(self, name: str) -> Callable[[], bool]:
        """Make a check that waits."""

        def check() -> bool:
            self.begun.append(name)
            assert self.opened.wait(10)
            return True

        return check


async def test_most_trusted_come_first(pool: HashingPool) -> None:
    """Whoever came before; and those who guess never have all threads."""
    gate = Gate()
    order = [(Trust.SUSPECT, "s1"), (Trust.SUSPECT, "s2"), (Trust.FRESH, "f1"), (Trust.FRESH, "f2"), (Trust.KNOWN, "k")]
    tasks = []
    for trust, name in order:
        tasks.append(asyncio.create_task(pool.run(trust, name, gate.hold(name))))
        await asyncio.sleep(0)
    gate.opened.set()
    assert await asyncio.gather(*tasks) == [True] * len(order)
    assert sorted(gate.begun[:2]) == ["f1", "s1"]
    assert gate.begun.index("k") < gate.begun.index("f2") < gate.begun.index("s2")


async def test_logins_that_few_ask_for_come_before_one_that_many_do(pool: HashingPool) -> None:
    """A thousand places that guess at one login for the first time keep nobody else waiting."""
    gate = Gate()
    order = ["attacked"] * 6 + ["other", "another"]
    tasks = []
    for name in order:
        tasks.append(asyncio.create_task(pool.run(Trust.FRESH, name, gate.hold(name))))
        await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert gate.begun[:2] == ["attacked"] * 2
    assert sorted(gate.begun[2:4]) == ["another", "other"]


@pytest.mark.parametrize("trust", list(Trust))
async def test_full_line_turns_away(pool: HashingPool, trust: Trust) -> None:
    """Each trust has a line of its own: guesses cannot keep others out of theirs."""
    gate = Gate()
    tasks = [asyncio.create_task(pool.run(Trust.FRESH, "held", gate.hold("held"))) for _ in range(2)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(pool.run(trust, "", gate.hold(""))) for _ in range(MAX_WAITING[trust])]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await pool.run(trust, "", gate.hold(""))
    other = Trust.KNOWN if trust is not Trust.KNOWN else Trust.FRESH
    tasks.append(asyncio.create_task(pool.run(other, "", gate.hold(""))))
    gate.opened.set()
    assert all(await asyncio.gather(*tasks))


async def test_cancelled_leaves_no_gap(pool: HashingPool) -> None:
    """Who gives up in the line, or right after being called, does not keep a thread for ever."""
    gate = Gate()
    held = [asyncio.create_task(pool.run(Trust.FRESH, "held", gate.hold("held"))) for _ in range(2)]
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(pool.run(Trust.FRESH, "gone", gate.hold("gone"))) for _ in range(4)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    gate.opened.set()
    await asyncio.gather(*held)
    last = [asyncio.create_task(pool.run(Trust.FRESH, "last", gate.hold("last"))) for _ in range(4)]
    assert all(await asyncio.gather(*last))
    assert "gone" not in gate.begun
