"""A small authoritative DNS server over UDP and TCP that takes signed updates. RFC 1035, RFC 2136, RFC 2308, RFC 8945.

For the demonstration and for tests: it keeps its zones in memory and has neither delegations nor secondaries.
"""

import asyncio
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.node
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.rrset
import dns.tsig
import dns.update
import dns.versioned
import dns.zone
from typing_extensions import override

from ptt.demo.dns_update import apply_update

UDP_PAYLOAD = 1232
"""Octets of an answer over UDP; larger ones come over TCP."""
MAX_TCP_BYTES = 65_535  # RFC 1035 section 4.2.2: the length is two octets
TCP_TIMEOUT_S = 10.0
"""A connection that says nothing must not stay for ever (RFC 7766 section 6.2.3)."""

_TSIG_ERRORS: Mapping[type[dns.exception.DNSException], dns.rcode.Rcode] = {
    dns.message.UnknownTSIGKey: dns.rcode.BADKEY,
    dns.tsig.BadKey: dns.rcode.BADKEY,
    dns.tsig.BadAlgorithm: dns.rcode.BADKEY,
    dns.tsig.BadSignature: dns.rcode.BADSIG,
    dns.tsig.BadTime: dns.rcode.BADTIME,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRecord:
    """What became of one update."""

    zone: str
    signer: str
    """Name of the TSIG key, empty for an unsigned update."""
    rcode: str
    changes: tuple[str, ...]
    """Owner name and type of each record in the update."""


class DnsPrimary:
    """The zones, and the answers to messages about them."""

    def __init__(self, zone_texts: Mapping[str, str], key: dns.tsig.Key) -> None:
        """Read the zones.

        Args:
            zone_texts: origin to master file text (RFC 1035 section 5).
            key: who may update them.
        """
        self.updates: list[UpdateRecord] = []
        self._keyring = {key.name: key}
        self._zones = {name: _read_zone(name, text) for name, text in zone_texts.items()}

    def respond(self, wire: bytes, max_bytes: int) -> bytes | None:
        """Answer one message.

        Args:
            wire: the message as received.
            max_bytes: what the transport can carry; EDNS may lower it.

        Returns:
            The response, or None if there is nobody to answer to.
        """
        try:
            query = dns.message.from_wire(wire, keyring=self._keyring)
        except tuple(_TSIG_ERRORS) as error:
            return self._refuse_signature(wire, _TSIG_ERRORS[type(error)])
        except dns.exception.DNSException:
            return _refuse_malformed(wire)
        if query.flags & dns.flags.QR:
            return None  # answering answers could go on for ever between two servers
        response = self._make_response(query)
        if max_bytes < MAX_TCP_BYTES:
            # RFC 6891 section 6.2.3: without EDNS, UDP carries 512 octets.
            max_bytes = min(max_bytes, max(query.payload, 512)) if query.edns >= 0 else 512
        return response.to_wire(max_size=max_bytes, prefer_truncation=True)

    def _make_response(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query, our_payload=UDP_PAYLOAD)
        if isinstance(query, dns.update.UpdateMessage):
            response.set_rcode(self._update(query))
        elif query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            response.set_rcode(dns.rcode.NOTIMP)
        else:
            self._answer(query.question[0], response)
        return response

    def _update(self, update: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        name = update.zone[0].name if update.zone else dns.name.root
        zone = next((zone for zone in self._zones.values() if zone.origin == name), None)
        if zone is None:
            rcode = dns.rcode.NOTAUTH  # RFC 2136 section 3.1.2
        elif not update.had_tsig:
            rcode = dns.rcode.REFUSED  # RFC 2136 section 3.3: who does not sign may change nothing
        else:
            rcode = apply_update(zone, update)
        changes = tuple(f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)}" for rrset in update.update)
        signer = str(update.keyname) if update.had_tsig else ""
        self.updates.append(
            UpdateRecord(zone=str(name), signer=signer, rcode=dns.rcode.to_text(rcode), changes=changes)
        )
        return rcode

    def _answer(self, question: dns.rrset.RRset, response: dns.message.Message) -> None:
        zone = self._find_zone(question.name)
        if zone is None or zone.origin is None or dns.rdatatype.is_metatype(question.rdtype):
            response.set_rcode(dns.rcode.REFUSED)  # also AXFR and ANY
            return
        response.flags |= dns.flags.AA
        with zone.reader() as transaction:
            for rdtype in (question.rdtype, dns.rdatatype.CNAME):
                if rdataset := transaction.get(question.name, rdtype):
                    response.answer.append(dns.rrset.from_rdata_list(question.name, rdataset.ttl, list(rdataset)))
                    return
            # RFC 8020: a name that is only part of longer ones exists too, and has no records.
            if not any(name.is_subdomain(question.name) for name in transaction.iterate_names()):
                response.set_rcode(dns.rcode.NXDOMAIN)
            soa = transaction.get(zone.origin, dns.rdatatype.SOA)
            if soa is not None:
                # RFC 2308 section 3: how long the absence may be remembered.
                response.authority.append(
                    dns.rrset.from_rdata_list(zone.origin, min(soa.ttl, soa[0].minimum), [soa[0]])
                )

    def _find_zone(self, name: dns.name.Name) -> dns.versioned.Zone | None:
        zones = [zone for zone in self._zones.values() if zone.origin and name.is_subdomain(zone.origin)]
        return max(zones, key=lambda zone: len(zone.origin or ()), default=None)

    def _refuse_signature(self, wire: bytes, error: dns.rcode.Rcode) -> bytes:
        """Answer NOTAUTH with the reason in the TSIG record (RFC 8945 sections 5.2 and 5.3.2)."""
        query = dns.message.from_wire(wire, keyring=False)
        signature = query.tsig
        assert signature is not None  # noqa: S101 - for the type checker: there was one to complain about
        query.tsig = None
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.NOTAUTH)
        received = cast(dns.rdtypes.ANY.TSIG.TSIG, signature[0])
        if error == dns.rcode.BADTIME:
            # RFC 8945 section 5.2.3: signed, and with our time, for the client's clock may be the wrong one.
            now = int(time.time()).to_bytes(6, "big")
            response.use_tsig(self._keyring[signature.name], tsig_error=error, other_data=now)
            response.request_mac = received.mac
        else:
            reason = received.replace(mac=b"", error=error, original_id=query.id)
            response.tsig = dns.rrset.from_rdata(signature.name, 0, reason)
        if isinstance(query, dns.update.UpdateMessage):
            zone = str(query.zone[0].name) if query.zone else ""
            self.updates.append(UpdateRecord(zone=zone, signer="", rcode=f"NOTAUTH ({error.name})", changes=()))
        return response.to_wire()


