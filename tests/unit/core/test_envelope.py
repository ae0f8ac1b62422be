"""Envelopes and queue-ids as they are written down."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.address import Address, Domain
from ptt.core.envelope import (
    QUEUE_ID_LENGTH,
    Envelope,
    format_envelope,
    format_queue_id,
    parse_envelope,
    parse_queue_id,
    parse_time_ms,
)
from ptt.core.errors import MalformedInput
from ptt.core.notify import Notify, RecipientRequest
from ptt.core.options import NO_OPTIONS, ByMode, Deadline, Options, TlsDemand
from ptt.core.seal import compute_seal, is_sealed

addresses = st.builds(Address, st.text(min_size=1, max_size=20), st.just(Domain("example.test")))
requests = st.builds(
    RecipientRequest,
    notify=st.none() | st.frozensets(st.sampled_from(Notify), min_size=1),
    original_recipient=st.text(max_size=10),
)
deadlines = st.builds(Deadline, at=st.integers(), mode=st.sampled_from(ByMode), is_traced=st.booleans())
options = st.builds(
    Options,
    tls=st.sampled_from(TlsDemand),
    release_at=st.integers(min_value=0),
    deadline=st.none() | deadlines,
    priority=st.integers(-9, 9),
)
envelopes = st.builds(
    Envelope,
    user=st.text(max_size=20),
    reverse_path=st.none() | addresses,
    recipients=st.lists(addresses, min_size=1, max_size=5).map(tuple),
    body=st.sampled_from(["7BIT", "8BITMIME"]),
    smtputf8=st.booleans(),
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=st.text(max_size=10),
    requests=st.dictionaries(addresses, requests, max_size=3),
    options=options,
)


@given(envelopes)
def test_envelope_written_and_read_is_the_same(envelope: Envelope) -> None:
    """What was sealed is what is read back."""
    assert parse_envelope(format_envelope(envelope)) == envelope


def test_envelope_of_older_data_is_read_with_nothing_asked() -> None:
    """An envelope that was spooled before reports could be asked for has their defaults."""
    data = b'{"user":"a","reverse_path":null,"recipients":[["r","x.test"]],"body":"7BIT","smtputf8":false}'
    envelope = parse_envelope(data)
    assert (envelope.ret, envelope.envid, envelope.requests, envelope.options) == ("", "", {}, NO_OPTIONS)
    assert format_envelope(envelope) == data


@given(envelopes, options)
def test_seal_covers_every_option(envelope: Envelope, other: Options) -> None:
    """Whoever holds Redis but not the key can change nothing that was asked of the way."""
    key, queue_id, digest = bytes(32), format_queue_id(1, 1), bytes(32)
    seal = compute_seal(key, queue_id, format_envelope(envelope), digest)
    changed = format_envelope(replace(envelope, options=other))
    assert is_sealed(key, queue_id, changed, digest, seal) == (other == envelope.options)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"user":"a","reverse_path":null,"recipients":[null],"body":"7BIT","smtputf8":false}',
        b'{"user":"a","reverse_path":null,"recipients":[],"body":"7BIT","smtputf8":false,"options":[]}',
        b'{"user":"a","reverse_path":null,"recipients":[],"body":"7BIT","smtputf8":false,"options":{"tls":"x"}}',
        b'{"user":"a","reverse_path":null,"recipients":[],"body":"7BIT","smtputf8":false,"options":{"priority":10}}',
        b'{"user":"a","reverse_path":null,"recipients":[],"body":"7BIT","smtputf8":false,"options":{"priority":true}}',
        b'{"user":"a","reverse_path":null,"recipients":[],"body":"7BIT","smtputf8":false,"options":{"deadline":1}}',
        b'{"user":"a","reverse_path":["x"],"recipients":[],"body":"7BIT","smtputf8":false}',
        b'{"user":1,"reverse_path":null,"recipients":[],"body":"7BIT","smtputf8":false}',
        b"\xff",
    ],
)
def test_envelope_that_is_none_is_refused(data: bytes) -> None:
    """Anything else in the spool is no envelope."""
    with pytest.raises(MalformedInput):
        parse_envelope(data)


@given(st.integers(0, 2**44), st.integers(0, 2**44), st.integers(0, 2**55 - 1), st.integers(0, 2**55 - 1))
def test_queue_ids_sort_by_time(earlier_ms: int, later_ms: int, one: int, other: int) -> None:
    """A queue-id sorts as its time does, whatever its random part."""
    earlier_ms, later_ms = sorted((earlier_ms, later_ms))
    first, second = format_queue_id(earlier_ms, one), format_queue_id(later_ms, other)
    assert len(first) == QUEUE_ID_LENGTH
    assert first < second or earlier_ms == later_ms
    assert parse_queue_id(f" {first.lower()} ") == first
    assert parse_time_ms(first) == earlier_ms


@pytest.mark.parametrize("text", ["", "ABC", "I" * QUEUE_ID_LENGTH, "../../../etc/passwd00", "0" * 21])
def test_queue_id_that_is_none_is_refused(text: str) -> None:
    """A queue-id becomes part of a key's name: nothing else may."""
    with pytest.raises(MalformedInput):
        parse_queue_id(text)
