"""Order of hosts and addresses, and which addresses are never connected to."""

import random
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from ptt.core.address import parse_domain
from ptt.core.routing import (
    MAX_ADDRESSES,
    MAX_HOSTS,
    Mx,
    NullMx,
    decide_addresses,
    decide_hosts,
    is_private,
    parse_literal,
)
from tests.letters import DESTINATION, keep_order

OWN = "relay.example.org"

CASES: list[tuple[str, Sequence[Mx], tuple[str, ...]]] = [
    ("no MX: the domain itself", [], ("example.test",)),
    ("by preference", [Mx(20, "b.example"), Mx(10, "a.example")], ("a.example", "b.example")),
    ("case and final dot do not count", [Mx(10, "A.Example.")], ("a.example",)),
    ("the same host twice", [Mx(10, "a.example"), Mx(20, "a.example")], ("a.example",)),
    ("the root beside a real host is left out", [Mx(0, "."), Mx(10, "a.example")], ("a.example",)),
    ("we are the backup", [Mx(10, "a.example"), Mx(20, OWN), Mx(30, "c.example")], ("a.example",)),
    ("hosts as preferred as we are", [Mx(5, "a.example"), Mx(10, "b.example"), Mx(10, OWN)], ("a.example",)),
    ("only we", [Mx(10, "Relay.Example.ORG.")], ()),
    ("we are first", [Mx(10, OWN), Mx(20, "b.example")], ()),
    ("we twice", [Mx(20, OWN), Mx(10, OWN), Mx(15, "b.example"), Mx(5, "a.example")], ("a.example",)),
]


@pytest.mark.parametrize(("records", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_decide_hosts_of_records_follows_preference_and_cuts_at_us(
    records: Sequence[Mx], expected: tuple[str, ...]
) -> None:
    """RFC 5321 section 5.1: by preference; our own name cuts itself and all that are not preferred to it."""
    assert decide_hosts(DESTINATION, records, keep_order, f"{OWN}.") == expected


@pytest.mark.parametrize("records", [[Mx(0, ".")], [Mx(0, "")], [Mx(0, "."), Mx(10, ".")]])
def test_decide_hosts_of_null_mx_raises(records: Sequence[Mx]) -> None:
    """RFC 7505 section 3: the root as the only exchange means that the domain takes no mail."""
    with pytest.raises(NullMx):
        decide_hosts(DESTINATION, records, keep_order)


def test_decide_hosts_of_equal_preference_is_uniform() -> None:
    """RFC 5321 section 5.1: equal preferences MUST be randomised; chi-squared over the six orders of three hosts."""
    generator = random.Random(20)
    records = [Mx(10, "a.example"), Mx(10, "b.example"), Mx(10, "c.example"), Mx(20, "last.example")]
    counts = Counter(decide_hosts(DESTINATION, records, generator.shuffle) for _ in range(6000))
    assert {order[-1] for order in counts} == {"last.example"}
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 20.5  # p = 0.001 at 5 degrees of freedom


def test_decide_hosts_of_many_records_stops_at_the_limit() -> None:
    """A zone with 1,000 MX records is tried at no more than MAX_HOSTS."""
    hosts = decide_hosts(DESTINATION, [Mx(i, f"h{i}.example") for i in range(1000)], keep_order)
    assert hosts == tuple(f"h{i}.example" for i in range(MAX_HOSTS))


def test_decide_addresses_of_both_versions_takes_them_in_turn() -> None:
    """RFC 5321 section 5.2: both IPv6 and IPv4; at least two, at most MAX_ADDRESSES, each once."""
    texts = ["2001:db8::1", "2001:db8::2", "2001:db8::1", "2001:db8::3", "192.0.2.1"]
    order = decide_addresses([ip_address(text) for text in texts])
    assert [str(address) for address in order] == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]
    assert len(decide_addresses([ip_address(n) for n in range(50)])) == MAX_ADDRESSES
    assert decide_addresses([]) == ()


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "fe80::1", "fec0::1",
        "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
        "2002:7f00:1::", "2002:c0a8:101::1", "2001:0:1::1", "100::1",
    ],
)  # fmt: skip
def test_is_private_of_local_address_is_true(text: str) -> None:
    """Loopback, private, link-local, multicast and unspecified addresses, in whichever way they are wrapped."""
    assert is_private(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
        "192.167.255.255", "223.255.255.255", "2606:4700::1", "2a00:1450::1", "64:ff9b::8.8.8.8", "2002:808:808::1",
        "2001:db8::1",
    ],
)  # fmt: skip
def test_is_private_of_public_address_is_false(text: str) -> None:
    """The neighbours of the private ranges are public."""
    assert not is_private(ip_address(text))


def test_parse_literal_gives_address_or_none() -> None:
    """RFC 5321 section 4.1.3: a destination in brackets is an address, all else a name."""
    assert parse_literal(parse_domain("[192.0.2.1]")) == ip_address("192.0.2.1")
    assert parse_literal(parse_domain("[IPv6:2001:db8::1]")) == ip_address("2001:db8::1")
    assert parse_literal(DESTINATION) is None
