"""MAIL and RCPT, and what EHLO offers."""

import pytest

from ptt.core.address import Address, parse_domain
from ptt.core.errors import MalformedInput
from ptt.core.notify import Notify, RecipientRequest
from ptt.core.options import ByMode, Deadline, Options, TlsDemand
from ptt.smtp.commands import Extensions, format_mail, format_rcpt, parse_extensions
from tests.letters import Letter

ALL = Extensions(pipelining=True, size=True, size_limit=1000, eight_bit_mime=True, smtputf8=True)
ASKED = Options(
    tls=TlsDemand.REQUIRED, deadline=Deadline(at=100, mode=ByMode.RETURN, is_traced=True), priority=-3, release_at=50
)
OVER = Options(deadline=Deadline(at=0, mode=ByMode.NOTIFY))


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, Extensions()),
        ({"size": "", "pipelining": ""}, Extensions(size=True, pipelining=True)),
        ({"size": "1000", "8bitmime": "", "smtputf8": "", "pipelining": ""}, ALL),
        ({"dsn": ""}, Extensions(dsn=True)),
        (
            {"requiretls": "", "deliverby": "60", "mt-priority": "MIXER", "limits": "MAILMAX=2 rcptmax=30 X=1"},
            Extensions(require_tls=True, deliver_by=True, mt_priority=True, max_recipients=30, max_messages=2),
        ),
        ({"limits": "RCPTMAX=0 MAILMAX=x"}, Extensions()),
        ({"size": "0"}, Extensions(size=True)),
        ({"size": "abc"}, Extensions(size=True)),
        ({"size": "-5"}, Extensions(size=True)),
        ({"size": "\u0665"}, Extensions(size=True)),
        ({"size": "9" * 21}, Extensions(size=True)),
    ],
)
def test_parse_extensions_takes_what_is_sound(keywords: dict[str, str], expected: Extensions) -> None:
    """RFC 1870 section 4: a SIZE parameter that is no number is no limit."""
    assert parse_extensions(keywords) == expected


@pytest.mark.parametrize(
    ("letter", "extensions", "expected"),
    [
        (Letter(), Extensions(), b"MAIL FROM:<alice@example.org>\r\n"),
        (Letter(reverse_path=None), Extensions(), b"MAIL FROM:<>\r\n"),
        (Letter(size_bytes=7), ALL, b"MAIL FROM:<alice@example.org> SIZE=7\r\n"),
        (Letter(size_bytes=7, body="8BITMIME"), ALL, b"MAIL FROM:<alice@example.org> SIZE=7 BODY=8BITMIME\r\n"),
        (Letter(smtputf8=True), Extensions(smtputf8=True), b"MAIL FROM:<alice@example.org> SMTPUTF8\r\n"),
        (Letter(ret="FULL", envid="a+20b"), Extensions(), b"MAIL FROM:<alice@example.org>\r\n"),
        (
            Letter(ret="FULL", envid="a+20b"),
            Extensions(dsn=True),
            b"MAIL FROM:<alice@example.org> RET=FULL ENVID=a+20b\r\n",
        ),
        (Letter(options=ASKED), Extensions(), b"MAIL FROM:<alice@example.org>\r\n"),
        (
            Letter(options=ASKED, ret="FULL"),
            Extensions(require_tls=True, deliver_by=True, mt_priority=True, dsn=True),
            b"MAIL FROM:<alice@example.org> RET=HDRS REQUIRETLS MT-PRIORITY=-3 BY=40;RT\r\n",
        ),
        (Letter(options=OVER), Extensions(deliver_by=True), b"MAIL FROM:<alice@example.org> BY=-60;N\r\n"),
        (Letter(smtputf8=True, body="8BITMIME"), Extensions(), b"MAIL FROM:<alice@example.org>\r\n"),
    ],
)
def test_format_mail_uses_only_what_is_offered_and_needed(
    letter: Letter, extensions: Extensions, expected: bytes
) -> None:
    """RFC 5321 section 4.1.1.11: a parameter of an extension that was not offered must not be sent."""
    assert format_mail(letter.message, extensions, now_s=60) == expected


def test_format_rcpt_keeps_the_local_part_as_it_is() -> None:
    """RFC 5321 section 2.4: case and quotes of the local part belong to the recipient."""
    recipient = Address('"John  Doe"', parse_domain("example.test"))
    assert format_rcpt(recipient) == b'RCPT TO:<"John  Doe"@example.test>\r\n'
    assert format_rcpt(Address("Jörg", parse_domain("example.test"))) == "RCPT TO:<Jörg@example.test>\r\n".encode()


def test_format_rcpt_passes_on_what_was_asked_to_who_offers_dsn() -> None:
    """RFC 3461 section 5.2.1: the same values; section 5.2.2: none to who does not offer it."""
    recipient = Address("rita", parse_domain("example.test"))
    asked = RecipientRequest(
        notify=frozenset({Notify.SUCCESS, Notify.FAILURE}), original_recipient="utf-8;é@example.test"
    )
    assert format_rcpt(recipient, asked, ALL) == b"RCPT TO:<rita@example.test>\r\n"
    expected = b"RCPT TO:<rita@example.test> NOTIFY=FAILURE,SUCCESS ORCPT=utf-8;\\x{E9}@example.test\r\n"
    assert format_rcpt(recipient, asked, Extensions(dsn=True)) == expected
    with_utf8 = expected.decode().replace("\\x{E9}", "é").encode()
    assert format_rcpt(recipient, asked, Extensions(dsn=True, smtputf8=True)) == with_utf8


@pytest.mark.parametrize("local", ["a>\r\nRCPT TO:<b", "a\nb", "a\0b", "a\x7fb"])
def test_format_path_with_control_character_refuses(local: str) -> None:
    """A line end in an address would be a command of its own."""
    address = Address(local, parse_domain("example.test"))
    with pytest.raises(MalformedInput):
        format_rcpt(address)
    with pytest.raises(MalformedInput):
        format_mail(Letter(reverse_path=address).message, ALL)
