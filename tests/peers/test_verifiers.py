"""What we sign, three independent verifiers accept; what is changed on the way, all of them reject."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dkim
import pytest
from dkim.canonicalization import Relaxed
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ptt.core.signature import OVERSIGNED, SIGNED_IF_PRESENT, Algorithm
from ptt.signing.signer import Signer
from tests.dkim_messages import messages
from tests.servers.verifiers import MailDkim, verify_by_dkimpy, verify_by_opendkim
from tests.signing_keys import SIGNED_AT, make_ring

RSA_PASS = "rsa-sha256=pass"
BOTH_PASS = [RSA_PASS, "ed25519-sha256=pass"]
ALL_PASS = {"dkimpy": BOTH_PASS, "opendkim": BOTH_PASS, "mail_dkim": [RSA_PASS]}
PLAIN = (
    b"Received: by a.example\r\nFrom: Alice <alice@example.test>\r\nTo: bob@b.example\r\nSubject: A  b\r\n c\r\n"
    b"X-Other: x\r\n\r\nHello \t you \r\n\r\nBye.\r\n\r\n"
)
CHANGED = {
    "author": (b"Alice <", b"Alice  X <"),
    "case of the author": (b"Alice <", b"alice <"),
    "subject": (b"A  b", b"Ab"),
    "fold without a blank": (b"b\r\n c", b"bc"),
    "recipient gone": (b"To: bob@b.example\r\n", b""),
    "body": (b"Hello", b"Hallo"),
    "blank in a word": (b"Hello", b"He llo"),
    "blank at the start of a line": (b"Hello", b" Hello"),
    "empty line inside": (b"\r\n\r\nBye", b"\r\nBye"),
    "line at the end": (b"Bye.\r\n", b"Bye.\r\nPS\r\n"),
    "body gone": (b"Hello \t you \r\n\r\nBye.\r\n\r\n", b""),
}
ABSORBED = {
    "case of a name": (b"Subject:", b"sUBJECT:"),
    "blanks after a colon": (b"Subject: A", b"Subject:\t  A"),
    "fold": (b"A  b\r\n c", b"A\r\n b c  "),
    "unsigned field": (b"X-Other: x\r\n", b"X-Other: y\r\nX-More: z\r\n"),
    "trace": (b"Received: by a", b"Received: by b.example\r\nReceived: by a"),
    "run of blanks": (b"Hello \t you \r\n", b"Hello     you\r\n"),
    "empty lines at the end": (b"Bye.\r\n\r\n", b"Bye.\r\n \t\r\n\r\n\r\n"),
}


@dataclass
class Rig:
    """A signer with an RSA and an Ed25519 key, and the verifiers that know both."""

    signer: Signer
    records: dict[str, str]
    mail_dkim: MailDkim
    folder: Path

    def sign(self, content: bytes) -> bytes:
        """Give the message as it is sent."""
        return self.signer.sign(content, signed_at=SIGNED_AT) + content

    def verify(self, message: bytes) -> dict[str, list[str]]:
        """Give what each verifier says; of Mail::DKIM, what it says of RSA."""
        return {
            "dkimpy": verify_by_dkimpy(message, self.records),
            "opendkim": verify_by_opendkim(message, self.records, self.folder),
            "mail_dkim": [line for line in self.mail_dkim.verify(message) if line.startswith("rsa")],
        }


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """Make the keys once: an RSA key takes a tenth of a second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ring, records = make_ring(folder / "keys", Algorithm.ED25519_SHA256, Algorithm.RSA_SHA256)
        with MailDkim.running(records, folder) as mail_dkim:
            yield Rig(Signer(ring), records, mail_dkim, folder)


@given(messages())
@example(PLAIN)
@example(b"From: alice@example.test\r\n\r\n")
@example(b"From: alice@example.test\r\n")
@example(b"From: alice@example.test\r\n\r\n\r\n\r\n")
@example(b"From: alice@example.test\r\n\r\n \t \r\n\r\n \r\n")
@settings(max_examples=80)
def test_signature_of_any_message_passes_in_all_verifiers(rig: Rig, content: bytes) -> None:
    """Every message that is signed verifies everywhere, with the key of either algorithm."""
    assert rig.verify(rig.sign(content)) == ALL_PASS


