"""Which addresses are one network."""

import pytest

from ptt.core.guessing import find_network


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
    ],
)
def test_find_network_is_what_one_customer_has(address: str, network: str) -> None:
    """An IPv4 address, or a /64."""
    assert find_network(address) == network
