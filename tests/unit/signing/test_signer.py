"""The signer: what it signs, what it refuses, and the standard's vectors."""

import base64
import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.address import Domain
from ptt.core.errors import MalformedInput, NoUsableKey
from ptt.core.signature import Algorithm, Selector
from ptt.signing.canonicalization import relax_body, relax_header
from ptt.signing.key_files import KeyState, KeyStatus, PrivateKey
from ptt.signing.keys import KeyRing, SigningKey
from ptt.signing.signer import DEFAULT_LIFETIME_S, Signer
from tests.dkim_messages import messages
from tests.servers.verifiers import verify_by_dkimpy
from tests.signing_keys import DOMAIN, SIGNED_AT, add_active_key, make_ring

VECTORS = Path(__file__).parents[2] / "data" / "dkim"
ED25519_SEED = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")  # RFC 8463 appendix A.1
HEADER = b"From: Alice <alice@example.test>\r\nTo: bob@b.example\r\nSubject: hello\r\n"
CONTENT = HEADER + b"\r\nHello\r\n"


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    """Make a ring with one Ed25519 key."""
    return make_ring(tmp_path_factory.mktemp("keys"), Algorithm.ED25519_SHA256)[0]


@pytest.fixture(scope="module")
def signer(ring: KeyRing) -> Signer:
    """Make a signer for that ring."""
    return Signer(ring)


def get_tags(signature: bytes) -> dict[str, str]:
    """Take one signature field apart."""
    text = re.sub(r"\s+", "", signature.decode().removeprefix("DKIM-Signature:"))
    return dict(tag.split("=", 1) for tag in text.split(";"))


def make_key(selector: str, private_key: PrivateKey) -> SigningKey:
    """Make a key of the domain of RFC 8463."""
    domain = Domain("football.example.com")
    return SigningKey(domain=domain, selector=Selector(selector), status=KeyStatus(), private_key=private_key)


@pytest.mark.parametrize("index", [0, 1], ids=["ed25519", "rsa"])
def test_key_and_canonicalisation_of_rfc_8463_reproduce_both_signatures(index: int) -> None:
    """RFC 8463 appendix A.3: both algorithms are deterministic, so b= and bh= come out octet by octet."""
    rsa_key = serialization.load_pem_private_key((VECTORS / "rfc8463-a2-rsa.pem").read_bytes(), None)
    keys = (ed25519.Ed25519PrivateKey.from_private_bytes(ED25519_SEED), rsa_key)
    key = make_key(("brisbane", "test")[index], keys[index])  # type: ignore[arg-type]  # the file holds an RSA key
    header, _, body = (VECTORS / "rfc8463-a3.eml").read_bytes().partition(b"\r\n\r\n")
    lines = relax_header(header + b"\r\n")
    published, fields = lines[index], {line.partition(b":")[0]: line for line in lines[2:]}
    tags = get_tags(published.replace(b"dkim-signature:", b"DKIM-Signature:"))
    names = [name for name in tags["h"].encode().split(b":") if name in fields]
    hashed = b"".join(fields[name] + b"\r\n" for name in dict.fromkeys(names))
    signature = key.sign(hashed + published[: published.rindex(b"; b=") + 4])
    assert base64.b64encode(signature).decode() == tags["b"]
    assert base64.b64encode(dkim.HASH_ALGORITHMS[b"rsa-sha256"](relax_body(body)).digest()).decode() == tags["bh"]


def test_record_of_rfc_8463_is_its_record() -> None:
    """RFC 8463 appendix A.2: the p= of both keys."""
    rsa_key = serialization.load_pem_private_key((VECTORS / "rfc8463-a2-rsa.pem").read_bytes(), None)
    assert make_key("test", rsa_key).record == (  # type: ignore[arg-type]  # the file holds an RSA key
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi"
        "Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G"
        "+2kryOTIKT+l/K4w3QIDAQAB"
    )
    ed25519_key = ed25519.Ed25519PrivateKey.from_private_bytes(ED25519_SEED)
    expected = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    assert make_key("brisbane", ed25519_key).record == expected


