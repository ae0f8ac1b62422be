"""From and Sender: what every parser reads alike is taken, everything else is refused."""

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.errors import MalformedInput
from ptt.core.mailbox import MAX_MAILBOXES, parse_mailboxes
from ptt.domain_names import to_a_labels
from tests.cpu import measure_cpu_s


def parse(text: str, *, smtputf8: bool = False) -> list[str]:
    """Give the addresses as text."""
    return [str(address) for address in parse_mailboxes(text, smtputf8=smtputf8, to_ascii=to_a_labels)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice@example.test", ["alice@example.test"]),
        (" <alice@example.test>", ["alice@example.test"]),
        ("Alice Doe <alice@Example.TEST> ", ["alice@example.test"]),
        ("John Q. Public <john@example.test>", ["john@example.test"]),
        ("\tAlice\t<alice@example.test>\t", ["alice@example.test"]),
        ('"Doe, Jane @ Acme" <jane@example.test>', ["jane@example.test"]),
        ('"alice@example.test" <x@evil.test>', ["x@evil.test"]),
        (r'"Jane \"JJ\" Doe" <jane@example.test>', ["jane@example.test"]),
        ('"Jane" Q. "Doe"<jane@example.test>', ["jane@example.test"]),
        ("=?utf-8?q?J=C3=A9r=C3=B4me?= <j@example.test>", ["j@example.test"]),
        ("alice@example.test (Alice Doe)", ["alice@example.test"]),
        ("a@example.test, B <b@example.test>,c@example.test", ["a@example.test", "b@example.test", "c@example.test"]),
        ('"a b"@example.test', ['"a b"@example.test']),
        ('<"a, b"@example.test>', ['"a, b"@example.test']),
    ],
)
def test_plain_mailbox_list_is_parsed(text: str, expected: list[str]) -> None:
    """The modern grammar of RFC 5322 section 3.4, with dots in names and one comment at the end."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Alice",
        "<>",
        "alice@example.test <x@evil.test>",
        "<alice@example.test> <x@evil.test>",
        "<alice@example.test> x@evil.test",
        "<x@evil.test>alice@example.test",
        "alice@example.test,",
        ",alice@example.test",
        "a@example.test,,b@example.test",
        "a@example.test; b@example.test",
        "Friends: alice@example.test;",
        "undisclosed-recipients:;",
        "<@evil.test:alice@example.test>",
        "(x@evil.test) alice@example.test",
        "alice(comment)@example.test",
        "alice@example.test (a (nested) comment)",
        "alice@example.test (x@evil.test)",
        "alice@example.test (<x>)",
        "Alice (the one) <alice@example.test>",
        "alice @example.test",
        "alice@ example.test",
        "alice . doe@example.test",
        '"<x@evil.test>" <alice@example.test>',
        r'"a\", x@evil.test, \"b" <alice@example.test>',
        '"Alice <alice@example.test>',
        "Alice\\ Doe <alice@example.test>",
        "=?utf-8?q?alice=40example.test?=",
        "=?utf-8?q?alice?=@example.test",
        "<=?utf-8?q?x?=@example.test>",
        "alice@localhost",
        "alice@192.0.2.1",
        "Jérôme <j@example.test>\x00",
        "алиса@example.test",
        ", ".join(["a@example.test"] * (MAX_MAILBOXES + 1)),
    ],
)
def test_mailbox_that_could_be_read_twice_is_refused(text: str) -> None:
    """Each of these is read differently by some mail program, or is no mailbox."""
    with pytest.raises(MalformedInput):
        parse(text)


def test_smtputf8_allows_names_and_addresses_beyond_ascii() -> None:
    """RFC 6532 section 3.2."""
    assert parse("Алиса <алиса@bücher.example>", smtputf8=True) == ["алиса@xn--bcher-kva.example"]


@pytest.mark.parametrize("text", ['"' + "\\a" * 120_000, "a " * 120_000, "a@example.test," * 20_000, "<" * 200_000])
def test_parsing_hostile_header_takes_linear_time(text: str) -> None:
    """No input makes the matching go back: a quarter of a megabyte is refused at once."""

    def refuse() -> None:
        with pytest.raises(MalformedInput):
            parse(text)

    assert measure_cpu_s(refuse) < 0.5  # two hundred times what it takes


@given(st.text(alphabet='ab.@<>",() \\:;\t', max_size=40))
def test_accepted_list_is_what_the_standard_library_finds(text: str) -> None:
    """An accepted list has the same addresses for Python's own, lenient parser."""
    try:
        addresses = parse(text)
    except MalformedInput:
        return
    assert [address.replace(" ", "") for _, address in email.utils.getaddresses([text], strict=False)] == [
        address.replace(" ", "") for address in addresses
    ]
