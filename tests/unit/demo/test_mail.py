"""The mail of the demonstration."""

import pytest

from ptt.demo.mail import Mail, make_forged, make_mails, read_header, split_body


@pytest.mark.parametrize("mail", make_mails(), ids=lambda mail: mail.title)
def test_make_mails_content_is_fit_for_smtp(mail: Mail) -> None:
    """Lines end with CRLF, are not longer than 998 octets, and 8-bit content is announced (RFC 5322, RFC 6152)."""
    assert mail.content.count(b"\n") == mail.content.count(b"\r") == mail.content.count(b"\r\n")
    assert mail.content.endswith(b"\r\n")
    assert max(map(len, mail.content.split(b"\r\n"))) <= 998
    assert mail.content.isascii() == ("BODY=8BITMIME" not in mail.options)


def test_make_mails_subjects_are_distinct() -> None:
    """What arrives is told apart by its subject."""
    subjects = [read_header(mail.content, "subject") for mail in make_mails()]
    assert len(set(subjects)) == len(subjects)


def test_make_forged_from_is_the_foreign_address() -> None:
    """Only the From: is foreign: the envelope is the user's own."""
    mail = make_forged("ceo@bank.test")
    assert "<ceo@bank.test>" in read_header(mail.content, "From")
    assert mail.reverse_path == "alice@example.test"


def test_read_header_folded_field_is_unfolded() -> None:
    """RFC 5322 section 2.2.3; a name in the body is no field, a missing one is empty."""
    content = b"Subject: one\r\n two\r\nTo: x\r\n\r\nCc: in the body\r\n"
    assert (read_header(content, "SUBJECT"), read_header(content, "Cc")) == ("one two", "")
    assert split_body(content) == b"Cc: in the body\r\n"
