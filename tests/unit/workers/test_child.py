"""When a child is started again."""

import pytest

from ptt.workers.child import EX_CONFIG, FIRST_DELAY_S, MAX_DELAY_S, STABLE_AFTER_S, Ending, decide_restart


@pytest.mark.parametrize(
    ("exit_code", "lived_s", "previous_delay_s", "expected"),
    [
        (1, 0.1, 0, FIRST_DELAY_S),
        (1, 0.1, 0.1, 0.2),
        (1, 0.1, 0.4, 0.8),
        (1, 0.1, 6.4, MAX_DELAY_S),
        (1, 0.1, MAX_DELAY_S, MAX_DELAY_S),
        (0, 0.1, 0.2, 0.4),
        (-9, STABLE_AFTER_S, MAX_DELAY_S, FIRST_DELAY_S),
        (-9, STABLE_AFTER_S - 1, 0.8, 1.6),
    ],
)
def test_decide_restart_delay_doubles_until_stable(
    exit_code: int, lived_s: float, previous_delay_s: float, expected: float
) -> None:
    """The delay doubles from 0.1 s to 10 s, and starts anew for who lived 30 s."""
    ending = Ending(exit_code=exit_code, lived_s=lived_s, was_ready=False)
    assert decide_restart(ending, previous_delay_s) == expected


@pytest.mark.parametrize(
    ("lived_s", "was_ready", "expected"),
    [(1, False, None), (1, True, FIRST_DELAY_S), (STABLE_AFTER_S, False, FIRST_DELAY_S)],
)
def test_decide_restart_refused_settings_end_everything_only_at_first(
    lived_s: float,
    was_ready: bool,  # noqa: FBT001 - a column of the table
    expected: float | None,
) -> None:
    """Exit 78 of a program that never worked is final; one that worked is tried again, for mail must go on."""
    ending = Ending(exit_code=EX_CONFIG, lived_s=lived_s, was_ready=was_ready)
    assert decide_restart(ending, 0) == expected
