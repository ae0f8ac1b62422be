"""Addresses and domains: what RFC 5321 allows and what could reach a machine by accident."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.address import Address, Domain, parse_address, parse_domain
from ptt.core.errors import MalformedInput


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("alice@example.test", "alice", "example.test"),
        ("Alice.B+tag@EXAMPLE.Test", "Alice.B+tag", "example.test"),
        ('"a b"@example.test', '"a b"', "example.test"),
        (r'"a\"b@c"@example.test', r'"a\"b@c"', "example.test"),
        ("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPv6:2001:DB8::1]", "a", "[IPv6:2001:db8::1]"),
        ("x" * 64 + "@example.test", "x" * 64, "example.test"),
        ("a@under_score.example.test", "a", "under_score.example.test"),
    ],
)
def test_address_of_rfc_5321_is_parsed(text: str, local: str, domain: str) -> None:
    """The local part keeps its case and quotes, the domain is lowered (RFC 5321 section 2.4)."""
    assert parse_address(text) == Address(local, Domain(domain))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.test",
        "alice@",
        ".a@example.test",
        "a.@example.test",
        "a..b@example.test",
        "a b@example.test",
        "a@b@example.test",
        "a@example..test",
        "a@-b.test",
        "a@b-.test",
        "a@localhost",
        "a@192.0.2.1",
        "a@example.test:25",
        "a@[999.1.1.1]",
        "a@[192.0.2.1",
        "a@[IPv6:::1%eth0]",
        "a@[2001:db8::1]",
        '"a@example.test',
        '"a\x01"@example.test',
        '"a\r\nRCPT TO:<x@y.test>"@example.test',
        "a\x00@example.test",
        "ä@example.test",
        "a@bücher.example",
        "x" * 65 + "@example.test",
        "a@" + "x" * 64 + ".test",
        "a@" + "x." * 128 + "test",
    ],
)
def test_address_that_is_malformed_or_misleading_is_refused(text: str) -> None:
    """Nothing that a server could read in two ways is taken."""
    with pytest.raises(MalformedInput):
        parse_address(text)


def test_utf8_local_part_needs_smtputf8() -> None:
    """Without SMTPUTF8 an address is ASCII (RFC 6531 section 3.3)."""
    assert parse_address("ä@example.test", smtputf8=True).local == "ä"
    assert not parse_address("ä@example.test", smtputf8=True).is_ascii


def test_u_label_becomes_a_label_by_the_given_function() -> None:
    """Domains are compared in A-labels only."""

    def to_ascii(text: str) -> str:
        return text.encode("idna").decode()

    assert parse_domain("Bücher.example", to_ascii) == "xn--bcher-kva.example"


def test_bad_a_label_is_refused_when_it_can_be_checked() -> None:
    """A label that claims to be IDNA must be one."""

    def to_ascii(text: str) -> str:
        raise ValueError(text)

    with pytest.raises(MalformedInput):
        parse_domain("xn---.example", to_ascii)


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No input escapes the two ways out, and what is taken parses to itself again."""
    try:
        address = parse_address(text, smtputf8=True)
    except MalformedInput:
        return
    assert parse_address(str(address), smtputf8=True) == address
    assert not any(ord(character) < 32 for character in str(address))
