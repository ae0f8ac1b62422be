"""OpenDKIM's list of cases, run against our signer and judged by verifiers of others; tests/data/dkim/cases.toml."""

import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ptt.core.errors import MalformedInput, NoUsableKey
from ptt.core.signature import Algorithm, SigningPolicy
from ptt.signing.keys import KeyRing
from ptt.signing.signer import Signer
from tests.servers.verifiers import MailDkim, verify_by_dkimpy, verify_by_opendkim
from tests.signing_keys import DOMAIN, SIGNED_AT, make_ring

FILE = Path(__file__).parents[1] / "data/dkim/cases.toml"
NUMBERS = {*range(4), 44, 47, 54, 55, 57, 71, 79, 90, 91, 92, 122, 127, 139, 144, 145, 146, *range(150, 155)}
"""Of OpenDKIM's 154 tests those that are about signing, about what is signed, or about its keys."""
RSA_PASS = "rsa-sha256=pass"
BOTH_PASS = [RSA_PASS, "ed25519-sha256=pass"]
NAMES: Mapping[str, bytes] = {
    "T": b"\r\n".join(
        [
            b"Received: received data 1",
            b"Received: received data 2",
            b"Received: received data 3 part 1\r\n\t data 3 part 2",
            b"From: Alice A. Example <alice@example.test>",
            b"To: Test Address <rita@destination.test>",
            b"Date: Thu, 05 May 2005 11:59:09 -0700",
            b"Subject: DKIM test message",
            b"Message-ID: <439094BF.5010709@example.test>",
        ]
    ),
    "B": (
        b"This is a message body.  Fun!\r\nA line with a trailing space: \r\nNow a blank.\r\n\r\n"
        b"Now two blanks.\r\n\r\n\r\nAnd blanks at the end.\r\n\r\n\r\n"
    ),
    "LONG": b"This is gibberish, and all of it in one line. " * 90,
}
_NAME = re.compile(rb"\{(?:(\d+) )?([^{}]+)\}", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the file."""

    number: int
    about: str
    fields: list[str] = field(default_factory=lambda: ["{T}"])
    body: str = "{B}"
    form: str = "relaxed/relaxed"
    key: str | None = None
    expect: str | None = None
    blind: list[str] = field(default_factory=list)
    added: str | None = None
    signed: list[str] = field(default_factory=list)
    unsigned: list[str] = field(default_factory=list)
    instead: str | None = None
    not_here: str | None = None

    @property
    def content(self) -> bytes:
        """Give the message."""
        header = b"".join(read_octets(one) + b"\r\n" for one in self.fields)
        return header + b"\r\n" + read_octets(self.body)


@dataclass
class Bench:
    """A ring with an RSA and an Ed25519 key, and the verifiers that know both."""

    ring: KeyRing
    records: dict[str, str]
    mail_dkim: MailDkim
    folder: Path

    def verify(self, message: bytes, case: Case) -> dict[str, list[str]]:
        """Give what the verifiers say that can read the case; of Mail::DKIM, what it says of RSA."""
        judges: dict[str, Callable[[], list[str]]] = {
            "dkimpy": lambda: verify_by_dkimpy(message, self.records),
            "mail_dkim": lambda: [line for line in self.mail_dkim.verify(message) if line.startswith("rsa")],
            "opendkim": lambda: verify_by_opendkim(message, self.records, self.folder),
        }
        return {name: ask() for name, ask in judges.items() if name not in case.blind}


def sign(ring: KeyRing, case: Case) -> bytes:
    """Give the signature fields of a case."""
    header, _, body = case.form.partition("/")
    policy = SigningPolicy(signing_domain=DOMAIN, is_header_simple=header == "simple", is_body_simple=body == "simple")
    return Signer(ring, policies={DOMAIN: policy}).sign(case.content, signed_at=SIGNED_AT)


def read_octets(text: str) -> bytes:
    """Resolve the escapes, and then the names and repetitions."""
    octets = text.encode("latin-1").decode("unicode_escape").encode("latin-1")
    while _NAME.search(octets):
        octets = _NAME.sub(_resolve, octets)
    return octets


def _resolve(match: re.Match[bytes]) -> bytes:
    count, text = match.groups()
    return text * int(count) if count else NAMES[text.decode()]


def load_cases() -> list[Case]:
    """Read the file; an unknown key raises."""
    return [Case(**row) for row in tomllib.loads(FILE.read_text())["case"]]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """Make the keys once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ring, records = make_ring(folder / "keys", Algorithm.ED25519_SHA256, Algorithm.RSA_SHA256)
        with MailDkim.running(records, folder) as mail_dkim:
            yield Bench(ring, records, mail_dkim, folder)


def _select(*, passing: bool, with_key: bool = False) -> list[Case]:
    return [
        case for case in load_cases() if case.expect and (case.expect == "pass", bool(case.key)) == (passing, with_key)
    ]


@pytest.mark.parametrize("case", _select(passing=True), ids=lambda case: str(case.number))
def test_case_that_is_signed_passes_in_the_verifiers_of_others(bench: Bench, case: Case) -> None:
    """Both signatures have one hash of the body; each verifier passes those that it knows; h= is what it should be."""
    signature = sign(bench.ring, case)
    added = read_octets(case.added) + b"\r\n" if case.added else b""
    said = bench.verify(added + signature + case.content, case)
    assert len(said) >= 2
    assert said == {name: [RSA_PASS] if name == "mail_dkim" else BOTH_PASS for name in said}
    assert len(set(re.findall(rb"\bbh=([^;]+);", signature))) == 1
    for names in re.findall(rb"\bh=([^;]+);", signature):
        listed = re.sub(rb"\s", b"", names).decode().split(":")
        wrong = [name for name in {*case.signed} if listed.count(name) != case.signed.count(name)]
        assert (wrong, {*case.unsigned} & {*listed}) == ([], set())


@pytest.mark.parametrize("case", _select(passing=False), ids=lambda case: str(case.number))
def test_case_that_must_not_be_signed_is_refused(bench: Bench, case: Case) -> None:
    """Nothing is repaired, nor signed where a reader may be shown another field than the verifier checks."""
    with pytest.raises(MalformedInput, match=case.expect):
        sign(bench.ring, case)


@pytest.mark.parametrize("case", _select(passing=False, with_key=True), ids=lambda case: str(case.number))
def test_case_with_a_bad_key_is_refused_each_time(tmp_path: Path, case: Case) -> None:
    """A key that cannot be read, or that receivers may refuse, signs nothing, the first time and the next."""
    make_ring(tmp_path, Algorithm.ED25519_SHA256)
    [path] = (tmp_path / DOMAIN).glob("*.pem")
    path.write_bytes(_make_bad_key(case.key or "", path.read_bytes()))
    broken = KeyRing(tmp_path)
    for _ in range(2):
        with pytest.raises(NoUsableKey, match=case.expect):
            sign(broken, case)


def test_cases_are_those_of_the_list_and_each_has_an_answer() -> None:
    """Every number once, with what is expected of us or why it does not apply, never both."""
    cases = load_cases()
    assert sorted(case.number for case in cases) == sorted(NUMBERS)
    assert [case.number for case in cases if bool(case.expect) == bool(case.not_here)] == []


def _make_bad_key(kind: str, pem: bytes) -> bytes:
    if kind == "damaged":
        return pem.replace(b"\n", b"\n*", 1)
    return rsa.generate_private_key(65537, 1024).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
