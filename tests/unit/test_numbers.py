"""No numbered case of bad input is forgotten; tests/data/cases/numbers.toml."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import ROOT, does_exist

CASES = Path(__file__).parents[1] / "data/cases"


def list_numbers(text: str) -> Iterator[int]:
    """Read "1-3, 7"."""
    for part in text.split(", "):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def list_gaps(numbers: str, submission: str, quirks: str) -> list[str]:
    """Say what nobody looks at, and which tests and words are not there."""
    rows = {row["id"].split()[0] for row in tomllib.loads(submission)["case"]}
    given = tomllib.loads(numbers)
    covered = {f"C{number}" for row in given["covered"] for number in list_numbers(row["numbers"])}
    wanted = [f"C{number}" for text in given["sections"].values() for number in list_numbers(text)]
    return [
        *(number for number in wanted if number not in rows | covered),
        *(number for number in sorted(covered - {*wanted})),
        *(test for row in given["covered"] for test in row.get("tests", ()) if not does_exist(test)),
        *(row["quirk"] for row in given["covered"] if "quirk" in row and row["quirk"] not in quirks),
        *(row["about"] for row in given["covered"] if not ("tests" in row or "quirk" in row)),
    ]


def test_every_number_is_looked_at() -> None:
    """Each has a row, a test that exists, or words in docs/quirks.md."""
    quirks = (ROOT / "docs/quirks.md").read_text()
    texts = [(CASES / name).read_text() for name in ("numbers.toml", "submission.toml")]
    assert list_gaps(texts[0], texts[1], quirks) == []


@pytest.mark.parametrize(
    ("covered", "gaps"),
    [
        ('numbers = "2"\nabout = "x"\nquirk = "odd"', []),
        ('numbers = "2"\nabout = "x"\nquirk = "even"', ["even"]),
        ('numbers = "2"\nabout = "x"', ["x"]),
        ('numbers = "2-3"\nabout = "x"\nquirk = "odd"', ["C3"]),
        ('numbers = "3"\nabout = "x"\nquirk = "odd"', ["C2", "C3"]),
        ('numbers = "2"\nabout = "x"\ntests = ["tests/unit/gone.py::test_x"]', ["tests/unit/gone.py::test_x"]),
    ],
)
def test_gap_in_the_numbers_is_found(covered: str, gaps: list[str]) -> None:
    """What is checked can fail."""
    numbers = f'[sections]\nall = "1-2"\n[[covered]]\n{covered}\n'
    assert list_gaps(numbers, 'case = [{ id = "C1 as 2" }]', "an odd one") == gaps
