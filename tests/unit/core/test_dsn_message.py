"""Reports as messages, read back by the stdlib's email package."""

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage, Message

import pytest

from ptt.core.address import Address, Domain
from ptt.core.dsn import MAX_TEXT, Action, ReportedOutcome
from ptt.core.dsn_message import MAX_RETURNED, Dsn, Original, Reporter, make_dsn
from ptt.core.envelope import Envelope, QueueId
from ptt.core.notify import NEVER_REPORT, RecipientRequest
from ptt.core.options import NO_OPTIONS, ByMode, Deadline, Options, TlsDemand

RITA = Address("rita", Domain("destination.test"))
ALICE = Address("alice", Domain("bounces.example.test"))
HEADER = b"From: alice@example.test\r\nTo: rita@destination.test\r\nSubject: hi\r\nMessage-ID: <1@example.test>\r\n"
CONTENT = HEADER + b"\r\nHello\r\n"
FAILED = ReportedOutcome(
    recipient=RITA,
    action=Action.FAILED,
    status="5.1.1",
    mx_host="mx.destination.test",
    diagnostic="550 5.1.1 no such user",
    reason="refused at RCPT",
)
REPORTER = Reporter(
    queue_id=QueueId("R" * 20),
    hostname="mail.example.test",
    author_domain=Domain("example.test"),
    reported_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
)


def report(*outcomes: ReportedOutcome, content: bytes = CONTENT, reverse_path: Address = ALICE, **asked: object) -> Dsn:
    """Make a report on a message to RITA."""
    fields: dict[str, object] = {"user": "alice", "reverse_path": reverse_path, "recipients": (RITA,), **asked}
    original = Original(
        queue_id=QueueId("0" * 20),
        envelope=Envelope(**fields),  # type: ignore[arg-type]  # the cases name what they ask for
        content=content,
        accepted_at=datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC),
    )
    return make_dsn(original, outcomes or (FAILED,), REPORTER)


