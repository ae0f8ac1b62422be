"""The retry schedule."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.retry import JITTER, decide_backoff, decide_delay, is_expired

SCHEDULE = (900.0, 1800.0, 3600.0)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 900), (2, 1800), (3, 3600), (4, 3600), (100, 3600)])
def test_delay_follows_the_schedule_and_its_last_step_repeats(attempts: int, seconds: int) -> None:
    """RFC 5321 section 4.5.4.1: delays grow, then stay."""
    assert decide_delay(SCHEDULE, attempts, 0) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 60), (2, 120), (3, 240), (6, 1920), (7, 3600), (9999, 3600)])
def test_backoff_doubles_up_to_the_schedule(failures: int, seconds: int) -> None:
    """New mail waits a minute for a host that was down for a moment, and hours for one that is dead."""
    assert decide_backoff(SCHEDULE, failures, 0) == timedelta(seconds=seconds)


def test_backoff_is_never_longer_than_the_schedule() -> None:
    """Who configures quick retries gets quick probes."""
    assert decide_backoff([5.0, 10.0], 1, 0) == timedelta(seconds=5)


@given(st.integers(1, 50), st.floats(-1, 1))
def test_delay_is_within_the_jitter(attempts: int, jitter: float) -> None:
    """What failed together does not come back together, nor too early."""
    step = SCHEDULE[min(attempts, 3) - 1]
    assert step * (1 - JITTER) <= decide_delay(SCHEDULE, attempts, jitter).total_seconds() <= step * (1 + JITTER) + 1e-6


@pytest.mark.parametrize(("age_s", "expired"), [(0, False), (432_000 - 1, False), (432_000, True)])
def test_message_expires_at_its_full_age(age_s: int, *, expired: bool) -> None:
    """Neither early nor never."""
    assert is_expired(timedelta(seconds=age_s), timedelta(days=5)) is expired
