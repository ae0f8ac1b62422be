"""MAIL and RCPT as octets, and what the peer must offer for them.

RFC 5321 section 4.1.1, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 2920 (PIPELINING),
RFC 3461 (DSN), RFC 8689 (REQUIRETLS), RFC 2852 (DELIVERBY), RFC 6710 (MT-PRIORITY), RFC 9422 (LIMITS). Pure.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ptt.core.address import Address, ReversePath
from ptt.core.errors import MalformedInput
from ptt.core.notify import NO_REQUEST, RecipientRequest, escape_address, format_notify
from ptt.core.options import ByMode, Options
from ptt.core.outbound import OutboundMessage

RSET = b"RSET\r\n"
DATA = b"DATA\r\n"

# The threat: a line end inside an address would be a command of its own. Addresses are parsed at the edge; this is the
# last door before the wire.
_LIMIT = re.compile(r"\b(RCPTMAX|MAILMAX)=([1-9][0-9]{0,5})\b", re.IGNORECASE)  # RFC 9422 section 4
_MOST_SECONDS = 999_999_999  # RFC 2852 section 4
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """What the peer's EHLO offered, as far as it is used here."""

    pipelining: bool = False
    size: bool = False
    size_limit: int = 0
    """Most octets of a message; 0 if the peer names none (RFC 1870 section 4)."""
    eight_bit_mime: bool = False
    smtputf8: bool = False
    dsn: bool = False
    require_tls: bool = False
    deliver_by: bool = False
    mt_priority: bool = False
    max_recipients: int = 0
    """Most recipients of one transaction; 0 if the peer names none (RFC 9422 section 4)."""
    max_messages: int = 0
    """Most messages of one connection; 0 likewise."""


NONE = Extensions()
"""Of a peer that knows EHLO and offers nothing, or does not know it."""


def parse_extensions(keywords: Mapping[str, str]) -> Extensions:
    """Read EHLO keywords: lower case, each with its parameters as one text."""
    limit = keywords.get("size", "").strip()
    limits = {name.upper(): int(value) for name, value in _LIMIT.findall(keywords.get("limits", ""))}
    return Extensions(
        pipelining="pipelining" in keywords,
        size="size" in keywords,
        # RFC 1870 section 4: the parameter is optional; one that is no number says nothing.
        size_limit=int(limit) if limit.isascii() and limit.isdigit() and len(limit) <= 20 else 0,  # noqa: PLR2004 - RFC 1870
        eight_bit_mime="8bitmime" in keywords,
        smtputf8="smtputf8" in keywords,
        dsn="dsn" in keywords,
        require_tls="requiretls" in keywords,
        deliver_by="deliverby" in keywords,
        mt_priority="mt-priority" in keywords,
        max_recipients=limits.get("RCPTMAX", 0),
        max_messages=limits.get("MAILMAX", 0),
    )


def format_mail(message: OutboundMessage, extensions: Extensions, now_s: float = 0) -> bytes:
    """Write MAIL with the parameters that the peer offers and the message needs.

    Args:
        message: what is sent.
        extensions: what the peer offers.
        now_s: seconds since 1970, for a deadline.

    Raises:
        MalformedInput: if the reverse-path cannot be written on one line.
    """
    parts = [f"MAIL FROM:{_format_path(message.reverse_path)}"]
    if extensions.size:
        parts.append(f"SIZE={message.size_bytes}")
    if extensions.eight_bit_mime and message.body == "8BITMIME":
        parts.append("BODY=8BITMIME")
    if extensions.smtputf8 and message.smtputf8:
        parts.append("SMTPUTF8")
    # RFC 3461 section 5.2.1: both are passed on as they came, to who offers the extension.
    if extensions.dsn and (ret := "HDRS" if message.options.requires_tls else message.ret):
        parts.append(f"RET={ret}")  # RFC 8689 section 4.2.1: a report must not carry what only TLS may carry.
    if extensions.dsn and message.envid:
        parts.append(f"ENVID={_check(message.envid)}")
    parts += _format_options(message.options, extensions, now_s)
    return f"{' '.join(parts)}\r\n".encode()


def _format_options(options: Options, extensions: Extensions, now_s: float) -> Iterator[str]:
    if options.requires_tls and extensions.require_tls:
        yield "REQUIRETLS"
    if options.priority and extensions.mt_priority:
        yield f"MT-PRIORITY={options.priority}"
    deadline = options.deadline
    if deadline is not None and extensions.deliver_by:
        # RFC 2852 section 4: what is left of the time; used up it may be for a notice, never for a return.
        left_s = max(int(deadline.at - now_s), 1 if deadline.mode is ByMode.RETURN else -_MOST_SECONDS)
        yield f"BY={left_s};{deadline.mode}{'T' if deadline.is_traced else ''}"


def format_rcpt(recipient: Address, request: RecipientRequest = NO_REQUEST, extensions: Extensions = NONE) -> bytes:
    """Write RCPT with what was asked for the recipient, if the peer offers DSN.

    Raises:
        MalformedInput: if the recipient cannot be written on one line.
    """
    parts = [f"RCPT TO:{_format_path(recipient)}"]
    if extensions.dsn and request.notify:
        parts.append(f"NOTIFY={format_notify(request.notify)}")
    if extensions.dsn and (original := request.original_recipient):
        parts.append(f"ORCPT={_check(original if extensions.smtputf8 else escape_address(original))}")
    return f"{' '.join(parts)}\r\n".encode()


def _format_path(path: ReversePath) -> str:
    return "<>" if path is None else _check(f"<{path.local}@{path.domain}>")


def _check(text: str) -> str:
    if _CONTROL.search(text):
        raise MalformedInput("control character in an address")
    return text