class DnsServer:
    """The primary on one address, UDP and TCP on the same port."""

    def __init__(self, primary: DnsPrimary) -> None:
        """Prepare."""
        self._primary = primary
        self._tcp: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None

    async def start(self, address: str, port: int = 0) -> int:
        """Listen; give the port, any free one for 0."""
        self._tcp = await asyncio.start_server(self._serve_connection, address, port)
        port = int(self._tcp.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._primary), (address, port))
        return port

    def stop(self) -> None:
        """Listen no more."""
        if self._tcp is not None:
            self._tcp.close()
        if self._udp is not None:
            self._udp.close()

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(TCP_TIMEOUT_S):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(length)
                response = self._primary.respond(wire, MAX_TCP_BYTES)
                if response is None:
                    return
                writer.write(struct.pack("!H", len(response)) + response)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, primary: DnsPrimary) -> None:
        self._primary = primary
        self._transport: asyncio.DatagramTransport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and (response := self._primary.respond(data, UDP_PAYLOAD)):
            self._transport.sendto(response, addr)


def _read_zone(name: str, text: str) -> dns.versioned.Zone:
    zone = dns.zone.from_text(text, name, relativize=False, zone_factory=dns.versioned.Zone)
    return cast(dns.versioned.Zone, zone)


def _refuse_malformed(wire: bytes) -> bytes | None:
    if len(wire) < 12 or wire[2] & 0x80:  # noqa: PLR2004 - RFC 1035 section 4.1.1: the header, and its QR bit
        return None
    response = dns.message.Message(id=int.from_bytes(wire[:2], "big"))
    response.flags = dns.flags.QR
    response.set_rcode(dns.rcode.FORMERR)
    return response.to_wire()