def read(dsn: Dsn) -> EmailMessage:
    """Read a report as a mail program does, and check what holds for each."""
    for line in dsn.content.split(b"\r\n"):
        assert len(line) <= 998
        assert b"\r" not in line
        assert b"\n" not in line
    message = email.message_from_bytes(dsn.content, policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert len(list(message.iter_parts())) == 3
    assert not [part.defects for part in message.walk() if part.defects]
    return message


def part_of(message: EmailMessage, index: int) -> EmailMessage:
    """Give one of the three parts."""
    part = list(message.iter_parts())[index]
    assert isinstance(part, EmailMessage)
    return part


def groups_of(message: EmailMessage) -> list[Message]:
    """Give the groups of fields of the delivery status: of the message, then of each recipient."""
    payload = part_of(message, 1).get_payload()
    assert isinstance(payload, list)
    return [group for group in payload if isinstance(group, Message)]


def test_report_is_addressed_to_the_reverse_path_and_answers_the_message() -> None:
    """RFC 3464 section 2, RFC 3834 section 5; From is of the author's domain, whose keys sign."""
    dsn = report()
    message = read(dsn)
    assert dsn.envelope.reverse_path is None
    assert dsn.envelope.recipients == (ALICE,)
    assert dsn.envelope.requests == {ALICE: NEVER_REPORT}
    assert dsn.envelope.body == "7BIT"
    assert {name: message[name] for name in ("From", "To", "Auto-Submitted", "In-Reply-To", "References", "Date")} == {
        "From": "Mail Delivery System <postmaster@example.test>",
        "To": "alice@bounces.example.test",
        "Auto-Submitted": "auto-replied",
        "In-Reply-To": "<1@example.test>",
        "References": "<1@example.test>",
        "Date": "Fri, 02 Jan 2026 03:04:05 +0000",
    }
    assert message["Message-ID"] == f"<{'R' * 20}@mail.example.test>"


def test_delivery_status_has_all_that_is_known() -> None:
    """RFC 3464 section 2, RFC 3461 section 6.3: decoded ENVID and ORCPT, and the server's own words."""
    asked = {RITA: RecipientRequest(original_recipient="rfc822;Rita+2Bx@destination.test")}
    of_message, of_recipient = groups_of(read(report(envid="QQ+20314", requests=asked)))
    assert dict(of_message.items()) == {
        "Reporting-MTA": "dns; mail.example.test",
        "Original-Envelope-Id": "QQ 314",
        "Arrival-Date": "Fri, 02 Jan 2026 03:00:00 +0000",
    }
    assert dict(of_recipient.items()) == {
        "Original-Recipient": "rfc822; Rita+x@destination.test",
        "Final-Recipient": "rfc822; rita@destination.test",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.destination.test",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
    }


@pytest.mark.parametrize(
    ("actions", "description"),
    [
        ([Action.RELAYED, Action.FAILED], "Undelivered message"),
        ([Action.RELAYED, Action.DELAYED], "Delayed message"),
        ([Action.RELAYED], "Relayed message"),
    ],
)
def test_returned_message_is_described_by_the_gravest_outcome(actions: list[Action], description: str) -> None:
    """What was handed on is not undelivered."""
    classes = {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0", Action.RELAYED: "2.0.0"}
    outcomes = (ReportedOutcome(recipient=RITA, action=action, status=classes[action]) for action in actions)
    assert part_of(read(report(*outcomes)), 2)["Content-Description"] == description


def test_relayed_message_with_a_deadline_is_told_for_that() -> None:
    """RFC 2852 section 4: the sender asked for a deadline, not for a report."""
    outcome = ReportedOutcome(recipient=RITA, action=Action.RELAYED, status="2.0.0")
    options = Options(deadline=Deadline(at=1_800_000_000, mode=ByMode.NOTIFY))
    text = " ".join(part_of(read(report(outcome, options=options)), 0).get_content().split())
    assert "It has a deadline, and was handed to the mail servers" in text
    assert "you asked" not in text


def test_what_was_not_asked_or_said_leaves_no_field() -> None:
    """RFC 3461 section 6.3 (a) and (d): no ENVID, no field of it; no server spoke, no Diagnostic-Code."""
    outcome = ReportedOutcome(recipient=RITA, action=Action.DELAYED, status="4.0.0", reason="timed out")
    of_message, of_recipient = groups_of(read(report(outcome)))
    assert of_message.keys() == ["Reporting-MTA", "Arrival-Date"]
    assert of_recipient.keys() == ["Final-Recipient", "Action", "Status"]


def test_text_says_in_plain_words_what_happened() -> None:
    """The first part is for people: what failed and why, what is still tried, what was handed on."""
    outcomes = (
        FAILED,
        ReportedOutcome(recipient=Address("bob", Domain("b.test")), action=Action.DELAYED, status="4.0.0", reason="r"),
        ReportedOutcome(recipient=Address("eve", Domain("e.test")), action=Action.RELAYED, status="2.0.0"),
    )
    message = read(report(*outcomes))
    assert message["Subject"] == "Mail could not be delivered"
    assert part_of(message, 0).get_content().replace("\r\n", "\n").split("\n") == [
        "This is the mail system at mail.example.test.",
        "",
        "It took a message from you on Fri, 02 Jan 2026 03:00:00 +0000",
        "and gave it the queue-id 00000000000000000000.",
        "",
        "It could not be delivered to the following recipients, and will not be tried",
        "again:",
        "",
        "    <rita@destination.test>",
        "    refused at RCPT",
        "    mx.destination.test said: 550 5.1.1 no such user",
        "",
        "It could not be delivered yet to the following recipients. You need not do",
        "anything: it is still being tried.",
        "",
        "    <bob@b.test>",
        "    r",
        "",
        "It was handed to the mail servers of the following recipients, which do not",
        "tell whether it arrives; you asked to be told:",
        "",
        "    <eve@e.test>",
        "",
    ]
    assert len(groups_of(message)) == 4


@pytest.mark.parametrize(
    ("ret", "action", "content", "expected"),
    [
        ("", Action.FAILED, CONTENT, "text/rfc822-headers"),
        ("HDRS", Action.FAILED, CONTENT, "text/rfc822-headers"),
        ("FULL", Action.FAILED, CONTENT, "message/rfc822"),
        ("FULL", Action.DELAYED, CONTENT, "text/rfc822-headers"),
        ("FULL", Action.FAILED, CONTENT + b"x\r\n" * MAX_RETURNED, "text/rfc822-headers"),
    ],
)
def test_whole_message_comes_back_only_if_asked_failed_and_small(
    ret: str, action: Action, content: bytes, expected: str
) -> None:
    """RFC 3461 sections 4.3 and 6.2: FULL is for failures, and up to a size."""
    status = {"failed": "5.0.0", "delayed": "4.0.0"}[action]
    outcome = ReportedOutcome(recipient=RITA, action=action, status=status)
    part = part_of(read(report(outcome, content=content, ret=ret)), 2)
    assert part.get_content_type() == expected
    whole = part.get_payload(0) if expected == "message/rfc822" else part
    assert isinstance(whole, Message)
    if expected == "message/rfc822":
        assert whole["Subject"] == "hi"
        assert whole.get_payload() == "Hello\r\n"
    else:
        assert whole.get_payload(decode=True) == HEADER


def test_long_header_comes_back_cut_between_fields() -> None:
    """A header of 256 kB is no report: the fields that fit are returned."""
    content = HEADER + b"".join(b"X-%d: a\r\n b\r\n" % number for number in range(20_000)) + b"\r\nHello\r\n"
    returned = part_of(read(report(content=content)), 2).get_payload(decode=True)
    assert isinstance(returned, bytes)
    assert MAX_RETURNED - 20 < len(returned) <= MAX_RETURNED
    assert returned.endswith(b"\r\n b\r\n")


def test_hostile_words_end_no_part_and_no_line() -> None:
    """A server that knows the boundary and writes on for ever changes nothing of the structure."""
    words = f"550 x --=_{'R' * 20}-- Content-Type: text/html " + "y" * MAX_TEXT
    outcome = ReportedOutcome(
        recipient=RITA, action=Action.FAILED, status="5.0.0", mx_host="m" * MAX_TEXT, diagnostic=words[:MAX_TEXT]
    )
    message = read(report(outcome))
    (_, of_recipient) = groups_of(message)
    assert "".join(of_recipient["Diagnostic-Code"].split()) == "smtp;" + "".join(words[:MAX_TEXT].split())


def test_odd_message_id_is_not_answered() -> None:
    """What is no plain Message-ID does not get into our header."""
    for odd in (b"<1@x> <2@x>", b"none", b"<a b>", b"<" + b"x" * 300 + b">"):
        content = CONTENT.replace(b"<1@example.test>", odd)
        assert "In-Reply-To" not in read(report(content=content))
    folded = CONTENT.replace(b"Message-ID: ", b"message-id:\r\n ")
    assert read(report(content=folded))["In-Reply-To"] == "<1@example.test>"


def test_addresses_beyond_ascii_use_the_types_for_utf8() -> None:
    """RFC 6533: message/global-delivery-status and message/global-headers, and the report itself needs SMTPUTF8."""
    recipient = Address("алиса", RITA.domain)
    outcome = ReportedOutcome(recipient=recipient, action=Action.FAILED, status="5.0.0")
    dsn = report(outcome, recipients=(recipient,), smtputf8=True)
    assert (dsn.envelope.body, dsn.envelope.smtputf8) == ("8BITMIME", True)
    message = read(dsn)
    types = [part.get_content_type() for part in message.iter_parts()]
    assert types == ["text/plain", "message/global-delivery-status", "message/global-headers"]
    assert "Final-Recipient: utf-8; алиса@destination.test\r\n".encode() in dsn.content
    assert "<алиса@destination.test>" in part_of(message, 0).get_content()


def test_eight_bit_body_comes_back_as_it_is() -> None:
    """A body beyond ASCII under an ASCII header is message/rfc822 in 8 bits."""
    dsn = report(content=CONTENT + "grüße\r\n".encode(), ret="FULL")
    assert (dsn.envelope.body, dsn.envelope.smtputf8) == ("8BITMIME", False)
    message = read(dsn)
    assert part_of(message, 2)["Content-Transfer-Encoding"] == "8bit"
    assert message["Content-Transfer-Encoding"] == "8bit"


def test_report_on_mail_that_needs_tls_needs_it_too_and_returns_the_header_alone() -> None:
    """RFC 8689 section 5; RFC 6710: a report is as urgent as what it is on; RFC 2852 section 5: its deadline."""
    deadline = Deadline(at=1_767_323_045, mode=ByMode.RETURN)
    options = Options(tls=TlsDemand.REQUIRED, priority=4, deadline=deadline, release_at=7)
    dsn = report(ret="FULL", options=options)
    assert dsn.envelope.options == Options(tls=TlsDemand.REQUIRED, priority=4)
    assert dsn.envelope.ret == "HDRS"
    message = read(dsn)
    assert part_of(message, 2).get_content_type() == "text/rfc822-headers"
    assert groups_of(message)[0]["Deliver-By-Date"] == "Fri, 02 Jan 2026 03:04:05 +0000"
    assert groups_of(message)[0]["Future-Release-Request"] == "until;1970-01-01T00:00:07Z"
    optional = report(ret="FULL", options=Options(tls=TlsDemand.OPTIONAL))
    assert optional.envelope.options == NO_OPTIONS
    assert part_of(read(optional), 2).get_content_type() == "message/rfc822"