def test_signature_has_the_tags_that_are_promised(signer: Signer) -> None:
    """RFC 6376 section 3.5: d= is the author's domain; t= and x= are there, l= and i= are not."""
    signed_at = datetime(2026, 11, 23, 12, tzinfo=UTC)
    tags = get_tags(signer.sign(CONTENT, signed_at=signed_at))
    assert (tags["v"], tags["a"], tags["c"], tags["d"]) == ("1", "ed25519-sha256", "relaxed/relaxed", "example.test")
    assert tags["t"] == str(int(signed_at.timestamp()))
    assert int(tags["x"]) - int(tags["t"]) == DEFAULT_LIFETIME_S
    assert set(tags) == {"v", "a", "c", "d", "s", "t", "x", "h", "bh", "b"}
    assert tags["h"].split(":").count("from") == 2


def test_signature_with_a_lifetime_expires_then(ring: KeyRing) -> None:
    """x= is t= and the lifetime (RFC 6376 section 3.5)."""
    tags = get_tags(Signer(ring, lifetime_s=86400).sign(CONTENT, signed_at=SIGNED_AT))
    assert int(tags["x"]) - int(tags["t"]) == 86400


def test_signature_of_the_same_is_the_same(signer: Signer) -> None:
    """A message that is signed twice after a crash is sent with the same octets."""
    assert signer.sign(CONTENT, signed_at=SIGNED_AT) == signer.sign(CONTENT, signed_at=SIGNED_AT)


def test_signature_with_two_keys_has_the_newest_on_top(tmp_path: Path) -> None:
    """One field for each active key; a key that is only created or published signs nothing."""
    ring = KeyRing(tmp_path)
    old = add_active_key(ring, Algorithm.ED25519_SHA256, selector="old", at=SIGNED_AT - timedelta(days=1))
    new = add_active_key(ring, Algorithm.ED25519_SHA256, selector="new")
    ring.create_key(DOMAIN, Selector("created"), Algorithm.ED25519_SHA256, created_at=SIGNED_AT)
    waiting = ring.create_key(DOMAIN, Selector("published"), Algorithm.ED25519_SHA256, created_at=SIGNED_AT)
    ring.set_state(waiting, KeyState.PUBLISHED, at=SIGNED_AT)
    signatures = Signer(ring).sign(CONTENT, signed_at=SIGNED_AT)
    fields = ["DKIM-Signature:" + field for field in signatures.decode().split("DKIM-Signature:")[1:]]
    assert [get_tags(field.encode())["s"] for field in fields] == ["new", "old"]
    records = {key.record_name: key.record for key in (old, new)}
    assert verify_by_dkimpy(signatures + CONTENT, records) == ["ed25519-sha256=pass"] * 2


def test_signature_of_internationalised_author_has_a_labels(tmp_path: Path) -> None:
    """RFC 8616 section 4: d= is in A-labels, whatever From has."""
    ring, records = make_ring(tmp_path, Algorithm.ED25519_SHA256, domain=Domain("xn--mnchen-3ya.test"))
    content = "From: Zoë <zoë@München.test>\r\n\r\n".encode()
    signature = Signer(ring).sign(content, signed_at=SIGNED_AT)
    assert get_tags(signature)["d"] == "xn--mnchen-3ya.test"
    assert verify_by_dkimpy(signature + content, records) == ["ed25519-sha256=pass"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"To: a@b.example\r\n\r\nx\r\n", "no From"),
        (b"", "no From|CRLF"),
        (b"\r\n\r\nFrom: alice@example.test\r\n", "no From|no field"),
        (b"\r\nFrom: alice@example.test\r\n\r\n", "no From|no field"),
        (HEADER + b"From: alice@example.test\r\n\r\n", "more than one from"),
        (HEADER + b"from : alice@example.test\r\n\r\n", "more than one from"),
        (HEADER + b"SUBJECT: again\r\n\r\n", "more than one subject"),
        (HEADER + b"Sender: a@b.example\r\nSender: c@d.example\r\n\r\n", "more than one sender"),
        (HEADER + b"\r\nbare\rreturn\r\n", "bare CR or LF"),
        (HEADER + b"\r\nbare\nfeed\r\n", "bare CR or LF"),
        (HEADER + b"\r\ndouble\r\r\n", "bare CR or LF"),
        (HEADER + b"X: a\nFrom: eve@example.test\r\n\r\n", "bare CR or LF"),
        (HEADER + b"\r\nnul\0\r\n", "NUL"),
        (HEADER + b"no field\r\n\r\n", "no field"),
        (HEADER + b"X\xe4: y\r\n\r\n", "no field"),
        (HEADER + b": y\r\n\r\n", "no field"),
        (b" folded: first\r\n" + CONTENT, "no field"),
        (b"From alice Mon Nov 23 2026\r\n" + CONTENT, "no field"),
        (HEADER.removesuffix(b"\r\n"), "CRLF"),
        (b"From: undisclosed:;\r\n\r\n", "mailbox"),
        (b"From: \xff@example.test\r\n\r\n", "UTF-8"),
        (b"From: a@example.test, b@other.test\r\n\r\n", "more than one domain"),
        (b"From: a@example\r\n\r\n", "qualified"),
    ],
)
def test_sign_of_malformed_content_refuses(signer: Signer, content: bytes, reason: str) -> None:
    """What two readers could read differently is not signed (RFC 6376 sections 5.3 and 8.15)."""
    with pytest.raises(MalformedInput, match=reason):
        signer.sign(content, signed_at=SIGNED_AT)


