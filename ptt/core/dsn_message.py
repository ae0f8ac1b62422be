"""A report on the delivery of a message, as a message: multipart/report in three parts.

Everything that is not ours, such as a server's words, stands indented or in a field of its own on lines of bounded
length, so that it can neither end a part nor pass for words of ours. RFC 3464 and RFC 3461 section 6 (delivery status),
RFC 6522 (multipart/report), RFC 6533 (addresses beyond ASCII), RFC 3834 section 5 (Auto-Submitted).
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from ptt.core.address import Address, Domain, ReversePath
from ptt.core.dsn import Action, ReportedOutcome
from ptt.core.envelope import Envelope, QueueId
from ptt.core.notify import NEVER_REPORT, NO_REQUEST, decode_xtext
from ptt.core.options import Options, TlsDemand, wants_trace

MAX_RETURNED = 65_536
"""Octets of the message that a report brings back. The threat: who sends 25 MB to a thousand wrong recipients in the
name of another would have us send them back to him."""

_MESSAGE_ID = re.compile(rb"(?mi)^Message-ID:(?:\r\n)?[ \t]*(<[!-;=?-~]{1,250}>)[ \t]*\r$")
_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_WIDTH = 76
_INDENT = "    "
_SUBJECTS = {
    Action.FAILED: "Mail could not be delivered",
    Action.DELAYED: "Mail is delayed and still being tried",
    Action.RELAYED: "Mail was handed on",
}
_OPENINGS = {
    Action.FAILED: "It could not be delivered to the following recipients, and will not be tried again:",
    Action.DELAYED: "It could not be delivered yet to the following recipients. You need not do anything: "
    "it is still being tried.",
    Action.RELAYED: "It was handed to the mail servers of the following recipients, which do not tell whether it "
    "arrives; you asked to be told:",
}
_RELAYED_BY_DEADLINE = (
    "It has a deadline, and was handed to the mail servers of the following recipients, which may not know of it:"
)
_DESCRIPTIONS = {
    Action.FAILED: "Undelivered message",
    Action.DELAYED: "Delayed message",
    Action.RELAYED: "Relayed message",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The message that is reported on."""

    queue_id: QueueId
    envelope: Envelope
    content: bytes
    accepted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports, when and under which queue-id."""

    queue_id: QueueId
    hostname: str
    author_domain: Domain
    """Whose keys sign the report; From is of it, so that the signature is aligned (RFC 7489 section 3.1)."""
    reported_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Dsn:
    """A report that is ready to be signed."""

    envelope: Envelope
    content: bytes


def make_dsn(original: Original, outcomes: Sequence[ReportedOutcome], reporter: Reporter) -> Dsn:
    """Write the report on a message to its reverse-path.

    Args:
        original: with a reverse-path that is not null.
        outcomes: at least one.
        reporter: who writes it.
    """
    reverse_path = original.envelope.reverse_path
    assert reverse_path is not None  # noqa: S101 - a report on a report would be a loop; callers have checked
    text = _format_text(original, outcomes, reporter)
    status = _format_status(original, outcomes, reporter)
    returned, is_whole = _choose_returned(original, outcomes)
    # RFC 6533 section 4: the types for UTF-8 are used only where there is some.
    header_end = returned.find(b"\r\n\r\n") if is_whole else len(returned)
    is_utf8 = not (text + status + str(reverse_path)).isascii() or not returned[:header_end].isascii()
    parts = (
        (f"text/plain; charset={'utf-8' if is_utf8 else 'us-ascii'}", "Notification", text.encode()),
        (f"message/{'global-' if is_utf8 else ''}delivery-status", "Delivery report", status.encode()),
        (_RETURNED_TYPES[is_utf8, is_whole], _DESCRIPTIONS[_find_gravest(outcomes)], returned),
    )
    boundary = f"=_{reporter.queue_id}"
    body = b"".join(_format_part(boundary, *part) for part in parts) + f"--{boundary}--\r\n".encode()
    content = _format_header(original, outcomes, reporter, is_ascii=body.isascii()).encode() + body
    envelope = _make_envelope(original.envelope, reverse_path, content, smtputf8=is_utf8)
    return Dsn(envelope=envelope, content=content)


_RETURNED_TYPES = {
    (False, False): "text/rfc822-headers",
    (False, True): "message/rfc822",
    (True, False): "message/global-headers",
    (True, True): "message/global",
}


def _make_envelope(original: Envelope, recipient: Address, content: bytes, *, smtputf8: bool) -> Envelope:
    # RFC 3461 section 6.1: the null reverse-path, so that no report ever follows on this one, and NOTIFY=NEVER.
    return Envelope(
        user=original.user,
        reverse_path=None,
        recipients=(recipient,),
        body="7BIT" if content.isascii() else "8BITMIME",
        smtputf8=smtputf8,
        # RFC 8689 section 5: what a report tells of the message is no less worth hiding; RFC 6710: nor less urgent.
        ret="HDRS" if original.options.requires_tls else "",
        options=Options(
            tls=TlsDemand.REQUIRED if original.options.requires_tls else TlsDemand.POLICY,
            priority=original.options.priority,
        ),
        requests={recipient: NEVER_REPORT},
    )


def _format_header(
    original: Original, outcomes: Sequence[ReportedOutcome], reporter: Reporter, *, is_ascii: bool
) -> str:
    fields = [
        f"From: Mail Delivery System <postmaster@{reporter.author_domain}>",
        f"To: <{original.envelope.reverse_path}>",
        f"Subject: {_SUBJECTS[_find_gravest(outcomes)]}",
        f"Date: {format_datetime(reporter.reported_at)}",
        f"Message-ID: <{reporter.queue_id}@{reporter.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="=_{reporter.queue_id}"',
    ]
    if message_id := _MESSAGE_ID.search(_cut_header(original.content)):
        answered = message_id[1].decode()
        fields += [f"In-Reply-To: {answered}", f"References: {answered}"]
    if not is_ascii:
        fields.append("Content-Transfer-Encoding: 8bit")
    return "\r\n".join([*fields, "", ""])


def _find_gravest(outcomes: Sequence[ReportedOutcome]) -> Action:
    return next(action for action in Action if any(one.action is action for one in outcomes))


def _format_part(boundary: str, content_type: str, description: str, content: bytes) -> bytes:
    encoding = "7bit" if content.isascii() else "8bit"
    head = (
        f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Description: {description}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n"


def _format_text(original: Original, outcomes: Sequence[ReportedOutcome], reporter: Reporter) -> str:
    lines = [
        f"This is the mail system at {reporter.hostname}.",
        "",
        f"It took a message from you on {format_datetime(original.accepted_at)}",
        f"and gave it the queue-id {original.queue_id}.",
    ]
    for action in Action:
        told = [one for one in outcomes if one.action is action]
        if told:
            lines += ["", *textwrap.wrap(_choose_opening(action, original.envelope.options), _WIDTH)]
        for one in told:
            lines += ["", f"{_INDENT}<{_escape(one.recipient)}>", *_explain(one)]
    return "\r\n".join([*lines, ""])


def _choose_opening(action: Action, options: Options) -> str:
    # RFC 2852 section 4: told for its deadline, whatever NOTIFY asks.
    is_traced = action is Action.RELAYED and wants_trace(options.deadline)
    return _RELAYED_BY_DEADLINE if is_traced else _OPENINGS[action]


def _explain(outcome: ReportedOutcome) -> list[str]:
    peer = outcome.mx_host or "the mail server"
    sentences = [outcome.reason, outcome.diagnostic and f"{peer} said: {outcome.diagnostic}"]
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(sentence, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    ]


def _format_status(original: Original, outcomes: Sequence[ReportedOutcome], reporter: Reporter) -> str:
    envelope = original.envelope
    head = [f"Reporting-MTA: dns; {reporter.hostname}"]
    if envelope.envid:
        head.append(f"Original-Envelope-Id: {_NOT_PRINTABLE.sub('?', decode_xtext(envelope.envid))}")
    head.append(f"Arrival-Date: {format_datetime(original.accepted_at)}")
    # RFC 4865: what was held says so in each report; a hold is kept as the instant of its end.
    if release_at := envelope.options.release_at:
        head.append(f"Future-Release-Request: until;{datetime.fromtimestamp(release_at, UTC):%Y-%m-%dT%H:%M:%SZ}")
    # RFC 2852 section 5.
    if deadline := envelope.options.deadline:
        head.append(f"Deliver-By-Date: {format_datetime(datetime.fromtimestamp(deadline.at, UTC))}")
    groups = [head, *(_format_recipient(envelope, outcome) for outcome in outcomes)]
    return "\r\n".join("\r\n".join([*group, ""]) for group in groups)


def _format_recipient(envelope: Envelope, outcome: ReportedOutcome) -> list[str]:
    recipient = outcome.recipient
    fields = []
    if original := envelope.requests.get(recipient, NO_REQUEST).original_recipient:
        address_type, _, address = original.partition(";")
        fields.append(f"Original-Recipient: {address_type}; {_NOT_PRINTABLE.sub('?', decode_xtext(address))}")
    # RFC 6533 section 3: addresses beyond ASCII are of a type of their own.
    fields.append(f"Final-Recipient: {'rfc822' if recipient.is_ascii else 'utf-8'}; {_escape(recipient)}")
    fields += [f"Action: {outcome.action}", f"Status: {outcome.status}"]
    if outcome.mx_host:
        fields.append(f"Remote-MTA: dns; {outcome.mx_host}")
    if outcome.diagnostic:
        fields.append("\r\n ".join(textwrap.wrap(f"Diagnostic-Code: smtp; {outcome.diagnostic}", _WIDTH)))
    return fields


def _choose_returned(original: Original, outcomes: Sequence[ReportedOutcome]) -> tuple[bytes, bool]:
    """Give what of the original is returned, and whether it is the whole message (RFC 3461 sections 4.3 and 6.2)."""
    failed = any(outcome.action is Action.FAILED for outcome in outcomes)
    is_whole = original.envelope.ret == "FULL" and not original.envelope.options.requires_tls
    if failed and is_whole and len(original.content) <= MAX_RETURNED:
        return original.content, True
    return _cut_header(original.content), False


def _cut_header(content: bytes) -> bytes:
    """Give the header with its last CRLF; if it is too long, the fields that fit."""
    end = content.find(b"\r\n\r\n", 0, MAX_RETURNED)
    if end >= 0:
        return content[: end + 2]
    whole = content[:MAX_RETURNED]
    return whole if len(content) <= MAX_RETURNED and whole.endswith(b"\r\n") else _drop_last_field(whole)


def _drop_last_field(header: bytes) -> bytes:
    starts = [match.start() + 2 for match in re.finditer(rb"\r\n(?![ \t])", header)]
    return header[: starts[-1]] if starts else b""


def _escape(path: ReversePath) -> str:
    return _NOT_PRINTABLE.sub("?", str(path))
