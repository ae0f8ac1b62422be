"""The rules of each target hold for some thousand changed inputs, and for each input that ever broke one."""

import gc
from pathlib import Path

import pytest

from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import TARGETS

SAVED = Path(__file__).parents[1] / "data/fuzz"
"""Inputs that broke a rule once: ``make fuzz`` adds to them."""


@pytest.fixture(autouse=True)
def _without_leftovers() -> None:
    """Forget what other tests have left: a target that watches the log would hear of its end."""
    gc.collect()


@pytest.mark.parametrize("name", TARGETS)
def test_target_with_changed_seeds_keeps_its_rules(name: str) -> None:
    """Each seed, and inputs made of them; always the same, so that a failure comes again."""
    target = TARGETS[name]
    mutator = Mutator(target, seed=1)
    for octets in (*target.seeds, *(mutator.make() for _ in range(target.suite_executions))):
        _check(name, octets)


@pytest.mark.parametrize("path", sorted(SAVED.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_target_with_saved_input_keeps_its_rules(path: Path) -> None:
    """What was found once stays repaired."""
    _check(path.parent.name, path.read_bytes())


def _check(name: str, octets: bytes) -> None:
    try:
        TARGETS[name].check(octets)
    except Exception as error:
        error.add_note(f"input of {name}: {octets!r}")
        raise
