"""The seal covers every field, and no field can borrow bytes from its neighbour."""

import base64

import pytest

from ptt.core.envelope import QueueId, format_queue_id, parse_queue_id
from ptt.core.errors import MalformedInput
from ptt.core.seal import compute_seal, derive_report_id, is_sealed, parse_seal_key

KEY = bytes(range(32))
FIELDS = (QueueId("0123456789ABCDEFGHJK"), b'{"user":"alice"}', b"d" * 32)


def test_seal_of_untouched_fields_is_right() -> None:
    """What was sealed verifies."""
    assert is_sealed(KEY, *FIELDS, compute_seal(KEY, *FIELDS))


def test_seal_of_any_flipped_bit_is_wrong() -> None:
    """Each bit of each field, of the key and of the seal itself counts."""
    seal = compute_seal(KEY, *FIELDS)
    flipped = 0
    values = [KEY, FIELDS[0].encode(), FIELDS[1], FIELDS[2], seal]
    for index, value in enumerate(values):
        for bit in range(len(value) * 8):
            changed = bytearray(value)
            changed[bit // 8] ^= 1 << bit % 8
            parts = [*values]
            parts[index] = bytes(changed)
            key, queue_id, envelope_json, sha256, given = parts
            assert not is_sealed(key, QueueId(queue_id.decode("latin-1")), envelope_json, sha256, given)
            flipped += 1
    assert flipped == sum(len(value) for value in values) * 8


def test_seal_with_bytes_moved_between_fields_is_wrong() -> None:
    """Lengths are sealed too: a shifted border is another message."""
    one = compute_seal(KEY, QueueId("AB"), b"CD", b"EF")
    assert one != compute_seal(KEY, QueueId("A"), b"BCD", b"EF")
    assert one != compute_seal(KEY, QueueId("AB"), b"CDE", b"F")


def test_seal_key_of_32_octets_is_read() -> None:
    """White space around the base64 is the editor's, not the key's."""
    assert parse_seal_key(f"\n{base64.b64encode(KEY).decode()}\n") == KEY


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"short").decode(), "A" * 64])
def test_seal_key_of_another_size_is_refused(text: str) -> None:
    """A weak or cut key is refused at start."""
    with pytest.raises(MalformedInput):
        parse_seal_key(text)


def test_report_id_is_always_the_same_and_unlike_any_other() -> None:
    """A repeated report finds itself by its queue-id; who has no key cannot tell it beforehand."""
    queue_id = format_queue_id(1_700_000_000_000, 1)
    report_id = derive_report_id(b"k" * 32, queue_id, 1, 1_700_000_009_000)
    assert report_id == derive_report_id(b"k" * 32, queue_id, 1, 1_700_000_009_000)
    assert parse_queue_id(report_id) == report_id
    assert queue_id < report_id
    others = {
        derive_report_id(b"k" * 32, queue_id, 2, 1_700_000_009_000),
        derive_report_id(b"k" * 32, format_queue_id(1_700_000_000_000, 2), 1, 1_700_000_009_000),
        derive_report_id(b"x" * 32, queue_id, 1, 1_700_000_009_000),
    }
    assert len({report_id, *others}) == 4
