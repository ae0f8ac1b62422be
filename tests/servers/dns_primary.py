"""What all DNS primaries of the tests have: a zone, a TSIG key, a folder, and a process that is waited for."""

import base64
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.tsig

from tests.servers.ports import free_port
from tests.waiting import wait_until

ADDRESS = "127.0.0.1"
SAMPLES = Path(__file__).parents[2] / "ops/dns"
SAMPLE_ZONE = "example.org"
KEY_NAME = "ptt"
ALGORITHM = "hmac-sha256"


@dataclass
class DnsPlace:
    """Where a server runs, what it serves and who may update it."""

    folder: Path
    zone: str
    records: tuple[str, ...] = ()
    """Lines of the zone file; names are relative to the zone."""
    port: int = field(default_factory=free_port)
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())

    @property
    def tsig_key(self) -> dns.tsig.Key:
        """Give the TSIG key as dnspython has it."""
        return dns.tsig.Key(KEY_NAME, self.secret, ALGORITHM)

    @property
    def zone_file(self) -> Path:
        """Give the file with the zone."""
        return self.folder / f"{self.zone}.zone"

    def write_zone(self) -> None:
        """Write the zone with this server as its only one."""
        head = ("$TTL 300", f"$ORIGIN {self.zone}.", "@ SOA ns1 hostmaster 1 3600 600 86400 300", "@ NS ns1")
        self.zone_file.write_text("\n".join([*head, f"ns1 A {ADDRESS}", *self.records, ""]))

    def read_sample(self, name: str, changes: Mapping[str, str] | None = None) -> str:
        """Give a file of ops/dns/ with the zone and the secret of this place in it."""
        text = (SAMPLES / name).read_text()
        for old, new in {SAMPLE_ZONE: self.zone, "SECRET": self.secret, **(changes or {})}.items():
            assert old in text or old in {SAMPLE_ZONE, "SECRET"}, f"{name} has no {old}"
            text = text.replace(old, new)
        return text

    def ask(self, name: str, rdtype: str = "TXT") -> dns.message.Message:
        """Ask the server for records."""
        return dns.query.tcp(dns.message.make_query(name, rdtype, flags=0), ADDRESS, timeout=30, port=self.port)

    def get_texts(self, name: str) -> list[str]:
        """Give each TXT record of a name, its strings put together."""
        answer = self.ask(name).answer
        return [b"".join(rdata.strings).decode() for rrset in answer for rdata in rrset]

    def is_ready(self) -> bool:
        """Tell whether the server answers for its zone."""
        try:
            query = dns.message.make_query(self.zone, "SOA", flags=0)
            reply = dns.query.udp(query, ADDRESS, timeout=1, port=self.port)
        except (dns.exception.DNSException, OSError):
            return False
        return reply.rcode() == dns.rcode.NOERROR and bool(reply.answer)


class Prepare(Protocol):
    """Writes the configuration of a server and gives the command that runs it in the foreground."""

    def __call__(self, place: DnsPlace) -> list[str]:
        """Prepare the folder."""


def find_program(name: str, package: str) -> str:
    """Give the path of a program of Debian; a missing one fails the test."""
    path = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    assert path, f"{name} is missing: apt-get install {package}"
    return path


@contextmanager
def running_primary(prepare: Prepare, zone: str, records: tuple[str, ...] = ()) -> Iterator[DnsPlace]:
    """Run a server for a zone in a temporary folder."""
    place = DnsPlace(Path(tempfile.mkdtemp(prefix="ptt-dns-")), zone, records)
    log_file = place.folder / "log"
    with log_file.open("ab") as log:
        place.write_zone()
        process = subprocess.Popen(prepare(place), stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, log_file.read_text()[-2000:]
            return place.is_ready()

        wait_until(answers, f"the DNS server answers, see {log_file}")
        yield place
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(place.folder, ignore_errors=True)


def prepare_bind(place: DnsPlace) -> list[str]:
    """Prepare BIND with the sample policy."""
    configuration = place.folder / "named.conf"
    options = f"""
        options {{
            directory "{place.folder}"; pid-file none; session-keyfile none; managed-keys-directory "{place.folder}";
            listen-on port {place.port} {{ {ADDRESS}; }}; listen-on-v6 {{ none; }};
            recursion no; dnssec-validation no; empty-zones-enable no; notify no;
        }};
        controls {{ }};
    """
    sample = place.read_sample("bind.conf", {f"/var/lib/bind/{place.zone}.zone": str(place.zone_file)})
    configuration.write_text(options + sample)
    return [find_program("named", "bind9"), "-g", "-c", str(configuration), "-n", "1"]


def prepare_knot(place: DnsPlace) -> list[str]:
    """Prepare Knot DNS with the sample policy."""
    configuration = place.folder / "knot.conf"
    own = f"""
server:
    rundir: "{place.folder}"
    listen: {ADDRESS}@{place.port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{place.folder}"
template:
  - id: default
    storage: "{place.folder}"
    file: "%s.zone"
"""
    configuration.write_text(own + place.read_sample("knot.conf"))
    return [find_program("knotd", "knot"), "-c", str(configuration)]


def prepare_powerdns(place: DnsPlace) -> list[str]:
    """Prepare PowerDNS with SQLite and the sample policy."""
    policy = place.folder / "powerdns-policy.lua"
    policy.write_text(place.read_sample("powerdns-policy.lua"))
    database = place.folder / "zones.sqlite3"
    sample = place.read_sample("powerdns.conf", {"/etc/powerdns/powerdns-policy.lua": str(policy)})
    own = f"""
launch=gsqlite3
gsqlite3-database={database}
local-address={ADDRESS}
local-port={place.port}
socket-dir={place.folder}
security-poll-suffix=
zone-cache-refresh-interval=0
receiver-threads=1
distributor-threads=1
"""
    (place.folder / "pdns.conf").write_text(own + sample)
    schema = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
    with sqlite3.connect(database) as connection:
        connection.executescript(schema.read_text())
    connection.close()
    pdnsutil = (find_program("pdnsutil", "pdns-server"), "--config-dir", str(place.folder))
    for arguments in (
        ("load-zone", place.zone, str(place.zone_file)),
        ("import-tsig-key", KEY_NAME, ALGORITHM, place.secret),
        ("set-meta", place.zone, "TSIG-ALLOW-DNSUPDATE", KEY_NAME),
    ):
        subprocess.run([*pdnsutil, *arguments], check=True, capture_output=True, timeout=60)
    return [
        find_program("pdns_server", "pdns-server pdns-backend-sqlite3"),
        f"--config-dir={place.folder}",
        "--daemon=no",
        "--guardian=no",
        "--disable-syslog",
        "--write-pid=no",
    ]


PRIMARIES: Mapping[str, Prepare] = {"bind": prepare_bind, "knot": prepare_knot, "powerdns": prepare_powerdns}
