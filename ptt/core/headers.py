"""The header of a submitted message: what is refused, what is added and what is taken out before it is spooled.

What leaves must conform (RFC 6409 section 8), and the signer must never meet what it cannot sign, so every rule that
it has is checked here, where the client still hears of it. Octets beyond ASCII in the header need SMTPUTF8 and must be
UTF-8 (RFC 6532); in the body they are taken as they are. RFC 5322 section 3.6, RFC 5321 section 4.4, RFC 6409.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import NamedTuple

from ptt.core.address import Address
from ptt.core.envelope import QueueId
from ptt.core.errors import MalformedInput, Refused
from ptt.core.field_values import is_date, is_message_id
from ptt.core.mailbox import parse_mailboxes
from ptt.core.path import ToAscii
from ptt.core.reply import Reply
from ptt.core.signature import SINGLETONS

MAX_HEADER_BYTES = 262_144
"""A header is parsed field by field in every process on the way: 256 KiB of it take milliseconds, 25 MB would stall."""
MAX_FIELDS = 2000
MAX_RECEIVED = 100  # RFC 5321 section 6.3: a loop is assumed from 100 on

HEADER_TOO_LARGE = Reply(552, "5.3.4", f"Header exceeds {MAX_HEADER_BYTES} octets or {MAX_FIELDS} fields")
LOOP = Reply(554, "5.4.6", f"Mail loop: {MAX_RECEIVED} or more Received fields")
FROM_NOT_OWNED = Reply(550, "5.7.1", "From: you may not send as this address")
FROM_UNCLEAR = Reply(550, "5.7.1", "From: must be plain mailboxes that all mail programs read alike")
SEVERAL_DOMAINS = Reply(550, "5.7.1", "From: all mailboxes must be of one domain, that of the signature")
RESENDER_NOT_OWNED = Reply(550, "5.7.1", "Resent-From or Resent-Sender: you may not send as this address")
SENDER_NOT_OWNED = Reply(550, "5.7.1", "Sender: you may not send as this address")

# RFC 5322 section 2.2: name of printable ASCII but the colon, right before it; continuation lines start with a blank.
# It is tried at the beginning of a line only, and its quantifiers are possessive, so that the time is linear.
_FIELD = re.compile(rb"(?<![^\n])(([!-9;-~]++):([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)\r\n)")
_BLANK_LINE = re.compile(rb"\r\n[ \t]++\r\n")
_NO_TLS = re.compile(rb"\r\ntls-required:[ \t]*no[ \t]*\r\n")
_DOMAIN_CHARACTERS = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_REMOVED = frozenset({b"bcc", b"resent-bcc", b"return-path"})
"""RFC 5322 section 3.6.3 and RFC 6409 section 8; Return-Path is for the last server only (RFC 5321 section 4.4)."""
_ONCE = SINGLETONS | {b"tls-required"}
"""RFC 5322 section 3.6; RFC 8689 section 5: of two that differ nobody could say which one counts."""
_RESENT = frozenset({b"resent-from", b"resent-sender"})
_REMOVED_IF_EMPTY = frozenset({b"date", b"message-id", b"to", b"cc", b"reply-to", b"in-reply-to", b"references"})
"""RFC 5322 section 3.6: none of these may be empty, and none has to be there but Date, which is put back."""
_CHECKS = {b"date": is_date, b"message-id": is_message_id}
_SET_ASIDE = b"X-Original-"
_LONG = 900
"""Octets of a field after which its value begins on a line of its own: a longer name must not make a line too long."""


class Field(NamedTuple):
    """A header field; a plain tuple, because making a dozen of them is a third of the cost of a header."""

    raw: bytes
    """As it stands, with its CRLF."""
    name: bytes
    """In lower case."""
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What this server knows and writes into the header."""

    hostname: str
    queue_id: QueueId
    client_name: str
    """What the client said in EHLO; any text."""
    client_address: str
    """IP address of the client."""
    tls: str
    """TLS version and cipher."""
    received_at: datetime
    priority: int = 0
    """What the client asked for with MT-PRIORITY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who submits, and how addresses are to be read."""

    may_send_as: Callable[[Address], bool]
    smtputf8: bool
    to_ascii: ToAscii