@pytest.mark.parametrize("author", ["a@other.test", "a@sub.example.test", "a@[192.0.2.1]", "a@test.example"])
def test_sign_for_a_domain_without_key_raises(signer: Signer, author: str) -> None:
    """The message waits for a key of exactly its author's domain: it is never sent unsigned."""
    with pytest.raises(NoUsableKey, match="no active DKIM key"):
        signer.sign(f"From: {author}\r\n\r\n".encode(), signed_at=SIGNED_AT)


@given(messages())
def test_sign_of_any_message_gives_whole_ascii_lines(signer: Signer, content: bytes) -> None:
    """What is put before the content cannot change it or be changed by a server that is careful with lines."""
    signature = signer.sign(content, signed_at=SIGNED_AT)
    assert re.fullmatch(rb"DKIM-Signature: [ -~]+\r\n(?: [ -~]+\r\n)+", signature)


@given(st.lists(st.sampled_from([b"From:", b"a@", b"example.test", b"\r\n", b" ", b"<", b'"', b"(", b"\xff", b":"])))
def test_sign_of_anything_signs_or_says_why_not(signer: Signer, parts: list[bytes]) -> None:
    """No input ends in another exception than those that are promised."""
    with contextlib.suppress(MalformedInput, NoUsableKey):
        assert signer.sign(b"".join(parts), signed_at=SIGNED_AT).startswith(b"DKIM-Signature: v=1;")


def test_sign_of_a_long_line_of_blanks_ends(signer: Signer) -> None:
    """4 MiB of blanks take dkimpy's own way hours: our canonicalisation is the one that dkimpy runs."""
    blanks = b" " * 4_194_304
    signature = signer.sign(HEADER + b"X-Blanks: a" + blanks + b"\r\n\r\nHello" + blanks + b"\r\n", signed_at=SIGNED_AT)
    assert get_tags(signature)["bh"] == get_tags(signer.sign(CONTENT, signed_at=SIGNED_AT))["bh"]


def test_signer_leaves_dkimpys_own_algorithms_alone() -> None:
    """The verifiers of other code in the process must not depend on ours."""
    table = dkim.canonicalization.ALGORITHMS
    assert table[b"relaxed"] is dkim.canonicalization.Relaxed
    assert table[b"simple"] is dkim.canonicalization.Simple


def test_find_domain_gives_whose_keys_sign(tmp_path: Path) -> None:
    """A report is sent in the name of the domain that signed the message, so that it can be signed alike."""
    ring, _ = make_ring(tmp_path, Algorithm.ED25519_SHA256)
    assert Signer(ring).find_domain(b"From: A <a@Example.TEST>\r\n\r\nx\r\n") == "example.test"
    with pytest.raises(MalformedInput):
        Signer(ring).find_domain(b"To: a@example.test\r\n\r\nx\r\n")
