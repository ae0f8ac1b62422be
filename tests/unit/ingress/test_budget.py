"""The memory that all messages in the door share."""

import pytest

from ptt.ingress.budget import Budget


def test_share_grows_until_the_budget_is_used_up() -> None:
    """One more octet than there is is not held; what was held stays."""
    budget = Budget(100)
    with budget.open_share() as first, budget.open_share() as second:
        assert first.hold(60)
        assert second.hold(40)
        assert not second.hold(41)
        assert budget.held_bytes == 100
        assert first.hold(10)
        assert second.hold(90)
    assert budget.held_bytes == 0


def test_share_ends_with_an_exception() -> None:
    """A client that hangs up gives its share back."""
    budget = Budget(100)

    def receive() -> None:
        with budget.open_share() as share:
            share.hold(60)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        receive()
    assert budget.held_bytes == 0