def prepare_content(content: bytes, author: Author, stamp: Stamp) -> tuple[bytes, Sequence[str]]:
    """Check a message and make it ready to be sent.

    Args:
        content: what DATA brought, without dot-stuffing; lines end with CRLF and no CR, LF or NUL stands elsewhere.
        author: who submits it.
        stamp: for the Received field, and for Date and Message-ID when they are missing or malformed.

    Returns:
        The message with Received on top, and Bcc and Return-Path removed; and the names of malformed fields that stand
        in it under another name.

    Raises:
        Refused: 550, 552 or 554.
    """
    fields, body_start = split_header(content)
    check_fields(fields, author)
    present = [field for field in fields if not _is_removed(field)]
    kept = [_set_aside_malformed(field) for field in present]
    set_aside = [old.name.decode() for old, new in zip(present, kept, strict=True) if new is not old]
    names = {field.name for field in kept}
    added = [format_received(stamp, smtputf8=author.smtputf8)]
    if b"date" not in names:
        added.append(b"Date: %b\r\n" % format_datetime(stamp.received_at).encode())
    if b"message-id" not in names:
        added.append(f"Message-ID: <{stamp.queue_id}@{stamp.hostname}>\r\n".encode())
    if len(kept) == len(fields) and not set_aside and content.startswith(b"\r\n", body_start):
        return b"".join((*added, content)), ()
    # RFC 5322 section 2.1: the blank line may be missing if there is no body; with it all agree where the header ends.
    body = memoryview(content)[body_start + 2 :]
    return b"".join((*added, *(field.raw for field in kept), b"\r\n", body)), set_aside


def asks_no_tls(content: bytes) -> bool:
    """Tell whether a checked message says ``TLS-Required: No`` (RFC 8689 section 5)."""
    header = content[: content.find(b"\r\n\r\n") + 2].lower()
    # Few messages have the field; the others pay for one look.
    return b"\r\ntls-required:" in header and _NO_TLS.search(header) is not None


def list_fields(header: bytes) -> list[Field]:
    """Give the fields of a header; what is none is passed over."""
    return [Field(raw, name.lower(), value) for raw, name, value in _FIELD.findall(header)]


def split_header(content: bytes) -> tuple[Sequence[Field], int]:
    """Split off the header fields.

    Returns:
        The fields and the offset of the blank line, which is the length of the content if there is none.

    Raises:
        Refused: 552 if it is too large, 554 if a line is no field.
    """
    if content.startswith(b"\r\n"):
        raise _malformed("no From field")
    end = content.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES)
    header = content if end < 0 else content[: end + 2]
    if len(header) > MAX_HEADER_BYTES:
        raise Refused(HEADER_TOO_LARGE)
    # Some parsers take a line of blanks for the end of the header, and so read other fields than we do.
    if _BLANK_LINE.search(header):
        raise _malformed("a line of blanks in the header")
    fields = list_fields(header)
    if sum(len(field.raw) for field in fields) != len(header):
        raise _malformed("a line of the header is no field")
    if len(fields) > MAX_FIELDS:
        raise Refused(HEADER_TOO_LARGE)
    return fields, len(header)


def check_fields(fields: Sequence[Field], author: Author) -> None:
    """Check how often fields occur and whose they are.

    Raises:
        Refused: 550 if From, Sender or a Resent field is not the author's, 554 if the header is malformed or it loops.
    """
    singletons: dict[bytes, bytes] = {}
    for raw, name, value in fields:
        if not raw.isascii():
            _check_utf8(raw, smtputf8=author.smtputf8)
        if name in _ONCE and name not in _REMOVED:
            # RFC 5322 section 3.6: one reader shows the first of two, another the last.
            if name in singletons:
                raise _malformed(f"more than one {name.decode()} field")
            singletons[name] = value
        elif name in _RESENT:
            _check_resender(value, author)
    # RFC 5321 section 6.3.
    if sum(field.name == b"received" for field in fields) >= MAX_RECEIVED:
        raise Refused(LOOP)
    if b"from" not in singletons:
        raise _malformed("no From field")
    _check_owner(singletons[b"from"], singletons.get(b"sender"), author)


