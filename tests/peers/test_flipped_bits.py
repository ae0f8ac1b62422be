"""Every single bit of a signed message, flipped: dkimpy and Mail::DKIM judge each, against a table of ours."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import dkim
import pytest

from ptt.core.signature import Algorithm
from ptt.signing.signer import Signer
from tests.servers.verifiers import MailDkim
from tests.signing_keys import SIGNED_AT, make_ring

NAME, SIGNED = "name", "signed"
OPEN_NAME, OPEN_COLON, OPEN = "name of an unsigned field", "its colon", "its value"
PARTS = (
    (b"X-Oh", OPEN_NAME),
    (b":", OPEN_COLON),
    (b" any", OPEN),
    (b"\r\n", SIGNED),
    (b"From", NAME),
    (b": Al <al@example.test>\r\n", SIGNED),
    (b"Subject", NAME),
    (b": A  b\r\n\tc \r\n\r\nHi \t you \r\n\r\n.B\r\n", SIGNED),
    (b"\r\n", SIGNED),
)
"""A message, and what each part is for the signature; no octet of its names is one bit from a colon or a line end."""
CONTENT = b"".join(octets for octets, _ in PARTS)
_QUIET = logging.getLogger("dkimpy.quiet")
_QUIET.disabled = True

Flip = tuple[int, int]
"""Position and bit."""


@dataclass(frozen=True)
class Signed:
    """A signed message, and what each of its flips does: an octet, the bit, and what the octet is for."""

    message: bytes
    records: Mapping[str, str]
    flips: Mapping[Flip, tuple[int, int, str]]

    @classmethod
    def make(cls, folder: Path, algorithm: Algorithm) -> Self:
        """Sign it with a new key."""
        ring, records = make_ring(folder, algorithm)
        signature = Signer(ring).sign(CONTENT, signed_at=SIGNED_AT)
        octets = list_octets(signature)
        flips = {(position, bit): (octet, bit, kind) for position, octet, kind in octets for bit in range(8)}
        return cls(signature + CONTENT, records, flips)

    @property
    def absorbed(self) -> set[Flip]:
        """Give the flips that leave the line ends alone and after which the signature stands."""
        flips = self.flips.items()
        return {
            one for one, (octet, bit, kind) in flips if not is_line_end(octet, bit) and is_absorbed(octet, bit, kind)
        }


def flip(message: bytes, position: int, bit: int) -> bytes:
    """Flip one bit."""
    return message[:position] + bytes([message[position] ^ 1 << bit]) + message[position + 1 :]


def list_octets(signature: bytes) -> Iterator[tuple[int, int, str]]:
    """Give octet by octet where it is, what it is, and what it is for: of the signature all but the value of b=."""
    name, colon, rest = signature.partition(b":")
    tags = rest[: rest.rindex(b"b=") + 2]
    yield from ((position, octet, NAME) for position, octet in enumerate(name))
    yield from ((position, octet, SIGNED) for position, octet in enumerate(colon + tags, len(name)))
    position = len(signature)
    for octets, kind in PARTS:
        yield from ((position + offset, octet, kind) for offset, octet in enumerate(octets))
        position += len(octets)


def is_line_end(octet: int, bit: int) -> bool:
    """Tell whether a flip makes or unmakes a CR or an LF."""
    return octet in b"\r\n" or octet ^ 1 << bit in b"\r\n"


def is_absorbed(octet: int, bit: int, kind: str) -> bool:
    """Tell whether the signature stands after a flip that leaves the line ends alone."""
    flipped = octet ^ 1 << bit
    if kind == NAME:
        return chr(octet).isalpha() and flipped == ord(chr(octet).swapcase())
    return kind == OPEN or (kind == OPEN_NAME and flipped in range(33, 127))


def does_dkimpy_pass(message: bytes, records: Mapping[str, str]) -> bool:
    """Ask dkimpy; an exception of any kind is no pass."""

    def look_up(name: bytes, timeout: float = 0) -> bytes:  # noqa: ARG001 - dkimpy passes it by name
        return records.get(name.decode("latin-1").rstrip("."), "").encode()

    try:
        return bool(dkim.verify(message, logger=_QUIET, dnsfunc=look_up))
    except (dkim.DKIMException, ValueError):
        return False


@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_flipped_bit_breaks_the_signature_unless_the_form_absorbs_it(
    tmp_path: Path, algorithm: Algorithm
) -> None:
    """No bit of what is signed is to spare; the case of names and unsigned fields are (RFC 6376 sections 3.4, 3.7).

    Only a flipped CR may pass beside these: it leaves a bare LF, which dkimpy takes for a line end; no server takes it.
    """
    signed = Signed.make(tmp_path, algorithm)
    passed = {one for one in signed.flips if does_dkimpy_pass(flip(signed.message, *one), signed.records)}
    assert passed >= signed.absorbed
    assert {signed.flips[one][0] for one in passed - signed.absorbed} <= {ord("\r")}


def test_flipped_bit_is_judged_the_same_by_mail_dkim(tmp_path: Path) -> None:
    """A program that shares no code with dkimpy says the same wherever the flip leaves lines and fields of any kind.

    It passes over a line of the header that is no field; dkimpy refuses the message.
    """
    signed = Signed.make(tmp_path, Algorithm.RSA_SHA256)
    shown = [
        one
        for one, (octet, bit, kind) in signed.flips.items()
        if not is_line_end(octet, bit) and kind not in {OPEN_NAME, OPEN_COLON}
    ]
    with MailDkim.running(signed.records, tmp_path) as mail_dkim:
        passed = {one for one in shown if mail_dkim.verify(flip(signed.message, *one)) == ["rsa-sha256=pass"]}
    assert passed == signed.absorbed & {*shown}
