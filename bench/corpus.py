"""The messages of a run: what the load generator writes and what the check afterwards expects to read.

Plain text of random words, 76 octets a line, as mail mostly is; now and then a line starts with a dot, so that
dot-stuffing is exercised. Every message carries its id in a header field and in its first body line: a body that went
out under another message's header would not have the expected hash.
"""

import functools
import hashlib
import random

ID_FIELD = b"X-Bench-Id: "
HEADER_OCTETS = 400  # about what the header below has
LINE_OCTETS = 76
DOT_LINE_EVERY = 50


def make_id(run: str, number: int) -> str:
    """Name one message of one run."""
    return f"{run}-{number:07d}"


@functools.lru_cache(maxsize=2)
def _filler(octets: int) -> bytes:
    words = random.Random(octets)
    alphabet = "etaoinshrdlucmfwypvbgkqjxz"
    lines = []
    for number in range(octets // LINE_OCTETS + 1):
        line = ""
        while len(line) < LINE_OCTETS:
            line += "".join(words.choices(alphabet, k=words.randint(2, 10))) + " "
        line = ("." if number % DOT_LINE_EVERY == DOT_LINE_EVERY - 1 else "") + line
        lines.append(line[: LINE_OCTETS - 3].rstrip() + "\r\n")
    return "".join(lines).encode()[: octets - 2].rstrip(b"\r\n") + b"\r\n"


def build_body(message_id: str, size: int) -> bytes:
    """Give the body of one message; with its header the message has about ``size`` octets."""
    return b"message %s\r\n" % message_id.encode() + _filler(max(size - HEADER_OCTETS - 40, 40))


def expect_hash(message_id: str, size: int) -> str:
    """Give the SHA-256 of the body as it must arrive."""
    return hashlib.sha256(build_body(message_id, size)).hexdigest()


def build_data(message_id: str, size: int, sender: str, recipient: str) -> bytes:
    """Give what follows the 354: header, body dot-stuffed (RFC 5321 section 4.5.2), final dot."""
    header = (
        f"Date: Mon, 05 Oct 2026 10:00:00 +0000\r\n"
        f"From: Bench Sender <{sender}>\r\n"
        f"To: Bench Recipient <{recipient}>\r\n"
        f"Subject: Message {message_id} of a benchmark run\r\n"
        f"Message-ID: <{message_id}@{sender.partition('@')[2]}>\r\n"
        f"MIME-Version: 1.0\r\n"
        f"Content-Type: text/plain; charset=us-ascii\r\n"
        f"Content-Transfer-Encoding: 7bit\r\n"
    )
    return header.encode() + ID_FIELD + message_id.encode() + b"\r\n\r\n" + _stuffed_body(message_id, size) + b".\r\n"


def _stuffed_body(message_id: str, size: int) -> bytes:
    first, stuffed = b"message %s\r\n" % message_id.encode(), _stuffed_filler(max(size - HEADER_OCTETS - 40, 40))
    return first + stuffed


@functools.lru_cache(maxsize=2)
def _stuffed_filler(octets: int) -> bytes:
    return _filler(octets).replace(b"\r\n.", b"\r\n..")