def _check_utf8(raw: bytes, *, smtputf8: bool) -> None:
    if not smtputf8:
        raise _malformed("octets beyond ASCII in the header need SMTPUTF8 or encoded-words")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise _malformed("the header is not UTF-8") from error


def _check_owner(from_value: bytes, sender_value: bytes | None, author: Author) -> None:
    authors = _parse(from_value, author)
    if not all(map(author.may_send_as, authors)):
        raise Refused(FROM_NOT_OWNED)
    # One signature speaks for one domain: without this rule the message would wait for a signer for ever.
    if len({address.domain for address in authors}) > 1:
        raise Refused(SEVERAL_DOMAINS)
    # RFC 5322 section 3.6.2: several authors need a Sender.
    if len(authors) > 1 and sender_value is None:
        raise _malformed("several mailboxes in From need a Sender field")
    if sender_value is not None:
        senders = _parse(sender_value, author)
        if len(senders) > 1:
            raise _malformed("Sender must be one mailbox")
        if not author.may_send_as(senders[0]):
            raise Refused(SENDER_NOT_OWNED)


def _check_resender(value: bytes, author: Author) -> None:
    # RFC 5322 section 3.6.6: some readers show who resent a message as its sender.
    if not all(map(author.may_send_as, _parse(value, author))):
        raise Refused(RESENDER_NOT_OWNED)


def _parse(value: bytes, author: Author) -> Sequence[Address]:
    # Unfolding removes the CRLF alone (RFC 5322 section 2.2.3).
    text = value.replace(b"\r\n", b"").decode()
    try:
        return parse_mailboxes(text, smtputf8=author.smtputf8, to_ascii=author.to_ascii)
    except MalformedInput as error:
        raise Refused(FROM_UNCLEAR) from error


def _is_removed(field: Field) -> bool:
    return field.name in _REMOVED or (field.name in _REMOVED_IF_EMPTY and not field.value.strip())


def _set_aside_malformed(field: Field) -> Field:
    """Give the field as it is, or under another name if its value is not what its name promises."""
    check = _CHECKS.get(field.name)
    if check is None or check(field.value):
        return field
    # RFC 6409 sections 8.2 and 8.3: replaced; the old value helps who knows the message by it.
    name, value = field.raw[: len(field.name)], field.value.strip()
    fold = b"\r\n" if len(field.raw) > _LONG else b""
    return Field(b"%b%b:%b %b\r\n" % (_SET_ASIDE, name, fold, value), _SET_ASIDE.lower() + field.name, value)


def _malformed(reason: str) -> Refused:
    return Refused(Reply(554, "5.6.0", f"Malformed message: {reason}"))


def format_received(stamp: Stamp, *, smtputf8: bool) -> bytes:
    """Write our Received field (RFC 5321 section 4.4), folded at 78 columns unless one word is longer."""
    # The client chose its name: in a structured field nothing but the characters of a domain or literal may stand.
    name = _DOMAIN_CHARACTERS.sub("?", stamp.client_name)
    # RFC 3848 and RFC 6531 section 4.3: with TLS and AUTH.
    protocol = "UTF8SMTPSA" if smtputf8 else "ESMTPSA"
    tls = stamp.tls.replace(" ", " cipher ")
    # RFC 6710 section 4.1: the clause is for what has a priority.
    priority = f" PRIORITY {stamp.priority}" if stamp.priority else ""
    lines = (
        f"Received: from {name} ({format_literal(stamp.client_address)})",
        f"by {stamp.hostname}",
        f"with {protocol} id {stamp.queue_id}{priority}",
        f"(using {tls});",
        format_datetime(stamp.received_at),
    )
    return "\r\n\t".join(lines).encode() + b"\r\n"


def format_literal(ip_address: str) -> str:
    """Write an IP address as an address literal (RFC 5321 section 4.1.3)."""
    return f"[IPv6:{ip_address}]" if ":" in ip_address else f"[{ip_address}]"
