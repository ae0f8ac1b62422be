"""The list of requirements is sound, and what holds it against a run finds every gap."""

import pytest

from ptt.settings.model import Ingress
from tests.conformance import (
    FILE,
    Ledger,
    count_levels,
    does_exist,
    list_gaps_in_run,
    list_static_gaps,
    load_requirements,
)

ROW = """
[[requirement]]
id = "D1"
source = "RFC 5321 section 2.3.8"
level = "MUST"
text = "lines end with CRLF"
tests = ["tests/unit/test_conformance.py::test_listed_requirements_have_their_tests"]
"""
NAME = "tests/unit/test_conformance.py::test_listed_requirements_have_their_tests"


def test_listed_requirements_have_their_tests() -> None:
    """Each MUST names a test, and each named test exists."""
    requirements = load_requirements(FILE.read_text())
    assert list(list_static_gaps(requirements)) == []
    assert count_levels(requirements)["MUST"] > 0


@pytest.mark.parametrize(
    ("old", "new", "gap"),
    [
        (NAME, "tests/unit/test_conformance.py::test_nothing", "D1: tests/unit/test_conformance.py::test_nothing does"),
        (NAME, "tests/unit/test_gone.py::test_nothing", "D1: tests/unit/test_gone.py::test_nothing does not exist"),
        (f'"{NAME}"', "", "D1: a MUST without a test"),
        ("MUST", "WILL", "D1: level 'WILL' is none of"),
    ],
)
def test_gap_in_the_list_is_found(old: str, new: str, gap: str) -> None:
    """What is checked can fail."""
    (found,) = list_static_gaps(load_requirements(ROW.replace(old, new)))
    assert found.startswith(gap)


def test_requirement_listed_twice_or_should_without_a_reason_is_found() -> None:
    """Two rows with one id would hide each other; a SHOULD may go untested if the list says why."""
    assert list(list_static_gaps(load_requirements(ROW + ROW))) == ["D1: twice"]
    should = ROW.replace("MUST", "SHOULD").replace(f'"{NAME}"', "")
    assert list(list_static_gaps(load_requirements(should))) == ["D1: a SHOULD without a test or a note that says why"]
    assert list(list_static_gaps(load_requirements(should + 'note = "by hand"\n'))) == []


@pytest.mark.parametrize(
    ("reports", "is_whole", "gaps"),
    [
        ([], False, []),
        ([], True, [f"D1: {NAME}: did not run"]),
        ([("setup", "passed"), ("call", "passed"), ("teardown", "passed")], True, []),
        ([("call", "passed"), ("call", "failed")], True, [f"D1: {NAME}: failed, passed"]),
        ([("setup", "skipped")], False, [f"D1: {NAME}: skipped"]),
        ([("call", "passed"), ("teardown", "failed")], False, [f"D1: {NAME}: failed, passed"]),
    ],
)
def test_named_test_that_did_not_pass_is_found(
    reports: list[tuple[str, str]],
    is_whole: bool,  # noqa: FBT001 - a case
    gaps: list[str],
) -> None:
    """Every parameter of a named test must pass, in every phase; in a whole run it must have run."""
    ledger = Ledger()
    for number, (phase, outcome) in enumerate(reports):
        ledger.note(f"{NAME}[{number}]", phase, outcome)
    assert list(list_gaps_in_run(load_requirements(ROW), ledger, is_whole=is_whole)) == gaps


def test_name_without_a_function_does_not_exist() -> None:
    """A file alone is no test, and a helper is none either."""
    assert does_exist(NAME)
    assert not does_exist("tests/unit/test_conformance.py")
    assert not does_exist("tests/conformance.py::load_requirements")


def test_limits_out_of_the_box_are_those_of_the_standard() -> None:
    """D6, D7, D8: five minutes for each command, 100 recipients, 64 kB of content, or more."""
    ingress = Ingress()
    assert ingress.timeout_s >= 300
    assert ingress.max_recipients >= 100
    assert ingress.max_message_bytes >= 65_536
