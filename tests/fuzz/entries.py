"""What is read back from Redis: envelopes, recipients, outcomes, wake-ups, queue-ids. Others may have written it."""

import json
from collections.abc import Callable

from ptt.core.address import Domain
from ptt.core.dsn import format_reported, parse_reported
from ptt.core.envelope import format_envelope, format_queue_id, parse_envelope, parse_queue_id, parse_time_ms
from ptt.core.errors import MalformedInput
from ptt.core.wakeup import RELAY_QUEUE, RELAY_WAKEUP, SIGN_QUEUE, SIGN_WAKEUP, build_message, parse_wakeup
from ptt.store.entries import format_recipients, parse_recipients
from tests.fuzz.target import Target, split_choice

DESTINATION = Domain("example.test")
DEEP = 100_000


def check_entry(octets: bytes) -> None:
    """Only MalformedInput leaves a decoder; what one takes is written as something that it reads as the same."""
    choice, text = split_choice(octets)
    try:
        # A choice of its own for what is too deep for a parser that calls itself.
        _CHECKS[choice % len(_CHECKS)](text * DEEP if choice >> 7 and len(text) < 3 else text)
    except MalformedInput as error:
        assert str(error)


def _check_envelope(text: bytes) -> None:
    envelope = parse_envelope(text)
    try:
        written = format_envelope(envelope)
    except UnicodeEncodeError:
        return  # half of a surrogate pair, which ingress never writes
    assert parse_envelope(written) == envelope
    said, kept = json.loads(text), json.loads(written)
    for name in _NAMES:
        assert kept.get(name) == (said.get(name) or kept.get(name)), name


def _check_recipients(text: bytes) -> None:
    recipients = parse_recipients(text, DESTINATION)
    assert all(recipient.domain == DESTINATION for recipient in recipients)
    try:
        written = format_recipients(recipients)
    except UnicodeEncodeError:
        return
    assert parse_recipients(written, DESTINATION) == recipients


def _check_reported(text: bytes) -> None:
    outcomes = parse_reported(text)
    try:
        written = format_reported(outcomes)
    except UnicodeEncodeError:
        return
    assert parse_reported(written) == outcomes


def _check_queue_id(text: bytes) -> None:
    queue_id = parse_queue_id(text.decode("utf-8", "replace"))
    assert queue_id.isascii()
    assert queue_id.isalnum()
    time_ms = parse_time_ms(queue_id)
    assert format_queue_id(time_ms, 0)[:9] == queue_id[:9]


def _check_relay_wakeup(text: bytes) -> None:
    (destination,) = parse_wakeup(text, RELAY_QUEUE)
    assert destination.isascii()
    assert destination.isprintable()
    assert " " not in destination
    assert build_message(RELAY_QUEUE, (destination,), "t")["body"] == json.dumps([[destination], {}, {}])


def _check_sign_wakeup(text: bytes) -> None:
    assert parse_wakeup(text, SIGN_QUEUE) == ()


_NAMES = ("user", "reverse_path", "recipients", "body", "ret", "envid")
_CHECKS: tuple[Callable[[bytes], None], ...] = (
    _check_envelope,
    _check_recipients,
    _check_reported,
    _check_queue_id,
    _check_relay_wakeup,
    _check_sign_wakeup,
)
_ENVELOPE = (
    b'{"user":"alice","reverse_path":["a","b.test"],"recipients":[["c","d.test"]],"body":"7BIT","smtputf8":false'
)
_ENVELOPES = (
    _ENVELOPE + b"}",
    _ENVELOPE + b',"ret":"FULL","envid":"x","requests":[[["c","d.test"],["NEVER"],"rfc822;c"]]}',
    _ENVELOPE + b',"options":{"tls":"required","release_at":1,"deadline":[5,"R",true],"priority":-9}}',
    b'{"user":"","reverse_path":null,"recipients":[],"body":"","smtputf8":true,"requests":[[["",""],null,""]]}',
)
_REPORTED = b'[["c","d.test","failed","5.1.1","mx.test","550 5.1.1 no","no such user"]]'

TARGETS = (
    Target(
        name="entry",
        check=check_entry,
        seeds=(
            *(b"\0" + text for text in _ENVELOPES),
            b'\1["a","b"]',
            b"\2" + _REPORTED,
            b"\x0301ARZ3NDEKTSV4RRFFQ6",
            b"\4" + RELAY_WAKEUP,
            b"\5" + SIGN_WAKEUP,
            *(bytes([0x80 + number]) + b"[" for number in range(4, 10)),
        ),
        words=(
            b"[", b"]", b"{", b"}", b",", b":", b'"', b"null", b"true", b"1", b"1e999", b"-0", b"NaN",
            b"\\ud800", b"\\u0000",
            b'"options":', b'"requests":', b'"deadline":', b'"tls":', b"[]", b"{}", b"\xff\xfe", b"\xef\xbb\xbf",
        ),
        max_bytes=700,
    ),
)  # fmt: skip
