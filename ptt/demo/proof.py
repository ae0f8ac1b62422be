"""Verifies what arrived: DKIM with the key that the DNS serves, by dkimpy, and the body octet for octet. RFC 6376."""

import hashlib
from dataclasses import dataclass

import dkim
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from ptt.demo.mail import split_body

DNS_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One DKIM signature and what its verification said."""

    domain: str
    selector: str
    algorithm: str
    passed: bool
    reason: str = ""

    @property
    def key_name(self) -> str:
        """Where its public key is (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}."


@dataclass(frozen=True, slots=True)
class DnsClient:
    """Asks one DNS server."""

    address: str
    port: int

    def query(self, name: str, rdtype: str) -> dns.message.Message:
        """Ask over UDP, and over TCP if the answer is too long."""
        query = dns.message.make_query(name, rdtype, use_edns=0)
        response, _ = dns.query.udp_with_fallback(query, self.address, DNS_TIMEOUT_S, self.port)
        return response

    def get_txt(self, name: bytes | str, timeout: int = 5) -> bytes | None:  # noqa: ARG002 - as dkimpy calls it
        """Give a TXT record as one text; None if there is none."""
        text = name.decode() if isinstance(name, bytes) else name
        for rrset in self.query(text, "TXT").answer:
            if rrset.rdtype == dns.rdatatype.TXT:
                return b"".join(rrset[0].strings)
        return None


def verify_signatures(content: bytes, client: DnsClient) -> list[Signature]:
    """Verify each DKIM signature of a message, the topmost first."""
    message = dkim.DKIM(content)
    count = sum(name.lower() == b"dkim-signature" for name, _ in message.headers)
    return [_verify(content, index, client) for index in range(count)]


def _verify(content: bytes, index: int, client: DnsClient) -> Signature:
    message = dkim.DKIM(content)
    reason = ""
    try:
        passed = bool(message.verify(idx=index, dnsfunc=client.get_txt))
    except dkim.DKIMException as error:
        passed, reason = False, str(error)
    fields = {name: value.decode() for name, value in (message.signature_fields or {}).items()}
    return Signature(
        domain=fields.get(b"d", ""),
        selector=fields.get(b"s", ""),
        algorithm=fields.get(b"a", ""),
        passed=passed,
        reason=reason,
    )


def hash_body(content: bytes) -> str:
    """Give the SHA-256 of the body."""
    return hashlib.sha256(split_body(content)).hexdigest()
