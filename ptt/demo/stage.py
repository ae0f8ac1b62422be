"""Sets the stage: certificates, a TSIG key, and the DNS primary and destination MX, both in this process."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from ptt.demo import site as place
from ptt.demo.certificates import Authority
from ptt.demo.console import Console
from ptt.demo.destination import Destination
from ptt.demo.dns_primary import DnsPrimary, DnsServer
from ptt.demo.mail import Client
from ptt.demo.programs import Commands
from ptt.demo.proof import DnsClient
from ptt.demo.site import Ports, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """All that the steps work with."""

    console: Console
    site: Site
    commands: Commands
    primary: DnsPrimary
    destination: Destination
    ports: Ports
    password: str

    @property
    def dns_client(self) -> DnsClient:
        """Somebody who asks the primary."""
        return DnsClient(place.DNS_ADDRESS, self.ports.dns)

    @property
    def mail_client(self) -> Client:
        """The user's mail program, which trusts the demonstration's authority only."""
        return Client(
            implicit_port=self.ports.implicit,
            starttls_port=self.ports.starttls,
            tls=ssl.create_default_context(cafile=self.site.ca_file),
            password=self.password,
        )


@asynccontextmanager
async def open_stage(
    console: Console, site: Site, commands: Commands, *, password: str, now: datetime
) -> AsyncIterator[Stage]:
    """Write the files and start the servers of the other side; stop them at the end."""
    console.step("The world around: a DNS primary and a destination MX on this machine")
    _issue_certificates(site, now)
    primary = DnsPrimary(place.ZONES, site.save_tsig_key())
    dns, destination = DnsServer(primary), Destination(place.MX_HOST, *site.certificate("mx"))
    try:
        ports = Ports(
            implicit=place.find_free_port(place.INGRESS_ADDRESS),
            starttls=place.find_free_port(place.INGRESS_ADDRESS),
            dns=await dns.start(place.DNS_ADDRESS),
            mx=await destination.start(place.MX_ADDRESS),
        )
        console.tell("DNS primary", f"{place.DNS_ADDRESS} port {ports.dns}, zones {' '.join(place.ZONES)}")
        console.tell("MX", f"{place.MX_HOST} = {place.MX_ADDRESS} port {ports.mx}, takes mail over STARTTLS only")
        console.tell("folder", str(site.directory))
        yield Stage(
            console=console,
            site=site,
            commands=commands,
            primary=primary,
            destination=destination,
            ports=ports,
            password=password,
        )
    finally:
        dns.stop()
        destination.stop()


def list_key_names(stage: Stage) -> list[str]:
    """List the names of the DKIM keys that the primary took from us."""
    taken = (one for one in stage.primary.updates if (one.rcode, one.signer) == ("NOERROR", place.TSIG_NAME))
    return sorted({change.split()[0] for one in taken for change in one.changes})


def _issue_certificates(site: Site, now: datetime) -> None:
    site.ca_file.parent.mkdir(parents=True)
    authority = Authority(now)
    authority.save(site.ca_file)
    authority.issue(place.HOSTNAME, place.INGRESS_ADDRESS, *site.certificate("mail"))
    authority.issue(place.MX_HOST, place.MX_ADDRESS, *site.certificate("mx"))
