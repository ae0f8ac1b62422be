"""Replies: the first digit decides, and remote text can write into no log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.reply import Reply, make_reply


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (250, "2.0.0 Ok: queued", Reply(250, "2.0.0", "Ok: queued")),
        (250, "Ok", Reply(250, "", "Ok")),
        (550, "5.1.1", Reply(550, "5.1.1", "")),
        (450, "5.1.1 wrong class", Reply(450, "", "5.1.1 wrong class")),
        (550, "first\n5.1.1 second", Reply(550, "", "first 5.1.1 second")),
        (250, "\x1b[2Jclear\x00", Reply(250, "", "?[2Jclear?")),
        (554, "5.7.1 blocked\r\nsee us", Reply(554, "5.7.1", "blocked see us")),
    ],
)
def test_reply_of_a_server_is_split_and_cleaned(code: int, text: str, expected: Reply) -> None:
    """The enhanced status counts only with the class of the code (RFC 2034 section 4)."""
    assert make_reply(code, text) == expected


@given(st.integers(200, 599), st.text())
def test_reply_is_always_one_printable_line(code: int, text: str) -> None:
    """Whatever a server sends, one line of ASCII comes of it."""
    line = str(make_reply(code, text))
    assert line.isascii()
    assert all(" " <= character <= "~" for character in line)


@pytest.mark.parametrize(("code", "kinds"), [(250, (1, 0, 0)), (451, (0, 1, 0)), (554, (0, 0, 1)), (354, (0, 0, 0))])
def test_reply_is_judged_by_its_first_digit(code: int, kinds: tuple[int, int, int]) -> None:
    """RFC 5321 section 4.2: a client acts on the first digit."""
    reply = Reply(code)
    assert (reply.is_success, reply.is_transient, reply.is_permanent) == tuple(map(bool, kinds))
