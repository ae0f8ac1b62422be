"""When a child is started again."""

import pytest

from ptt.core.errors import CONFIGURATION
from ptt.workers.restarts import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    MAX_READY_DELAY_S,
    STABLE_AFTER_S,
    Ending,
    decide_restart,
)


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
def test_decide_restart_never_ready_delay_doubles_until_stable(
    exit_code: int, lived_s: float, previous_delay_s: float, expected: float
) -> None:
    """The delay doubles from 0.1 s to 10 s, and starts anew for who lived 30 s."""
    ending = Ending(exit_code=exit_code, lived_s=lived_s, was_ready=False, had_worked=False)
    assert decide_restart(ending, previous_delay_s) == expected


@pytest.mark.parametrize(("previous_delay_s", "expected"), [(0, FIRST_DELAY_S), (0.1, 0.2), (8, MAX_READY_DELAY_S)])
def test_decide_restart_was_ready_comes_back_soon(previous_delay_s: float, expected: float) -> None:
    """Who worked in this life is started again within half a second, however often it was killed before."""
    ending = Ending(exit_code=-9, lived_s=2, was_ready=True, had_worked=True)
    assert decide_restart(ending, previous_delay_s) == expected


@pytest.mark.parametrize(("had_worked", "expected"), [(False, None), (True, FIRST_DELAY_S)])
def test_decide_restart_refused_settings_end_everything_only_at_first(
    had_worked: bool,  # noqa: FBT001 - a column of the table
    expected: float | None,
) -> None:
    """Exit 78 of a program that never worked is final; one that worked is tried again, for mail must go on."""
    ending = Ending(exit_code=CONFIGURATION, lived_s=1, was_ready=False, had_worked=had_worked)
    assert decide_restart(ending, 0) == expected
