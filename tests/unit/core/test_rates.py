"""What a user may send, and what who wants more hears."""

import dataclasses

import pytest

from ptt.core.rates import (
    Quota,
    Rates,
    choose_rates,
    format_wait,
    name_overrun,
    refuse_for_ever,
    refuse_overrun,
)
from tests.servers.submission import ALICE

RATES = Rates(messages_per_hour=5, messages_per_day=20, recipients_per_day=100)


def test_choose_rates_takes_the_user_s_and_else_the_default() -> None:
    """Each limit for itself."""
    user = dataclasses.replace(ALICE, rate_per_day=7)
    assert choose_rates(user, RATES) == Rates(messages_per_hour=5, messages_per_day=7, recipients_per_day=100)
    assert choose_rates(ALICE, Rates()) == Rates()


def test_choose_rates_takes_0_of_the_user_for_no_limit() -> None:
    """Also where the server has a default."""
    user = dataclasses.replace(ALICE, rate_per_hour=0, rate_per_day=0, recipients_per_day=0)
    assert choose_rates(user, RATES) == Rates()


@pytest.mark.parametrize(
    ("number", "left", "text"),
    [
        (1, 0, "451 4.7.1 You may send 5 messages an hour; try again in 30 minutes"),
        (2, 0, "451 4.7.1 You may send 20 messages a day; try again in 30 minutes"),
        (3, 3, "452 4.7.1 You may send 100 recipients a day, 3 are left; try again in 30 minutes"),
    ],
)
def test_refusal_says_which_limit_and_when_to_come_back(number: int, left: int, text: str) -> None:
    """RFC 3463 X.7.1."""
    overrun = name_overrun(Quota(login="alice", recipients=4, rates=RATES), number, left)
    assert str(refuse_overrun(overrun, 1800)) == text


@pytest.mark.parametrize(("recipients", "code"), [(100, None), (101, 550)])
def test_refuse_for_ever_is_for_what_no_day_has_room_for(recipients: int, code: int | None) -> None:
    """A client that comes back each hour with such a message would do so for ever."""
    refusal = refuse_for_ever(Quota(login="alice", recipients=recipients, rates=RATES))
    assert (refusal and refusal.code) == code


@pytest.mark.parametrize(
    ("wait_s", "text"),
    [(0.0, "1 second"), (1.2, "2 seconds"), (120.0, "120 seconds"), (121.0, "3 minutes"), (7201.0, "3 hours")],
)
def test_format_wait_is_rounded_up(wait_s: float, text: str) -> None:
    """Who comes back at the time named finds the door open."""
    assert format_wait(wait_s) == text
