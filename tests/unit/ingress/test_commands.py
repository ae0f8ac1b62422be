"""From a line to verb and argument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.errors import Refused
from ptt.ingress.commands import split_command


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"NOOP", "NOOP", ""),
        (b"noop", "NOOP", ""),
        (b"NOOP   ", "NOOP", ""),
        (b"MAIL FROM:<a@b.test>  SIZE=1 ", "MAIL", "FROM:<a@b.test>  SIZE=1"),
        ("RCPT TO:<ä@b.test>".encode(), "RCPT", "TO:<ä@b.test>"),
        (b"NOOP " + b"x" * 505, "NOOP", "x" * 505),
        (b"MAIL " + b"x" * (512 + 746 - 7), "MAIL", "x" * (512 + 746 - 7)),
        (b"AUTH " + b"x" * (12_288 - 7), "AUTH", "x" * (12_288 - 7)),
    ],
)
def test_line_is_split(line: bytes, verb: str, argument: str) -> None:
    """Verbs are told apart in any case; the limits count the CRLF (RFC 5321 sections 2.4 and 4.5.3.1.4)."""
    assert split_command(line) == (verb, argument)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", "500 5.5.2"),
        (b" NOOP", "500 5.5.2"),
        (b"NOOP\nMAIL", "500 5.5.2"),
        (b"NOOP\r", "500 5.5.2"),
        (b"EHLO\0x", "500 5.5.2"),
        (b"\x80\x81\x82\x83", "500 5.5.2"),
        ("\u017fTARTTLS".encode(), "500 5.5.2"),
        (b"EHLO \x1b[2J", "501 5.5.2"),
        (b"NOOP a\nb", "501 5.5.2"),
        (b'MAIL FROM:<"a\\\x01"@b.test>', "501 5.5.2"),
        (b"RCPT TO:<\xff@b.test>", "501 5.5.2"),
        (b"NOOP " + b"x" * 506, "500 5.5.2"),
        (b"MAIL " + b"x" * (512 + 746 - 6), "500 5.5.2"),
        (b"AUTH " + b"x" * (12_288 - 6), "500 5.5.6"),
        (b"x" * 12_289, "500 5.5.2"),
    ],
)
def test_malformed_line_is_refused(line: bytes, expected: str) -> None:
    """A wrong verb is 500, a wrong argument 501, each with the status that RFC 3463 and RFC 4954 give."""
    with pytest.raises(Refused) as caught:
        split_command(line)
    assert f"{caught.value.reply.code} {caught.value.reply.enhanced_status}" == expected


@given(st.binary(max_size=60))
def test_any_line_is_split_or_refused(line: bytes) -> None:
    """No other exception, and no control character comes through."""
    try:
        verb, argument = split_command(line)
    except Refused:
        return
    assert verb.isascii()
    assert verb.isalpha()
    assert not any(character < " " or character == "\x7f" for character in argument)
