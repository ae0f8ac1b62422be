"""The judge of the rig: that each invariant can fail."""

from dataclasses import replace

import pytest

from tests.chaos.verdict import Arrival, Evidence, check, count

COPY = Arrival("n1t1", "QUEUEID1", ("r1@x.test",), "aa", 12.0)
GOOD = Evidence(
    offers={"n1t1": ("r1@x.test", "aa")},
    accepted={"n1t1": "QUEUEID1"},
    accepted_at={"n1t1": 10.0},
    arrivals=[COPY],
    final={("QUEUEID1", "r1@x.test"): 1},
    drained_s=1.0,
)


TOLD = replace(
    GOOD,
    arrivals=[],
    refused_there=frozenset({"n1t1"}),
    reports=[Arrival("n1t1", "REPORTID1", ("alice@x.test",), "cc", 13.0)],
)
OTHER_REPORT = replace(TOLD.reports[0], queue_id="REPORTID2")


def failing(evidence: Evidence) -> list[str]:
    """Give the names of the invariants that do not hold."""
    return [one.name for one in check(evidence) if not one.holds]


def test_verdict_of_one_delivery_holds() -> None:
    """One message accepted and delivered once keeps every invariant."""
    assert failing(GOOD) == []
    assert count(GOOD).slowest_s == 2.0


@pytest.mark.parametrize(
    ("evidence", "broken"),
    [
        pytest.param(replace(GOOD, arrivals=[]), "I1", id="lost"),
        pytest.param(replace(GOOD, left=frozenset({"QUEUEID1"})), "I1", id="left"),
        pytest.param(replace(GOOD, accepted={}, refused=frozenset({"n1t1"})), "I2", id="refused"),
        pytest.param(replace(GOOD, accepted={}, incomplete=frozenset({"n1t1"})), "I2", id="incomplete"),
        pytest.param(replace(GOOD, arrivals=[COPY, COPY]), "I3", id="doubled"),
        pytest.param(
            replace(GOOD, arrivals=[COPY] * 3, uncertain={("QUEUEID1", "r1@x.test"): 1}), "I3", id="listed-too-seldom"
        ),
        pytest.param(replace(GOOD, arrivals=[replace(COPY, sha256="bb")]), "I4", id="damaged"),
        pytest.param(replace(GOOD, signatures_bad=1), "I4", id="unsigned"),
        pytest.param(replace(GOOD, final={("QUEUEID1", "r1@x.test"): 2}), "I5", id="two-states"),
        pytest.param(replace(GOOD, arrivals=[replace(COPY, queue_id="OTHER")]), "I5", id="two-names"),
        pytest.param(replace(GOOD, arrivals=[replace(COPY, recipients=("x@x.test",))]), "I6", id="strayed"),
        pytest.param(replace(TOLD, reports=[]), "I1", id="untold"),
        pytest.param(replace(TOLD, reports=[*TOLD.reports, OTHER_REPORT]), "I5", id="two-reports"),
        pytest.param(replace(TOLD, reports=[*TOLD.reports, *TOLD.reports]), "I3", id="report-doubled"),
        pytest.param(replace(TOLD, arrivals=[COPY]), "I5", id="refused-and-taken"),
        pytest.param(replace(GOOD, reports=TOLD.reports), "I5", id="told-of-no-failure"),
        pytest.param(replace(GOOD, drained_s=None), "I8", id="stuck"),
        pytest.param(replace(GOOD, drained_s=61.0), "I8", id="slow"),
    ],
)
def test_verdict_of_broken_run_names_the_invariant(evidence: Evidence, broken: str) -> None:
    """Each way to break one invariant breaks that one and no other."""
    assert failing(evidence) == [broken]


def test_verdict_of_listed_double_holds() -> None:
    """A double that our log lists as uncertain is allowed, and counted."""
    evidence = replace(GOOD, arrivals=[COPY, COPY], uncertain={("QUEUEID1", "r1@x.test"): 1})
    assert failing(evidence) == []
    assert (count(evidence).doubled, count(evidence).unlisted) == (1, 0)


def test_verdict_of_reported_failure_holds() -> None:
    """A message that its destination refuses is not lost if its sender is told so, once."""
    assert failing(TOLD) == []
    assert (count(TOLD).delivered, count(TOLD).reported, count(TOLD).lost) == (0, 1, 0)


def test_verdict_of_late_withdrawal_counts_what_our_log_lists() -> None:
    """A message that was refused with 451 and delivered is told apart from one that our log knows nothing of."""
    evidence = replace(GOOD, accepted={}, refused=frozenset({"n1t1"}), withdrawn_late=frozenset({"QUEUEID1"}))
    assert failing(evidence) == ["I2"]
    assert count(evidence).refused_listed == 1
