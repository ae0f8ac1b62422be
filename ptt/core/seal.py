"""The seal: what lets the sign role know that an ingress accepted exactly this message from a logged-in user.

HMAC-SHA256 (RFC 2104) over queue-id, envelope and the SHA-256 of the content, each with its length in front, so
that no field can borrow bytes from its neighbour. Who holds Redis but not the key cannot make or change a message.
"""

import base64
import hashlib
import hmac

from ptt.core.envelope import QueueId, format_queue_id
from ptt.core.errors import MalformedInput

SEAL_KEY_BYTES = 32
_CONTEXT = b"ptt seal 1"
_REPORT_CONTEXT = b"ptt report 1"


def parse_seal_key(text: str) -> bytes:
    """Read a seal key from base64.

    Raises:
        MalformedInput: if it is not exactly 32 octets in base64.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError as error:
        raise MalformedInput("not base64") from error
    if len(key) != SEAL_KEY_BYTES:
        raise MalformedInput(f"must be {SEAL_KEY_BYTES} octets in base64, is {len(key)}")
    return key


def compute_seal(key: bytes, queue_id: QueueId, envelope_json: bytes, content_sha256: bytes) -> bytes:
    """Compute the 32-byte seal of a message."""
    parts = (_CONTEXT, queue_id.encode(), envelope_json, content_sha256)
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(key, framed, hashlib.sha256)


def is_sealed(key: bytes, queue_id: QueueId, envelope_json: bytes, content_sha256: bytes, seal: bytes) -> bool:
    """Tell in constant time whether the seal is right."""
    return hmac.compare_digest(compute_seal(key, queue_id, envelope_json, content_sha256), seal)


def derive_report_id(key: bytes, queue_id: QueueId, number: int, time_ms: int) -> QueueId:
    """Derive the queue-id of a report, always the same for the same report.

    Args:
        key: the seal key, so that nobody else knows the queue-id, and with it the boundary, beforehand.
        queue_id: of the message that is reported on.
        number: of the first recorded outcome that the report tells of.
        time_ms: when that outcome was recorded, milliseconds since 1970.
    """
    digest = hmac.digest(key, b"\0".join((_REPORT_CONTEXT, queue_id.encode(), b"%d" % number)), hashlib.sha256)
    return format_queue_id(time_ms, int.from_bytes(digest[:8], "big"))
