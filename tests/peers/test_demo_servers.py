"""The demonstration's own eyes: its destination MX, and its verification of what arrived there."""

import asyncio
import base64
import smtplib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import dkim
import dns.tsig
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ptt.demo.certificates import Authority
from ptt.demo.destination import Destination
from ptt.demo.dns_primary import DnsPrimary, DnsServer
from ptt.demo.proof import DnsClient, hash_body, verify_signatures

CONTENT = b"From: a@example.test\r\nSubject: x\r\n\r\n.dot\r\n\r\n\xe9t\xe9 \r\n\r\n"


@pytest_asyncio.fixture
async def destination(tmp_path: Path) -> AsyncIterator[tuple[Destination, int]]:
    """Run a destination on a free port."""
    authority = Authority(datetime.now(UTC))
    authority.save(tmp_path / "ca.pem")
    authority.issue("mx.destination.test", "127.0.0.1", tmp_path / "mx.pem", tmp_path / "mx.key")
    server = Destination("mx.destination.test", tmp_path / "mx.pem", tmp_path / "mx.key")
    yield server, await server.start("127.0.0.1")
    server.stop()


def deliver(port: int, tls: ssl.SSLContext | None) -> str:
    """Send one message and give the last reply."""
    with smtplib.SMTP("127.0.0.1", port, "relay.example.test", timeout=60) as client:
        if tls:
            client.starttls(context=tls)
        client.ehlo()
        reply = client.mail("a@example.test")
        if reply[0] == 250:
            client.rcpt("b@destination.test")
            reply = client.data(CONTENT)
        return f"{reply[0]} {reply[1].decode()}"


async def test_destination_over_tls_keeps_every_octet(destination: tuple[Destination, int], tmp_path: Path) -> None:
    """The certificate of the demonstration's authority is good, and what arrives is what was sent."""
    server, port = destination
    tls = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    assert await asyncio.to_thread(deliver, port, tls) == "250 2.0.0 taken as number 1"
    [delivery] = server.deliveries
    assert (delivery.content, delivery.recipients) == (CONTENT, ("b@destination.test",))
    assert delivery.tls.startswith("TLSv1.")


async def test_destination_in_clear_takes_nothing(destination: tuple[Destination, int]) -> None:
    """A relay that does not use STARTTLS cannot deliver here."""
    server, port = destination
    assert (await asyncio.to_thread(deliver, port, None)).startswith("530 ")
    assert not server.deliveries


async def test_destination_unknown_authority_is_not_trusted(destination: tuple[Destination, int]) -> None:
    """The certificate proves something: who does not trust the authority does not connect."""
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(deliver, destination[1], ssl.create_default_context())


@pytest.fixture(scope="module")
def signed() -> tuple[bytes, str]:
    """Give a signed message and the master file line of its key."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    header = dkim.sign(CONTENT, b"sel", b"example.test", pem)
    text = "v=DKIM1; p=" + base64.b64encode(der).decode()
    return header + CONTENT, f'sel._domainkey TXT "{text[:200]}" "{text[200:]}"'


@pytest.mark.parametrize(
    ("change", "in_dns", "verdicts"),
    [
        ((b"", b""), True, [True]),
        ((b"\xe9t\xe9", b"\xe9tE"), True, [False]),
        ((b"Subject: x", b"Subject: y"), True, [False]),
        ((b"", b""), False, [False]),
        ((b"DKIM-Signature:", b"X-Signature:"), True, []),
    ],
    ids=["good", "body changed", "header changed", "no key", "not signed"],
)
async def test_verify_signatures_case_gives_verdict(
    signed: tuple[bytes, str],
    change: tuple[bytes, bytes],
    in_dns: bool,  # noqa: FBT001 - a column of the table
    verdicts: list[bool],
) -> None:
    """The proof can fail: with a changed body or header, without the key in the DNS, without a signature."""
    content, line = signed
    zone = f"$TTL 60\n@ SOA ns1 h 1 1 1 1 1\n@ NS ns1\nns1 A 127.0.0.1\n{line if in_dns else ''}\n"
    server = DnsServer(DnsPrimary({"example.test.": zone}, dns.tsig.Key("k.", b"secret", "hmac-sha256")))
    port = await server.start("127.0.0.1")
    try:
        client = DnsClient("127.0.0.1", port)
        found = await asyncio.to_thread(verify_signatures, content.replace(*change, 1), client)
    finally:
        server.stop()
    assert [signature.passed for signature in found] == verdicts


def test_hash_body_header_does_not_count() -> None:
    """Fields that are put on top leave the body's hash alone; one octet in the body does not."""
    assert hash_body(b"Received: x\r\n" + CONTENT) == hash_body(CONTENT) != hash_body(CONTENT + b"\r\n")
