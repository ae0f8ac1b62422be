"""What the standards ask of ptt, and which tests prove it: `conformance.toml`, read and held against a test run.

A MUST without a test, a test that does not exist, and a test that did not pass in the run are gaps, and fail the run.
"""

import ast
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_suffix(".toml")
ROOT = Path(__file__).parents[1]
LEVELS = ("MUST", "SHOULD", "MAY")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One thing that a standard asks; ``tests`` are node ids without parameters, ``note`` says why there is none."""

    id: str
    source: str
    level: str
    text: str
    tests: Sequence[str]
    note: str = ""


@dataclass
class Ledger:
    """How each test of this run ended, by node id without parameters."""

    outcomes: dict[str, set[str]] = field(default_factory=dict)

    def note(self, node_id: str, phase: str, outcome: str) -> None:
        """Take note of a report of pytest: setup and teardown count when they fail or skip."""
        if phase == "call" or outcome != "passed":
            self.outcomes.setdefault(node_id.partition("[")[0], set()).add(outcome)


def load_requirements(text: str) -> Sequence[Requirement]:
    """Read the requirements; an unknown key or a missing one raises."""
    return [Requirement(**row) for row in tomllib.loads(text)["requirement"]]


def list_static_gaps(requirements: Sequence[Requirement]) -> Iterator[str]:
    """Say what is wrong without running anything."""
    ids = [one.id for one in requirements]
    yield from (f"{one}: twice" for one in sorted({one for one in ids if ids.count(one) > 1}))
    for one in requirements:
        if one.level not in LEVELS:
            yield f"{one.id}: level {one.level!r} is none of {', '.join(LEVELS)}"
        if not one.tests and (one.level == "MUST" or not one.note):
            yield f"{one.id}: a {one.level} without a test" + (
                "" if one.level == "MUST" else " or a note that says why"
            )
        yield from (f"{one.id}: {test} does not exist" for test in one.tests if not does_exist(test))


def list_gaps_in_run(requirements: Sequence[Requirement], ledger: Ledger, *, is_whole: bool) -> Iterator[str]:
    """Say which named tests did not pass; of a run of some tests only those that ran are judged."""
    for one in requirements:
        for test in one.tests:
            outcomes = ledger.outcomes.get(test, set())
            if (outcomes or is_whole) and outcomes != {"passed"}:
                yield f"{one.id}: {test}: {', '.join(sorted(outcomes)) or 'did not run'}"


def does_exist(test: str) -> bool:
    """Tell whether a test function is defined where its node id says."""
    path, separator, name = test.partition("::")
    return bool(separator) and name in _list_functions(path)


@cache
def _list_functions(path: str) -> frozenset[str]:
    file = ROOT / path
    return frozenset(_walk(ast.parse(file.read_text()).body)) if file.is_file() else frozenset()


def _walk(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


def count_levels(requirements: Sequence[Requirement]) -> Mapping[str, int]:
    """Count requirements by level."""
    return {level: sum(one.level == level for one in requirements) for level in LEVELS}
