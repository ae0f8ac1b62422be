"""The command machine without a socket: whatever is said in whatever order, each line gets one sound answer."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptt.core.address import Domain
from ptt.core.reply import Reply
from ptt.ingress import replies
from ptt.ingress.answers import Policy
from ptt.ingress.dialogue import MAX_FAILURES, Dialogue
from ptt.ingress.gate import INVALID_CREDENTIALS
from ptt.ingress.steps import Authenticate, Close, Greet, ReceiveChunk, ReceiveContent, SkipChunk, StartTls
from tests.servers.submission import ALICE, HOSTNAME, FixedUsers

POLICY = Policy(hostname=Domain(HOSTNAME), max_message_bytes=1000, max_recipients=3)
VERBS = (
    *("EHLO", "HELO", "NOOP", "RSET", "QUIT", "MAIL", "RCPT", "DATA", "BDAT", "AUTH", "STARTTLS", "VRFY", "EXPN"),
    *("HELP", "GET", "XYZ", "\x00", ""),
)
ARGUMENTS = (
    *("", " ", " x", " FROM:<alice@example.test>", " FROM:<>", " TO:<a@b.test>", " TO:<c@d.test>", " TO:<>"),
    *(" FROM:<alice@example.test> SIZE=2000", " FROM:<bob@example.test>", " PLAIN", " PLAIN =", " 5 LAST", " \n", "\t"),
    *(" FROM:<ä@b.test> SMTPUTF8", " TO:<ä@b.test>"),
)
_ENHANCED = re.compile(r"[2345]\d\d [245]\.\d+\.\d+ [ -~]+")
LINES = st.tuples(st.sampled_from(VERBS), st.sampled_from(ARGUMENTS)).map(lambda pair: "".join(pair).encode())


def begin(*, tls: str = "TLSv1.3 X", login: str = "alice") -> Dialogue:
    """Begin a session that has said EHLO."""
    dialogue = Dialogue(POLICY, FixedUsers(), tls, ("PLAIN",))
    dialogue.answer(b"EHLO client.test")
    dialogue.complete_login(login)
    return dialogue


@settings(max_examples=300)
@given(st.lists(LINES | st.binary(max_size=30), max_size=40), st.booleans(), st.booleans())
def test_any_lines_get_sound_answers(lines: list[bytes], has_tls: bool, has_login: bool) -> None:  # noqa: FBT001 - drawn
    """No exception; every reply has code, enhanced status and printable text; nothing is received without a login."""
    dialogue = begin(tls="TLSv1.3 X" if has_tls else "", login="alice" if has_tls and has_login else "")
    for line in lines:
        match dialogue.answer(line):
            case Reply() as reply:
                assert _ENHANCED.fullmatch(str(reply)), reply
            case Close(reply) | SkipChunk(reply):
                assert _ENHANCED.fullmatch(str(reply)), reply
            case ReceiveContent(transaction) | ReceiveChunk(transaction):
                assert has_login
                assert has_tls
                assert transaction.user is ALICE
                assert 1 <= len(transaction.recipients) <= POLICY.max_recipients
            case Authenticate() | StartTls() as step:
                assert isinstance(step, Authenticate) == has_tls
            case Greet(greeting):
                assert greeting[0] == HOSTNAME


def test_content_belongs_to_one_transaction() -> None:
    """After DATA a new MAIL is needed, and what was said before does not come back."""
    dialogue = begin()
    lines = (b"MAIL FROM:<alice@example.test>", b"RCPT TO:<a@b.test>", b"DATA", b"DATA", b"RCPT TO:<c@d.test>")
    answers = [dialogue.answer(line) for line in lines]
    assert answers[:2] == [replies.SENDER_OK, replies.RECIPIENT_OK]
    assert isinstance(answers[2], ReceiveContent)
    assert answers[3:] == [replies.MAIL_FIRST] * 2


def test_failed_logins_are_counted_until_the_connection_closes() -> None:
    """The last failure is answered with 421 in place of 535: one reply for each attempt."""
    dialogue = begin(login="")
    answers = [dialogue.count_failure(INVALID_CREDENTIALS) for _ in range(MAX_FAILURES)]
    assert answers == [INVALID_CREDENTIALS] * (MAX_FAILURES - 1) + [Close(replies.TOO_MANY_FAILURES)]


@pytest.mark.parametrize(("argument", "size"), [("5", 5), ("5 LAST", 5), ("0", 0), ("2147483648 last", 2**31)])
def test_chunk_that_is_refused_is_measured(argument: str, size: int) -> None:
    """RFC 3030 section 2: its octets are read whatever the answer is."""
    answer = begin().answer(f"BDAT {argument}".encode())
    assert isinstance(answer, SkipChunk)
    assert (answer.size_bytes, answer.reply.code) == (size, 503)


@pytest.mark.parametrize("argument", ["", "LAST", "-1", "2147483649", "99999999999999999999", "٣", "5 FIRST", "0x5"])
def test_chunk_of_no_size_ends_the_session(argument: str) -> None:
    """Nobody could tell its octets from commands."""
    assert begin().answer(f"BDAT {argument}".encode()) == Close(replies.UNKNOWN_CHUNK)
