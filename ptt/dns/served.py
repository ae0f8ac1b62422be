"""Reads what receivers see: TXT records as the authoritative servers answer them, and names by way of a resolver."""

from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.reversename

from ptt.core.errors import Unavailable
from ptt.dns.zone import QUERY_TIMEOUT_S, UDP_PAYLOAD, Nameserver, StubResolver


@dataclass(frozen=True, slots=True)
class Served:
    """TXT records of one name; each text is put together of its strings."""

    texts: tuple[str, ...]
    ttl_s: int


def read_served(servers: tuple[Nameserver, ...], port: int, name: str) -> Served:
    """Read the TXT records of a name from the first authoritative server that answers.

    Raises:
        Unavailable: none does.
    """
    owner = dns.name.from_text(name)
    for address in (address for server in servers for address in server.addresses):
        query = dns.message.make_query(owner, dns.rdatatype.TXT, flags=0, use_edns=0, payload=UDP_PAYLOAD)
        try:
            reply, _ = dns.query.udp_with_fallback(query, address, QUERY_TIMEOUT_S, port, ignore_errors=True)
        except (OSError, EOFError, dns.exception.DNSException):
            continue
        if not reply.flags & dns.flags.AA:
            continue
        found = [rrset for rrset in reply.answer if rrset.name == owner and rrset.rdtype == dns.rdatatype.TXT]
        texts = tuple(b"".join(rdata.strings).decode("ascii", "replace") for rrset in found for rdata in rrset)
        return Served(texts, min((rrset.ttl for rrset in found), default=0))
    raise Unavailable(f"no authoritative server answers for {name}")


def resolve_texts(resolver: StubResolver, name: str) -> tuple[str, ...]:
    """Give the TXT records of a name, maybe none.

    Raises:
        Unavailable: the resolvers do not answer.
    """
    records = resolver.resolve_records(dns.name.from_text(name), dns.rdatatype.TXT)
    return tuple(b"".join(rdata.strings).decode("ascii", "replace") for rdata in records)


def resolve_addresses(resolver: StubResolver, name: str) -> tuple[str, ...]:
    """Give the addresses of a host, maybe none.

    Raises:
        Unavailable: the resolvers do not answer.
    """
    owner = dns.name.from_text(name)
    return tuple(text for rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA) for text in resolver.resolve(owner, rdtype))


def resolve_names(resolver: StubResolver, address: str) -> tuple[str, ...]:
    """Give the names that the reverse DNS has for an address, without the last dot, maybe none.

    Raises:
        Unavailable: the resolvers do not answer.
    """
    owner = dns.reversename.from_address(address)
    return tuple(text.rstrip(".").lower() for text in resolver.resolve(owner, dns.rdatatype.PTR))
