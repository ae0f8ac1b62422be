"""Finds the zone of a name and all servers that answer for it, and asks each of them for a record. RFC 1034.

A key may sign only once every authoritative server answers it: a receiver may ask any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import tenacity
from typing_extensions import override

from ptt.core.errors import Unavailable, UpdateRefused
from ptt.dns.primary import Primary

QUERY_TIMEOUT_S = 2.0
"""How long one authoritative server may take for one answer."""
MAX_POLL_S = 5.0
"""How often at least the servers are asked while one of them lags behind; at first it is after 0.25 s."""
UDP_PAYLOAD = 1232
"""Octets of an answer over UDP; larger ones come over TCP (DNS flag day 2020: never fragmented)."""

_ADDRESS_TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)


@dataclass(frozen=True, slots=True)
class Nameserver:
    """One authoritative server."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lag:
    """What keeps one server from answering as it should."""

    server: str
    problem: str
    is_wrong: bool
    """Receivers are told something else, or nothing; a server that answers nobody does no such harm."""

    @override
    def __str__(self) -> str:
        """Give one line for the operator."""
        return f"{self.server} {self.problem}".strip()


@dataclass(frozen=True, slots=True)
class StubResolver:
    """Asks these resolvers, or those of /etc/resolv.conf if there are none."""

    addresses: tuple[str, ...] = ()
    port: int = 53

    def find_zone(self, name: dns.name.Name) -> dns.name.Name:
        """Find the zone of a name.

        Raises:
            Unavailable: the resolvers do not answer.
        """
        try:
            return dns.resolver.zone_for_name(name, resolver=self._make())
        except dns.exception.DNSException as error:
            raise Unavailable(f"the zone of {name} cannot be found: {error}") from error

    def resolve(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> tuple[str, ...]:
        """Give the records of one type as text, maybe none.

        Raises:
            Unavailable: the resolvers do not answer.
        """
        return tuple(rdata.to_text() for rdata in self.resolve_records(name, rdtype))

    def resolve_records(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Sequence[Any]:
        """Give the records of one type, maybe none; what attributes they have follows from the type.

        Raises:
            Unavailable: the resolvers do not answer.
        """
        try:
            answer = self._make().resolve(name, rdtype, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return ()
        except dns.exception.DNSException as error:
            raise Unavailable(f"{name} {rdtype.name} cannot be resolved: {error}") from error
        return tuple(answer.rrset or ())

    def _make(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=not self.addresses)
        if self.addresses:
            resolver.nameservers, resolver.port = list(self.addresses), self.port
        return resolver


def find_zone(primary: Primary, name: dns.name.Name) -> dns.name.Name:
    """Find the zone of the primary that holds a name, by SOA queries from the name upwards.

    Raises:
        Unavailable: the primary does not answer.
        UpdateRefused: it has no such zone.
    """
    ancestor = name
    while len(ancestor) > 1:
        reply = primary.query(ancestor, dns.rdatatype.SOA)
        # RFC 2308 section 2: a name without SOA is answered with the SOA of its zone in the authority section.
        for rrset in [*reply.answer, *reply.authority]:
            if rrset.rdtype == dns.rdatatype.SOA and reply.flags & dns.flags.AA and name.is_subdomain(rrset.name):
                return rrset.name
            if rrset.rdtype == dns.rdatatype.NS and not reply.flags & dns.flags.AA:
                raise UpdateRefused(f"{primary} has delegated {rrset.name} to other servers: {name} is not in its zone")
        ancestor = ancestor.parent()
    raise UpdateRefused(f"{primary} is not authoritative for any zone of {name}")


def find_nameservers(name: str, resolver: StubResolver, primary: Primary | None = None) -> tuple[Nameserver, ...]:
    """Find all authoritative servers of the zone of a name.

    Args:
        name: a name in the zone.
        resolver: knows the addresses of name servers outside of the zone, and all if there is no primary.
        primary: knows the zone.

    Raises:
        Unavailable: somebody does not answer.
        UpdateRefused: the primary has no such zone.
    """
    owner = dns.name.from_text(name)
    if primary is None:
        names = resolver.resolve(resolver.find_zone(owner), dns.rdatatype.NS)
    else:
        names = _query_primary(primary, find_zone(primary, owner), dns.rdatatype.NS)
    return tuple(
        Nameserver(text, _find_addresses(dns.name.from_text(text), resolver, primary)) for text in sorted(names)
    )


def find_lagging(servers: tuple[Nameserver, ...], port: int, name: str, text: str) -> tuple[Lag, ...]:
    """Ask every server for a TXT record.

    Args:
        servers: all authoritative servers.
        port: of their DNS service.
        name: full name of the record.
        text: what the one record there must be.

    Returns:
        One for each server that does not answer exactly that; none if all do.
    """
    if not servers:
        return (Lag(f"no authoritative server is known for {name}", "", is_wrong=False),)
    found = (_ask_server(server, port, dns.name.from_text(name), text) for server in servers)
    return tuple(lag for lag in found if lag)


def wait_until_served(
    servers: tuple[Nameserver, ...], port: int, name: str, text: str, *, wait_s: float
) -> tuple[Lag, ...]:
    """Ask as `find_lagging` does, again and again until nobody lags or the time is up; give what it gave last."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(bool),
        stop=tenacity.stop_before_delay(wait_s),
        wait=tenacity.wait_exponential(multiplier=0.25, max=MAX_POLL_S),
        retry_error_callback=_get_last,
    )
    return retrying(partial(find_lagging, servers, port, name, text))


def _get_last(state: tenacity.RetryCallState) -> tuple[Lag, ...]:
    assert state.outcome is not None  # noqa: S101 - for the type checker: tenacity calls this after an attempt
    last: tuple[Lag, ...] = state.outcome.result()
    return last


def _find_addresses(name: dns.name.Name, resolver: StubResolver, primary: Primary | None) -> tuple[str, ...]:
    for ask in (partial(_query_primary, primary), resolver.resolve) if primary else (resolver.resolve,):
        if addresses := tuple(text for rdtype in _ADDRESS_TYPES for text in ask(name, rdtype)):
            return addresses
    return ()


def _query_primary(primary: Primary, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> tuple[str, ...]:
    rrsets = primary.query(name, rdtype).answer
    return tuple(
        rdata.to_text() for rrset in rrsets if rrset.name == name and rrset.rdtype == rdtype for rdata in rrset
    )


def _ask_server(server: Nameserver, port: int, name: dns.name.Name, text: str) -> Lag | None:
    """Give what is wrong with a server: one address that answers right is enough, one that answers wrong too much.

    An address that does not answer at all is no reason to wait as long as another one of that server does: resolvers
    go on to the next, and this machine may have no IPv6.
    """
    if not server.addresses:
        return Lag(server.name, "has no address", is_wrong=False)
    silent = []
    for address in server.addresses:
        query = dns.message.make_query(name, dns.rdatatype.TXT, flags=0, use_edns=0, payload=UDP_PAYLOAD)
        try:
            reply, _ = dns.query.udp_with_fallback(query, address, QUERY_TIMEOUT_S, port, ignore_errors=True)
        except (OSError, EOFError, dns.exception.DNSException):
            silent.append(address)
            continue
        if problem := _find_fault(reply):
            return Lag(server.name, f"({address}) {problem}", is_wrong=False)
        if problem := _compare(reply, name, text):
            return Lag(server.name, f"({address}) {problem}", is_wrong=True)
    if len(silent) == len(server.addresses):
        return Lag(server.name, f"({', '.join(silent)}) does not answer", is_wrong=False)
    return None


def _find_fault(reply: dns.message.Message) -> str:
    """Say why a reply tells nothing of the record."""
    rcode = reply.rcode()
    if rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return f"answers {dns.rcode.to_text(rcode)}"
    # RFC 1912 section 2.8: a lame server is listed for the zone and does not have it.
    return "" if reply.flags & dns.flags.AA else "is not authoritative (lame delegation)"


def _compare(reply: dns.message.Message, name: dns.name.Name, text: str) -> str:
    rrsets = [rrset for rrset in reply.answer if rrset.name == name]
    records = [rdata for rrset in rrsets if rrset.rdtype == dns.rdatatype.TXT for rdata in rrset]
    if not records:
        return "answers an alias (CNAME)" if rrsets else "does not have the record yet"
    if [b"".join(rdata.strings) for rdata in records] != [text.encode()]:
        return f"answers {len(records)} records" if len(records) > 1 else "answers another record"
    return ""
