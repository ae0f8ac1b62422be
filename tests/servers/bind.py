"""Real BIND servers for tests: a primary that takes signed updates of DKIM keys, and secondaries of it.

All servers of one zone are reached on one port, each on a loopback address of its own, as they would on port 53.
"""

import base64
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.tsig

from tests.servers.ports import free_port
from tests.servers.responder import running_responder
from tests.waiting import wait_until

ALGORITHM = "hmac-sha256"
KEY_NAME = "ptt-key"
ADDRESS = "127.0.0.1"


@dataclass
class Bind:
    """One ``named`` process in a folder of its own.

    ``nameservers`` are the addresses of ns1, ns2, ... of each zone; what each of them really is, is up to the test.
    """

    folder: Path
    port: int
    zones: Sequence[str] = ("example.test",)
    nameservers: Sequence[str] = (ADDRESS,)
    records: Sequence[str] = ()
    """More lines of the zone files; names are relative to the zone."""
    primary_port: int | None = None
    """Port of the primary, for a secondary."""
    key_name: str = KEY_NAME
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())
    algorithm: str = ALGORITHM
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Give the address that it listens on."""
        return ADDRESS

    @property
    def tsig_key(self) -> dns.tsig.Key:
        """Give the TSIG key as dnspython has it."""
        return dns.tsig.Key(self.key_name, self.secret, self.algorithm)

    def start(self) -> None:
        """Write the configuration and the zones, start named, and wait until it answers for each zone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for zone in self.zones:
            if self.primary_port is None and not self._zone_file(zone).exists():
                self._zone_file(zone).write_text(self._format_zone(zone))
        configuration = self.folder / "named.conf"
        configuration.write_text(self._format_configuration())
        with (self.folder / "named.log").open("ab") as log:
            # -g: in the foreground, and its log to stderr.
            command = [find_named(), "-g", "-c", str(configuration), "-n", "1"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers_all, f"named answers for its zones, see {self.folder}/named.log")

    def stop(self) -> None:
        """End the server if it runs; its zones stay and `start` goes on with them."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def ask(self, name: str, rdtype: str = "TXT") -> dns.message.Message:
        """Ask the server for records."""
        query = dns.message.make_query(name, rdtype, flags=0)
        return dns.query.tcp(query, ADDRESS, timeout=30, port=self.port)

    def get_texts(self, name: str) -> list[str]:
        """Give each TXT record of a name, its strings put together."""
        answer = self.ask(name).answer
        return [b"".join(rdata.strings).decode() for rrset in answer for rdata in rrset]

    def forward(self, request: bytes, is_tcp: bool) -> bytes:  # noqa: FBT001 - the hook of a responder
        """Pass a request on to the server and give its reply."""
        kind = socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as connection:
            connection.settimeout(5)
            connection.connect((ADDRESS, self.port))
            connection.sendall(struct.pack("!H", len(request)) + request if is_tcp else request)
            if not is_tcp:
                return connection.recv(65535)
            with connection.makefile("rb") as reply:
                return reply.read(*struct.unpack("!H", reply.read(2)))

    def _answers_all(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "named.log").read_text()[-2000:]
        return all(self._answers(zone) for zone in self.zones)

    def _answers(self, zone: str) -> bool:
        try:
            query = dns.message.make_query(zone, "SOA", flags=0)
            reply = dns.query.udp(query, ADDRESS, timeout=1, port=self.port)
        except (dns.exception.DNSException, OSError):
            return False
        return reply.rcode() == dns.rcode.NOERROR and bool(reply.answer)

    def _zone_file(self, zone: str) -> Path:
        return self.folder / f"{zone}.zone"

    def _format_zone(self, zone: str) -> str:
        lines = ["$TTL 300", f"$ORIGIN {zone}.", "@ SOA ns1 hostmaster 1 3600 600 86400 300"]
        for number, address in enumerate(self.nameservers, 1):
            lines += [f"@ NS ns{number}", f"ns{number} A {address}"]
        return "\n".join([*lines, *self.records, ""])

    def _format_configuration(self) -> str:
        return f"""
            options {{
                directory "{self.folder}"; pid-file none; session-keyfile none; managed-keys-directory "{self.folder}";
                listen-on port {self.port} {{ {ADDRESS}; }}; listen-on-v6 {{ none; }};
                port {self.port}; recursion no; dnssec-validation no; empty-zones-enable no;
                notify yes; notify-delay 0;
                tcp-clients 50; tcp-listen-queue 50; serial-query-rate 1000; min-refresh-time 1;
            }};
            controls {{ }};
            key "{self.key_name}" {{ algorithm {self.algorithm}; secret "{self.secret}"; }};
            {"".join(self._format_zone_statement(zone) for zone in self.zones)}
        """

    def _format_zone_statement(self, zone: str) -> str:
        start = f'zone "{zone}" {{ file "{self._zone_file(zone)}"'
        if self.primary_port is not None:
            return f"{start}; type secondary; primaries {{ {ADDRESS} port {self.primary_port}; }}; notify no; }};"
        # The least that ptt needs: the TXT records below _domainkey, nothing else.
        return (
            f"{start}; type primary; update-policy {{ grant {self.key_name} wildcard *._domainkey.{zone}. TXT; }}; }};"
        )


def find_named() -> str:
    """Give the path of Debian's named; a missing one fails the test."""
    path = shutil.which("named") or shutil.which("/usr/sbin/named")
    assert path, "named is missing: apt-get install bind9"
    return path


@contextmanager
def running_bind(
    zones: Sequence[str] = ("example.test",),
    *,
    nameservers: Sequence[str] = (ADDRESS,),
    records: Sequence[str] = (),
) -> Iterator[Bind]:
    """Run a primary for these zones in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="ptt-bind-"))
    bind = Bind(folder, free_port(), zones=zones, nameservers=nameservers, records=records)
    try:
        bind.start()
        yield bind
    finally:
        bind.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_secondary(primary: Bind, address: str) -> Iterator[Bind]:
    """Run a secondary of all zones of a primary; to be reached at this address and the port of the primary.

    named listens only on addresses that an interface has, of which 127.0.0.1 is the one of the loopback interface;
    so it has another port there, and what comes to the address is passed on to it, NOTIFY too.
    """
    bind = Bind(primary.folder / address, free_port(), zones=primary.zones, primary_port=primary.port)
    with running_responder(address, primary.port, bind.forward):
        try:
            bind.start()
            yield bind
        finally:
            bind.stop()
