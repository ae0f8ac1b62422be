"""Names and addresses of clients."""

import pytest

from ptt.ingress.names import format_peer, is_client_name


@pytest.mark.parametrize(
    ("peername", "expected"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1"),
        (None, "0.0.0.0"),
        ((), "0.0.0.0"),
    ],
)
def test_peer_is_written_as_the_address_it_really_has(peername: object, expected: str) -> None:
    """A mapped address is an IPv4 one, and a zone means nothing to anybody else."""
    assert format_peer(peername) == expected


@pytest.mark.parametrize("name", ["a", "a_b", "[999.1.1.1]", "x" * 255])
def test_any_printable_client_name_is_taken(name: str) -> None:
    """RFC 5321 section 4.1.4: a server must not refuse a name because it does not verify."""
    assert is_client_name(name)


@pytest.mark.parametrize("name", ["", "a b", "x" * 256, "bücher.example", "\x7f"])
def test_client_name_that_is_none_is_not_taken(name: str) -> None:
    """Empty, too long, or of other characters than a domain can have."""
    assert not is_client_name(name)
