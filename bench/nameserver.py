"""The DNS of the rig: a primary that takes signed updates (RFC 2136, RFC 8945) and answers for a few zones.

Enough for ptt to publish its DKIM key and to find the MX of each destination, over UDP and TCP of 127.0.0.1, and no
more: no recursion, no transfers, no prerequisites. Prints {"port": N} when it listens, and ends when stdin does.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import sys
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsigkeyring
import dns.update
from typing_extensions import override

TTL_S = 300
NAME_SERVER = "ns.sender.example."
MX_HOST = "mx.example."


class Zones:
    """All records, by name and type."""

    def __init__(self, sender_domain: str, domains: list[str]) -> None:
        """Make the zones: the sender's, the destinations', and that of the MX host."""
        self.sets: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset] = {}
        self.origins = [dns.name.from_text(zone) for zone in (sender_domain, "mx.example", *domains)]
        for origin in self.origins:
            self._add(origin, "SOA", f"{NAME_SERVER} hostmaster.sender.example. 1 3600 600 86400 {TTL_S}")
            self._add(origin, "NS", NAME_SERVER)
        self._add(dns.name.from_text(NAME_SERVER), "A", "127.0.0.1")
        self._add(dns.name.from_text(MX_HOST), "A", "127.0.0.1")
        for domain in domains:
            self._add(dns.name.from_text(domain), "MX", f"10 {MX_HOST}")

    def _add(self, name: dns.name.Name, kind: str, text: str) -> None:
        records = dns.rrset.from_text(name, TTL_S, "IN", kind, text)
        self.sets[name, records.rdtype] = records

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Answer one query or update."""
        response = dns.message.make_response(query)
        if isinstance(query, dns.update.UpdateMessage):
            response.set_rcode(self._update(query))
            return response
        response.flags |= dns.flags.AA
        question = query.question[0]
        found = self.sets.get((question.name, question.rdtype))
        if found:
            response.answer.append(found)
            return response
        if not any(name.is_subdomain(question.name) for name, _ in self.sets):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if soa := self._find_soa(question.name):
            response.authority.append(soa)
        return response

    def _find_soa(self, name: dns.name.Name) -> dns.rrset.RRset | None:
        origins = [origin for origin in self.origins if name.is_subdomain(origin)]
        return self.sets[max(origins, key=len), dns.rdatatype.SOA] if origins else None

    def _update(self, update: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        if not update.had_tsig:
            return dns.rcode.REFUSED
        for change in update.update:
            key = (change.name, change.rdtype)
            if change.deleting == dns.rdataclass.ANY:
                self.sets.pop(key, None)
            elif change.deleting == dns.rdataclass.NONE:
                self._delete(key, change)
            else:
                self.sets.setdefault(key, dns.rrset.RRset(change.name, dns.rdataclass.IN, change.rdtype)).update(change)  # type: ignore[no-untyped-call]
        return dns.rcode.NOERROR

    def _delete(self, key: tuple[dns.name.Name, dns.rdatatype.RdataType], change: dns.rrset.RRset) -> None:
        if key not in self.sets:
            return
        for record in change:
            self.sets[key].discard(record)  # type: ignore[no-untyped-call]
        if not self.sets[key]:
            del self.sets[key]


class Responder(asyncio.DatagramProtocol):
    """Answers over UDP, and `answer_wire` for TCP."""

    def __init__(self, zones: Zones, keyring: dict[dns.name.Name, dns.tsig.Key]) -> None:
        """Keep what is needed to answer."""
        self.zones = zones
        self.keyring = keyring
        self.transport: asyncio.DatagramTransport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.DatagramTransport", transport)  # Python 3.11's is no subclass of it

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one datagram."""
        if answer := self.answer_wire(data):
            self.transport.sendto(answer, addr)

    def answer_wire(self, data: bytes) -> bytes | None:
        """Answer one message; nonsense is not answered."""
        try:
            query = dns.message.from_wire(data, keyring=self.keyring)
        except (dns.exception.DNSException, ValueError) as error:
            print(f"not answered: {error!r}", file=sys.stderr)
            return None
        return self.zones.answer(query).to_wire()

    async def serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the queries of one TCP connection (RFC 7766)."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                if not (answer := self.answer_wire(data)):
                    break
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        writer.close()


async def serve(options: argparse.Namespace) -> None:
    """Listen until stdin ends."""
    keyring = dns.tsigkeyring.from_text({options.tsig_name: options.tsig_secret})
    responder = Responder(Zones(options.sender_domain, options.domains), keyring)
    loop = asyncio.get_running_loop()
    streams, datagrams = bind_both()
    server = await asyncio.start_server(responder.serve_stream, sock=streams)
    await loop.create_datagram_endpoint(lambda: responder, sock=datagrams)
    print(json.dumps({"port": streams.getsockname()[1]}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def bind_both() -> tuple[socket.socket, socket.socket]:
    """Take a port of 127.0.0.1 that is free for TCP and UDP."""
    for _ in range(100):
        streams = socket.socket()
        streams.bind(("127.0.0.1", 0))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            datagrams.bind(streams.getsockname())
            return streams, datagrams
        streams.close()
        datagrams.close()
    raise OSError("no port is free for both TCP and UDP")


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sender-domain", required=True)
    parser.add_argument("--domains", nargs="+", required=True)
    parser.add_argument("--tsig-name", required=True)
    parser.add_argument("--tsig-secret", required=True, help="base64; of a key that lives as long as the run")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
