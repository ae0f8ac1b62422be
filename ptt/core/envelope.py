"""The envelope and the message it carries, and how both are written down. RFC 5321 section 2.3.1, RFC 3461.

The JSON text of an envelope is stored and sealed as one string of bytes: what was sealed is what is read back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from ptt.core.address import Address, Domain, ReversePath
from ptt.core.errors import MalformedInput
from ptt.core.notify import Notify, RecipientRequest
from ptt.core.options import NO_OPTIONS, Options, describe_options, parse_options
from ptt.core.rates import Quota

QueueId = NewType("QueueId", str)
"""20 characters of Crockford's base 32: 9 of time, 11 of chance; sorts by time."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_BITS = 45
_RANDOM_BITS = 55
QUEUE_ID_LENGTH = (_TIME_BITS + _RANDOM_BITS) // 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What the client said before DATA, and who said it."""

    user: str
    reverse_path: ReversePath
    recipients: tuple[Address, ...]
    body: str = "7BIT"
    """``7BIT`` or ``8BITMIME`` (RFC 6152)."""
    smtputf8: bool = False
    """Whether the client asked for SMTPUTF8 (RFC 6531)."""
    ret: str = ""
    """``FULL`` or ``HDRS`` (RFC 3461 section 4.3), empty without the parameter."""
    envid: str = ""
    """ENVID in xtext, as on the wire (RFC 3461 section 4.4), empty without the parameter."""
    requests: Mapping[Address, RecipientRequest] = field(default_factory=dict)
    """What was asked for recipients; none is there for who asked nothing."""
    options: Options = NO_OPTIONS
    """What was asked of the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A message that ingress is about to spool.

    ``content`` is an RFC 5322 message with CRLF line ends and no dot-stuffing; ``envelope_json`` is what
    `format_envelope` gave and ``seal`` covers it.
    """

    queue_id: QueueId
    envelope_json: bytes
    content: bytes
    content_sha256: bytes
    seal: bytes
    quota: Quota | None = None
    """What it counts against; None: nothing."""
    release_at: int = 0
    """When it may be looked at first, in seconds since 1970; 0: at once. As the envelope says."""
    priority: int = 0
    """As the envelope says."""
    fingerprint: bytes = b""
    """The same for the same submission made again, within the time that repeats are known; else empty."""


def format_queue_id(time_ms: int, random_bits: int) -> QueueId:
    """Make a queue-id from milliseconds since 1970 and 55 random bits."""
    number = (time_ms % (1 << _TIME_BITS)) << _RANDOM_BITS | random_bits % (1 << _RANDOM_BITS)
    digits = [_ALPHABET[number >> shift & 31] for shift in range(5 * (QUEUE_ID_LENGTH - 1), -1, -5)]
    return QueueId("".join(digits))


def parse_time_ms(queue_id: QueueId) -> int:
    """Give when a queue-id was made, in milliseconds since 1970 by the clock of the ingress host."""
    number = 0
    for digit in queue_id:
        number = number << 5 | _ALPHABET.index(digit)
    return number >> _RANDOM_BITS


def decide_hold_s(queue_id: QueueId, options: Options) -> float:
    """Decide how long a message was to be held: its age counts from its release, not from its acceptance."""
    return max(0.0, options.release_at - parse_time_ms(queue_id) / 1000) if options.release_at else 0.0


def decide_left_s(queue_id: QueueId, options: Options, age_s: float) -> float | None:
    """Decide how long there is until the deadline of a message, less than 0 if it has passed.

    Args:
        queue_id: tells when it was accepted.
        options: what was asked.
        age_s: how long ago it was accepted.

    Returns:
        Seconds, or None without a deadline.
    """
    deadline = options.deadline
    return None if deadline is None else deadline.at - parse_time_ms(queue_id) / 1000 - age_s


def parse_queue_id(text: str) -> QueueId:
    """Parse a queue-id that a person typed; any case.

    Raises:
        MalformedInput: if it is not 20 characters of the alphabet.
    """
    upper = text.strip().upper()
    if len(upper) != QUEUE_ID_LENGTH or any(character not in _ALPHABET for character in upper):
        raise MalformedInput(f"not a queue-id: {text!r}")
    return QueueId(upper)


def format_envelope(envelope: Envelope) -> bytes:
    """Write an envelope as JSON; what was not asked for is left out."""
    fields: dict[str, object] = {
        "user": envelope.user,
        "reverse_path": _format_address(envelope.reverse_path),
        "recipients": [_format_address(recipient) for recipient in envelope.recipients],
        "body": envelope.body,
        "smtputf8": envelope.smtputf8,
    }
    if envelope.ret:
        fields["ret"] = envelope.ret
    if envelope.envid:
        fields["envid"] = envelope.envid
    if envelope.requests:
        fields["requests"] = [_format_request(recipient, request) for recipient, request in envelope.requests.items()]
    if envelope.options != NO_OPTIONS:
        fields["options"] = describe_options(envelope.options)
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def parse_envelope(data: bytes) -> Envelope:
    """Read what `format_envelope` wrote.

    Raises:
        MalformedInput: if it is not such JSON.
    """
    try:
        fields: Mapping[str, object] = json.loads(data)
        return Envelope(
            user=_text(fields["user"]),
            reverse_path=_parse_pair(fields["reverse_path"]),
            recipients=tuple(_parse_recipient(pair) for pair in _list(fields["recipients"])),
            body=_text(fields["body"]),
            smtputf8=fields["smtputf8"] is True,
            # Absent in what was spooled before reports could be asked for, and when nothing was asked.
            ret=_text(fields.get("ret", "")),
            envid=_text(fields.get("envid", "")),
            requests=dict(map(_parse_request, _list(fields.get("requests", [])))),
            options=parse_options(_mapping(fields["options"])) if "options" in fields else NO_OPTIONS,
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MalformedInput(f"not an envelope: {error!r}") from error


def _format_address(address: Address | None) -> list[str] | None:
    return None if address is None else [address.local, address.domain]


def _parse_pair(value: object) -> Address | None:
    if value is None:
        return None
    local, domain = _list(value)
    return Address(_text(local), Domain(_text(domain)))


def _parse_recipient(value: object) -> Address:
    address = _parse_pair(value)
    if address is None:
        raise MalformedInput("a recipient cannot be null")
    return address


def _format_request(recipient: Address, request: RecipientRequest) -> list[object]:
    notify = None if request.notify is None else sorted(request.notify)
    return [_format_address(recipient), notify, request.original_recipient]


def _parse_request(value: object) -> tuple[Address, RecipientRequest]:
    recipient, notify, original_recipient = _list(value)
    words = None if notify is None else frozenset(Notify(_text(word)) for word in _list(notify))
    return _parse_recipient(recipient), RecipientRequest(notify=words, original_recipient=_text(original_recipient))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {type(value).__name__}")
    return value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"object expected, got {type(value).__name__}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"list expected, got {type(value).__name__}")
    return value
