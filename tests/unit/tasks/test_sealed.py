"""What no ingress sealed is not signed, whichever octet of whichever field is another one."""

import hashlib
import random
from dataclasses import replace

import pytest

from ptt.core.envelope import QueueId
from ptt.core.errors import MalformedInput
from ptt.core.seal import compute_seal
from ptt.store.entries import SignEntry
from ptt.store.keys import DATA_VERSION
from ptt.tasks.sign import check_sealed

KEY = bytes(range(32))
CONTENT = b"From: alice@example.test\r\nSubject: x\r\n\r\n" + b"Hello, this is the body.\r\n" * 20
ENVELOPE = b'{"user":"alice","reverse_path":["alice","example.test"],"recipients":[["bob","b.test"]],"body":"7BIT"}'
QUEUE_ID = QueueId("1ABCDEFGHJKMNPQRSTVW")
DIGEST = hashlib.sha256(CONTENT).digest()
ENTRY = SignEntry(
    queue_id=QUEUE_ID,
    version=DATA_VERSION,
    envelope_json=ENVELOPE,
    content_sha256=DIGEST,
    seal=compute_seal(KEY, QUEUE_ID, ENVELOPE, DIGEST),
    chunks=0,
    content=CONTENT,
    size_bytes=len(CONTENT),
)
FLIPS = 200
"""For each of the five fields: 1,000 in all."""


def flip(data: bytes, random_: random.Random) -> bytes:
    """Flip one bit."""
    changed = bytearray(data)
    changed[random_.randrange(len(changed))] ^= 1 << random_.randrange(8)
    return bytes(changed)


def test_entry_as_it_was_sealed_is_taken() -> None:
    """Without a change there is nothing to refuse."""
    check_sealed(ENTRY, CONTENT, KEY)


@pytest.mark.parametrize("field", ["queue_id", "envelope_json", "content_sha256", "seal", "content"])
def test_entry_with_any_flipped_bit_is_refused(field: str) -> None:
    """Who can write to Redis, and has no seal key, can change nothing: each of 200 flips of each field is found."""
    random_ = random.Random(field)
    for _ in range(FLIPS):
        content, entry = CONTENT, ENTRY
        if field == "content":
            content = flip(CONTENT, random_)
        elif field == "queue_id":
            entry = replace(ENTRY, queue_id=QueueId(flip(QUEUE_ID.encode(), random_).decode("latin-1")))
        else:
            entry = replace(ENTRY, **{field: flip(getattr(ENTRY, field), random_)})  # type: ignore[arg-type]
        with pytest.raises(MalformedInput):
            check_sealed(entry, content, KEY)


def test_changed_content_with_its_own_digest_is_refused() -> None:
    """The digest is sealed too: it cannot be made to fit other content."""
    content = CONTENT.replace(b"Hello", b"Jello")
    entry = replace(ENTRY, content_sha256=hashlib.sha256(content).digest())
    with pytest.raises(MalformedInput, match="seal"):
        check_sealed(entry, content, KEY)


def test_seal_of_another_message_is_refused() -> None:
    """An old seal that is replayed fits its own message only."""
    other = QueueId("1ZZZZZZZZZZZZZZZZZZZ")
    with pytest.raises(MalformedInput, match="seal"):
        check_sealed(replace(ENTRY, queue_id=other), CONTENT, KEY)
