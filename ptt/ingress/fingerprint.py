"""What tells a submission that a client makes again from a new one."""

import hashlib
import re
from collections.abc import Sequence

from ptt.core.address import Address
from ptt.core.notify import RecipientRequest
from ptt.ingress.steps import Transaction

_MESSAGE_ID = re.compile(rb"(?:\A|\r\n)message-id:[ \t]*[^ \t\r]", re.IGNORECASE)


def compute_fingerprint(content: bytes, transaction: Transaction) -> bytes:
    """Compute 32 octets that are the same for the same user, envelope and content, and for nothing else.

    Args:
        content: as the client sent it, before anything was added.
        transaction: user and envelope; in which order the recipients came does not count.

    Returns:
        Nothing for content without a Message-ID: who wants two equal messages may send them, and we give each a
        Message-ID of its own.
    """
    header = content[: content.find(b"\r\n\r\n") + 2]
    if not _MESSAGE_ID.search(header):
        return b""
    # Lengths in front: no field can borrow octets from its neighbour. What was asked is a part of it as it was said:
    # the instant that a hold comes to is another one each time.
    asked = sorted(_describe(recipient, request) for recipient, request in transaction.recipients.items())
    said = repr((transaction.user.login, transaction.mail, asked)).encode()
    return hashlib.sha256(len(said).to_bytes(4, "big") + said + content).digest()


def _describe(recipient: Address, request: RecipientRequest) -> tuple[str, Sequence[str] | None, str]:
    # A set has another order in each process.
    notify = request.notify if request.notify is None else sorted(request.notify)
    return str(recipient), notify, request.original_recipient
