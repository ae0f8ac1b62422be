"""Who counts as one client, and how many there may be."""

import pytest

from ptt.ingress.crowd import Crowd, name_network


def test_crowd_is_full_until_somebody_leaves() -> None:
    """The limit in all counts those whose address is not known yet."""
    crowd = Crowd(2, 2)
    assert crowd.enter("a")
    assert crowd.enter("b")
    assert not crowd.enter("c")
    assert "c" not in crowd
    crowd.leave("c")
    crowd.leave("a")
    assert crowd.enter("c")
    assert len(crowd) == 2


def test_crowd_gives_a_network_its_share_only() -> None:
    """One /64 is one client, whatever addresses it uses; who finds no room has given back the place."""
    crowd = Crowd(10, 2)
    seats = [("a", "2001:db8::1"), ("b", "2001:db8::ffff:1"), ("c", "2001:db8::2"), ("d", "2001:db8:0:1::1")]
    for name, _ in seats:
        crowd.enter(name)
    assert [crowd.settle(name, address) for name, address in seats] == [True, True, False, True]
    assert len(crowd) == 3
    crowd.leave("a")
    assert crowd.enter("e")
    assert crowd.settle("e", "2001:db8::3")


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("::1", "::/64")],
)
def test_name_network_is_an_address_or_a_64(address: str, network: str) -> None:
    """RFC 4291 section 2.5.4."""
    assert name_network(address) == network
