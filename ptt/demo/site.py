"""Where the demonstration takes place: addresses, zones, and what its owner would write into ptt.toml by hand."""

import base64
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dns.tsig

from ptt.demo.programs import DemoFailed

INGRESS_ADDRESS = "127.0.0.1"
DNS_ADDRESS = "127.0.0.2"
MX_ADDRESS = "127.0.0.3"

DOMAIN = "example.test"
HOSTNAME = f"mail.{DOMAIN}"
MX_HOST = "mx.destination.test"
TSIG_NAME = "ptt-demo."
TSIG_SECRET = "tsig.secret"  # noqa: S105 - the name of the file
CA_FILE = "tls/ca.pem"
LOGIN = "alice"
ADDRESS = f"alice@{DOMAIN}"

ZONES = {
    f"{DOMAIN}.": f"""\
$TTL 300
@    SOA ns1 hostmaster 1 3600 600 86400 1
@    NS  ns1
ns1  A   {DNS_ADDRESS}
@    MX  10 mail
mail A   {INGRESS_ADDRESS}
""",
    "destination.test.": f"""\
$TTL 300
@    SOA ns1.{DOMAIN}. hostmaster 1 3600 600 86400 1
@    NS  ns1.{DOMAIN}.
@    MX  10 mx
mx   A   {MX_ADDRESS}
""",
    "elsewhere.test.": f"""\
$TTL 300
@    SOA ns1.{DOMAIN}. hostmaster 1 3600 600 86400 1
@    NS  ns1.{DOMAIN}.
@    MX  10 {MX_HOST}.
""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where everybody listens."""

    implicit: int
    starttls: int
    dns: int
    mx: int


@dataclass(frozen=True, slots=True)
class Site:
    """One folder with everything in it."""

    directory: Path

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that all here trust."""
        return self.directory / CA_FILE

    def certificate(self, name: str) -> tuple[Path, Path]:
        """Give the files of a server's certificate and key."""
        folder = self.ca_file.parent
        return folder / f"{name}.pem", folder / f"{name}.key"

    def save_tsig_key(self) -> dns.tsig.Key:
        """Make the TSIG key that the primary and ptt share, and write its secret."""
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        path = self.directory / TSIG_SECRET
        path.touch(mode=0o600)
        path.write_text(f"{secret}\n", encoding="ascii")
        return dns.tsig.Key(TSIG_NAME, secret, "hmac-sha256")

    def edit_config(self, edits: Mapping[str, str]) -> None:
        """Change values in the ptt.toml that `ptt init` wrote.

        Raises:
            DemoFailed: it has no such key.
        """
        path = self.directory / "ptt.toml"
        text = path.read_text(encoding="utf-8")
        for dotted, value in edits.items():
            text = edit_toml(text, dotted, value)
        path.write_text(text, encoding="utf-8")


def list_edits(ports: Ports) -> dict[str, str]:
    """List what this place needs in ptt.toml: unprivileged ports, our DNS primary, our authority."""
    listen = ", ".join(
        f'{{ address = "{INGRESS_ADDRESS}", port = {port}, tls = "{tls}" }}'
        for port, tls in ((ports.implicit, "implicit"), (ports.starttls, "starttls"))
    )
    return {
        "ingress.listen": f"[{listen}]",
        "dns_update.server": f'"{DNS_ADDRESS}"',
        "dns_update.port": str(ports.dns),
        "dns_update.check_port": str(ports.dns),
        "dns_update.tsig_key_name": f'"{TSIG_NAME}"',
        "dns_update.tsig_secret_file": f'"{TSIG_SECRET}"',
        "relay.resolvers": f'["{DNS_ADDRESS}"]',
        "relay.resolver_port": str(ports.dns),
        "relay.smtp_port": str(ports.mx),
        "relay.allow_private_addresses": "true",
        "relay.ca_file": f'"{CA_FILE}"',
    }


def edit_toml(text: str, dotted: str, value: str) -> str:
    """Set one key of a commented ptt.toml, as a person would: in its place, the ``#`` before it removed.

    Raises:
        DemoFailed: there is no such line.
    """
    section, _, key = dotted.partition(".")
    head, opening, rest = text.partition(f"\n[{section}]\n")
    table, closing, tail = rest.partition("\n[")
    edited, count = re.subn(
        rf"^(?:# )?{key} = (?:\[\n(?: .*\n)*\]|.*)$", lambda _: f"{key} = {value}", table, count=1, flags=re.MULTILINE
    )
    if not count:
        raise DemoFailed(f"ptt.toml as `ptt init` wrote it has no {dotted}")
    return head + opening + edited + closing + tail


def find_free_port(address: str) -> int:
    """Give a port that nobody listens on now."""
    with socket.create_server((address, 0)) as probe:
        return int(probe.getsockname()[1])