@pytest.mark.parametrize(("old", "new"), CHANGED.values(), ids=CHANGED.keys())
def test_signature_of_changed_message_fails_in_all_verifiers(rig: Rig, old: bytes, new: bytes) -> None:
    """What a reader would see changed is no longer signed (RFC 6376 section 3.7)."""
    message = rig.sign(PLAIN)
    assert message.count(old) == 1
    verdicts = rig.verify(message.replace(old, new))
    assert all(verdicts.values())
    assert not any(line.endswith("=pass") for lines in verdicts.values() for line in lines)


@pytest.mark.parametrize(("old", "new"), ABSORBED.values(), ids=ABSORBED.keys())
def test_signature_of_reformatted_message_passes_in_all_verifiers(rig: Rig, old: bytes, new: bytes) -> None:
    """What relaxed canonicalisation absorbs and what is not signed may change on the way (RFC 6376 section 3.4)."""
    message = rig.sign(PLAIN)
    assert message.count(old) == 1
    assert rig.verify(message.replace(old, new)) == ALL_PASS


@pytest.mark.parametrize("name", OVERSIGNED)
@pytest.mark.parametrize("place", ["top", "bottom"])
def test_signature_after_an_added_field_fails_in_all_verifiers(rig: Rig, name: bytes, place: str) -> None:
    """None of the oversigned fields can be added, whether the message has one or not (RFC 6376 section 8.15)."""
    message = rig.sign(PLAIN)
    added = name + b": Mallory <mallory@example.test>\r\n"
    header, body = message.split(b"\r\n\r\n", 1)
    changed = added + message if place == "top" else header + b"\r\n" + added + b"\r\n" + body
    assert not any(line.endswith("=pass") for lines in rig.verify(changed).values() for line in lines)


@given(st.integers(min_value=0, max_value=len(PLAIN) - 1), st.integers(min_value=0, max_value=7))
@settings(max_examples=60)
def test_signature_after_a_flipped_bit_is_judged_alike_by_all_verifiers(rig: Rig, position: int, bit: int) -> None:
    """A flip passes everywhere or nowhere, and passes just when it is in what is not signed or makes no difference."""
    changed = bytearray(PLAIN)
    changed[position] ^= 1 << bit
    assume(changed[position] not in b"\r\n\0\v\f:" and PLAIN[position] not in b"\r\n:")
    assume(
        all(re.match(rb"[!-9;-~]+:|[ \t]", line) for line in bytes(changed).partition(b"\r\n\r\n")[0].split(b"\r\n"))
    )
    verdicts = rig.verify(rig.signer.sign(PLAIN, signed_at=SIGNED_AT) + changed)
    passed = {line.endswith("=pass") for lines in verdicts.values() for line in lines}
    assert passed == {_canonicalize(bytes(changed)) == _canonicalize(PLAIN)}


def test_signature_of_name_with_blank_before_the_colon_passes(rig: Rig) -> None:
    """The old form of a field is canonicalised as the standard says (RFC 6376 section 3.4.2); dkimpy cannot read it."""
    message = rig.sign(b"Subject  : odd\r\n" + PLAIN.replace(b"Subject: A  b\r\n c\r\n", b""))
    assert verify_by_opendkim(message, rig.records, rig.folder) == BOTH_PASS
    assert rig.mail_dkim.verify(message)[0] == RSA_PASS


def test_signature_of_content_without_last_crlf_fits_what_smtp_sends(rig: Rig) -> None:
    """DATA ends each message with CRLF (RFC 5321 section 4.1.1.4): the signature is of that."""
    content = b"From: alice@example.test\r\n\r\nno end \t "
    assert rig.verify(rig.sign(content) + b"\r\n") == ALL_PASS


def _canonicalize(content: bytes) -> tuple[object, ...]:
    """Give what a signature depends on, by dkimpy's own canonicalisation."""
    headers, body = dkim.rfc822_parse(content)
    signed = [pair for pair in Relaxed.canonicalize_headers(headers) if pair[0] in {*OVERSIGNED, *SIGNED_IF_PRESENT}]
    return (*signed, Relaxed.canonicalize_body(body))
