"""The header of a submitted message: refusals, additions and removals, octet by octet."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ptt.core.address import Address, Domain
from ptt.core.envelope import QueueId
from ptt.core.errors import Refused
from ptt.core.headers import MAX_FIELDS, MAX_HEADER_BYTES, Author, Stamp, prepare_content, split_header
from ptt.domain_names import to_a_labels
from tests.cpu import measure_cpu_s

OWNED = {Address("alice", Domain("example.test")), Address("bob", Domain("example.test"))}
STAMP = Stamp(
    hostname="mail.example.test",
    queue_id=QueueId("01J8Q5Z9ABCDEFGHJKMN"),
    client_name="client.test",
    client_address="192.0.2.7",
    tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
    received_at=datetime(2026, 11, 23, 10, 0, 5, tzinfo=UTC),
)
AUTHOR = Author(may_send_as=OWNED.__contains__, smtputf8=False, to_ascii=to_a_labels)
RECEIVED = (
    b"Received: from client.test ([192.0.2.7])\r\n"
    b"\tby mail.example.test\r\n"
    b"\twith ESMTPSA id 01J8Q5Z9ABCDEFGHJKMN\r\n"
    b"\t(using TLSv1.3 cipher TLS_AES_256_GCM_SHA384);\r\n"
    b"\tMon, 23 Nov 2026 10:00:05 +0000\r\n"
)
DATE = b"Date: Mon, 23 Nov 2026 10:00:05 +0000\r\n"
MESSAGE_ID = b"Message-ID: <01J8Q5Z9ABCDEFGHJKMN@mail.example.test>\r\n"
FROM = b"From: alice@example.test\r\n"


def prepare(content: bytes, *, smtputf8: bool = False, stamp: Stamp = STAMP) -> bytes:
    """Prepare what Alice, who is also Bob, submits."""
    return prepare_content(content, replace(AUTHOR, smtputf8=smtputf8), stamp)[0]


def refusal(content: bytes, *, smtputf8: bool = False) -> str:
    """Give the refusal."""
    with pytest.raises(Refused) as caught:
        prepare(content, smtputf8=smtputf8)
    return str(caught.value.reply)


def test_complete_message_gets_received_on_top_and_stays_as_it_is() -> None:
    """RFC 5321 section 4.4: a trace field goes in front; nothing else changes, byte for byte."""
    content = DATE + MESSAGE_ID + b"fRoM:alice@example.test\r\nSubject: a\r\n\tb\r\nX-Empty:\r\n\r\nbody\r\n\r\n"
    assert prepare(content) == RECEIVED + content


def test_missing_date_and_message_id_are_added() -> None:
    """RFC 6409 sections 8.2 and 8.3."""
    assert prepare(FROM + b"\r\nbody\r\n") == RECEIVED + DATE + MESSAGE_ID + FROM + b"\r\nbody\r\n"


def test_empty_date_and_message_id_are_replaced() -> None:
    """An empty field is a missing one: two of a kind would be refused by others."""
    content = b"Date: \r\n" + FROM + b"Message-Id:\r\n\r\nbody\r\n"
    assert prepare(content) == RECEIVED + DATE + MESSAGE_ID + FROM + b"\r\nbody\r\n"


def test_empty_lists_of_addresses_and_ids_are_removed() -> None:
    """RFC 5322 section 3.6: each needs an element, and none has to be there; text may be empty."""
    empty = b"To:\r\nCC: \t\r\nReply-To:\r\nIn-Reply-To:\r\nReferences: \r\n"
    kept = DATE + MESSAGE_ID + FROM + b"Subject:\r\nComments:\r\n"
    assert prepare(empty + kept + b"\r\nbody\r\n") == RECEIVED + kept + b"\r\nbody\r\n"


def test_malformed_date_and_message_id_are_replaced_and_kept_under_another_name() -> None:
    """RFC 6409 sections 8.2 and 8.3: what leaves conforms, and no application loses mail for it."""
    prepared, set_aside = prepare_content(
        b"Date: garbage\r\n" + FROM + b"Message-Id:<1\r\n 2>\r\nX-Original-Date: x\r\n\r\nbody\r\n", AUTHOR, STAMP
    )
    others = b"X-Original-Message-Id: <1\r\n 2>\r\nX-Original-Date: x\r\n"
    assert prepared == RECEIVED + DATE + MESSAGE_ID + b"X-Original-Date: garbage\r\n" + FROM + others + b"\r\nbody\r\n"
    assert set_aside == ["date", "message-id"]


def test_malformed_value_under_a_longer_name_makes_no_line_too_long() -> None:
    """RFC 5322 section 2.1.1: 998 octets, and no line of blanks."""
    prepared = prepare(FROM + b"Message-ID:" + b"x" * 987 + b"\r\nDate: \r\n " + b"y" * 997 + b"\r\n\r\n")
    assert max(map(len, prepared.split(b"\r\n"))) == 998
    assert b"\r\nX-Original-Message-ID:\r\n " + b"x" * 987 + b"\r\nX-Original-Date:\r\n " + b"y" * 997 in prepared
    assert split_header(prepared)[1] == len(prepared) - 2


def test_control_characters_in_a_field_stay() -> None:
    """RFC 5322 section 4.1: obsolete text that every receiver takes; a client may have signed it."""
    content = DATE + MESSAGE_ID + FROM + b"Subject: a\x1b[2Jb\x07\r\n\r\n"
    assert prepare(content) == RECEIVED + content


def test_hidden_recipients_and_return_path_are_removed() -> None:
    """RFC 5322 section 3.6.3: nobody must see Bcc; all of them go, folded lines too."""
    content = (
        b"Return-Path: <x@evil.test>\r\nBcc: a@b.test,\r\n c@d.test\r\n"
        + FROM
        + b"bcc:\r\nResent-Bcc: e@f.test\r\nSubject: s\r\n\r\nBcc: in the body\r\n"
    )
    assert prepare(content) == RECEIVED + DATE + MESSAGE_ID + FROM + b"Subject: s\r\n\r\nBcc: in the body\r\n"


def test_header_without_blank_line_gets_one() -> None:
    """RFC 5322 section 2.1: the body is optional; the line that everybody finds the end of the header by is not."""
    assert prepare(FROM) == RECEIVED + DATE + MESSAGE_ID + FROM + b"\r\n"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("a_b", "a_b"),
        ('evil.test;by(x)<y>"z\\', "evil.test?by?x??y??z?"),
    ],
)
def test_client_name_is_escaped_in_received(name: str, written: str) -> None:
    """The client chooses its name; it must not write fields, comments or dates."""
    stamp = Stamp(
        hostname="h.test", queue_id=STAMP.queue_id, client_name=name, client_address="2001:db8::7", tls="T C",
        received_at=STAMP.received_at,
    )  # fmt: skip
    first = prepare(FROM + b"\r\n", stamp=stamp, smtputf8=True).split(b"\r\n")
    assert first[0].decode() == f"Received: from {written} ([IPv6:2001:db8::7])"
    assert first[2].startswith(b"\twith UTF8SMTPSA id ")


def test_received_is_folded_at_78_columns() -> None:
    """RFC 5322 section 2.1.1."""
    assert max(map(len, RECEIVED.split(b"\r\n"))) <= 78


def test_received_of_a_message_with_a_priority_names_it() -> None:
    """RFC 6710 sections 4.1 and 7: a clause of its own, behind the queue-id."""
    first = prepare(FROM + b"\r\n", stamp=replace(STAMP, priority=-9), smtputf8=True).split(b"\r\n")
    assert first[2] == b"\twith UTF8SMTPSA id 01J8Q5Z9ABCDEFGHJKMN PRIORITY -9"


@pytest.mark.parametrize(
    "value",
    [
        b"bob@example.test",
        b"Alice <alice@example.test>",
        b"\r\n Alice\r\n <alice@example.test>",
        b'"x@evil.test" <alice@example.test>',
    ],
)
def test_owned_author_is_accepted(value: bytes) -> None:
    """Any address of the user may stand in From (RFC 6409 section 6.1)."""
    content = DATE + MESSAGE_ID + b"From: " + value + b"\r\n\r\n"
    assert prepare(content) == RECEIVED + content


@pytest.mark.parametrize(
    "value",
    [
        b"x@evil.test",
        b"Alice@example.test",
        b'"alice@example.test" <x@evil.test>',
        b"alice@example.test, <x@evil.test>",
        b"=?utf-8?q?alice=40example.test?= <x@evil.test>",
        b"<@evil.test:alice@example.test>",
        b"(comment) alice@example.test",
        b"friends: alice@example.test;",
        b"=?utf-8?q?alice=40example.test?=",
        b"",
    ],
)
def test_author_that_is_not_owned_or_not_clear_is_refused(value: bytes) -> None:
    """RFC 6409 section 6.1: 550 5.7.1, also where parsers could find another address."""
    assert refusal(b"From: " + value + b"\r\n\r\n").startswith("550 5.7.1 From: ")


def test_several_authors_need_an_owned_sender() -> None:
    """RFC 5322 section 3.6.2."""
    both = b"From: alice@example.test, bob@example.test\r\n"
    assert refusal(both + b"\r\n").startswith("554 5.6.0 ")
    assert refusal(both + b"Sender: x@evil.test\r\n\r\n").startswith("550 5.7.1 Sender: ")
    assert refusal(both + b"Sender: alice@example.test, bob@example.test\r\n\r\n").startswith("554 5.6.0 ")
    assert prepare(both + b"Sender: bob@example.test\r\n\r\n").startswith(RECEIVED)


def test_authors_of_two_domains_are_refused() -> None:
    """One signature speaks for one domain; what cannot be signed must be refused while the client listens."""
    author = Author(may_send_as=lambda _: True, smtputf8=False, to_ascii=to_a_labels)
    content = b"From: a@one.test, b@two.test\r\nSender: a@one.test\r\n\r\n"
    with pytest.raises(Refused, match=r"^550 5\.7\.1 From: all mailboxes must be of one domain"):
        prepare_content(content, author, STAMP)


@pytest.mark.parametrize(
    "name",
    [
        *(b"From", b"Sender", b"Reply-To", b"To", b"Cc", b"Date", b"Message-ID", b"In-Reply-To", b"References"),
        *(b"Subject", b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding"),
    ],
)
def test_second_singleton_is_refused(name: bytes) -> None:
    """RFC 5322 section 3.6: at most one; the reader may be shown the other one."""
    field = name + b": alice@example.test\r\n"
    others = b"" if name == b"From" else FROM
    assert refusal(others + field + field.swapcase() + b"\r\n").startswith("554 5.6.0 ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"\r\nbody\r\n",
        b"Subject: no author\r\n\r\n",
        b"no header at all\r\n",
        b" continuation first\r\n" + FROM + b"\r\n",
        b"From : alice@example.test\r\n\r\n",
        FROM + b"no colon\r\n\r\n",
        FROM + b": no name\r\n\r\n",
        FROM + b"Sub ject: x\r\n\r\n",
        FROM + b"X\x7f: y\r\n\r\n",
        FROM + b"Subject: x\r\n \r\n y\r\n\r\n",
        FROM + b"Subject: x\r\n\t\r\n\r\n",
        FROM + "Subject: é\r\n\r\n".encode(),
    ],
)
def test_malformed_header_is_refused(content: bytes) -> None:
    """RFC 5322 section 2.2: 554 5.6.0, never a message that is repaired by guessing."""
    assert refusal(content).startswith("554 5.6.0 ")


def test_smtputf8_allows_utf8_and_nothing_else_in_the_header() -> None:
    """RFC 6532 section 3.2."""
    content = DATE + MESSAGE_ID + "From: Алиса <alice@example.test>\r\nSubject: é\r\n\r\n".encode()
    assert prepare(content, smtputf8=True) == RECEIVED.replace(b"ESMTPSA", b"UTF8SMTPSA") + content
    assert refusal(FROM + b"Subject: \xe9\r\n\r\n", smtputf8=True).startswith("554 5.6.0 ")


def test_loop_is_stopped_at_100_received_fields() -> None:
    """RFC 5321 section 6.3: our own field is the hundredth, and the next server would be the one to see a loop."""
    hop = b"Received: by x.test; Mon, 23 Nov 2026 10:00:00 +0000\r\n"
    assert prepare(hop * 99 + FROM + b"\r\n").startswith(RECEIVED)
    assert refusal(hop * 100 + FROM + b"\r\n") == "554 5.4.6 Mail loop: 100 or more Received fields"


@pytest.mark.parametrize(
    "content",
    [
        FROM + b"X: y\r\n" * MAX_FIELDS + b"\r\n",
        FROM + b"X: y\r\n" * 100_000 + b"\r\n",
        FROM + (b"X: " + b"y" * 900 + b"\r\n") * (MAX_HEADER_BYTES // 900) + b"\r\n",
        FROM + (b"X: y\r\n" + b" z\r\n" * 300_000) + b"\r\n",
    ],
)
def test_header_over_the_limit_is_refused(content: bytes) -> None:
    """Every process on the way parses the header: 552 5.3.4 beyond 256 KiB or 2,000 fields."""
    assert refusal(content).startswith("552 5.3.4 ")


@pytest.mark.parametrize("junk", [b"a" * 998 + b"\r\n", b"a:\r\n" + b" \r\n", b":" * 998 + b"\r\n"])
def test_hostile_header_is_refused_in_linear_time(junk: bytes) -> None:
    """Lines that are nearly fields must not make the matching start again at each octet."""
    content = FROM + junk * (MAX_HEADER_BYTES // len(junk) - 1) + b"\r\n"
    assert measure_cpu_s(lambda: refusal(content)) < 0.5  # two hundred times what it takes
