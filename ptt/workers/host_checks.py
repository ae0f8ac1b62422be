"""Checks of one host, one small function each: Redis, secrets, certificates, our name, the way out.

Nothing is changed by a check. What cannot be asked is unknown, what is not configured here is skipped; neither is fine.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ptt.core.errors import PttError, Unavailable
from ptt.core.finding import Finding, Health
from ptt.dns.served import resolve_addresses, resolve_names
from ptt.dns.zone import StubResolver
from ptt.settings import Certificate, Settings
from ptt.signing.key_files import list_exposed
from ptt.store.server import list_unsafe
from ptt.workers.wiring import find_spool, read_seal_key

RENEWAL = timedelta(days=14)
"""How long before its end a certificate is taken for forgotten: automatic renewal comes 30 days before."""
SMTP_TIMEOUT_S = 20.0
"""How long a host may take to greet us: RFC 5321 section 4.5.3.2.1 allows more, a healthy one needs a second."""

Judgement = tuple[Health, str, str]
"""Health, detail and advice."""

NOT_HERE = "not configured here"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChecks:
    """Checks this host."""

    settings: Settings
    now: Callable[[], datetime]
    smtp_host: str = ""
    """A mail host to reach from here; none if empty."""

    def run(self) -> Iterator[Finding]:
        """Run all checks."""
        checks: tuple[tuple[str, str, Callable[[], Judgement]], ...] = (
            ("redis.safe", (self.settings.redis.url and "redis.url") or "ptt up", self._check_redis),
            ("seal_key.readable", str(self.settings.ingress.seal_key_file or ""), self._check_seal_key),
            ("keys.private", str(self.settings.signing.keys_dir or ""), self._check_keys_dir),
            ("helo.confirmed", self.settings.ehlo_hostname, self._check_helo),
            ("smtp.reachable", self.smtp_host, self._check_smtp),
        )
        for name, subject, check in checks:
            yield run_check(name, subject, check)
        for certificate in self.settings.ingress.all_certificates:
            path = str(certificate.certificate_file)
            yield run_check("certificate.valid", path, partial(self._check_certificate, certificate))

    def _check_redis(self) -> Judgement:
        try:
            address = find_spool(self.settings)
        except Unavailable as error:
            return Health.UNKNOWN, str(error), "start `ptt up`, or set redis.url"
        try:
            problems = list_unsafe(address)
        except Unavailable as error:
            return Health.PROBLEM, f"does not answer: {error}", ""
        if problems:
            return Health.PROBLEM, "; ".join(problems), "see ops/redis/ptt.conf"
        return Health.OK, "keeps what it acknowledges", ""

    def _check_seal_key(self) -> Judgement:
        path = self.settings.ingress.seal_key_file
        if path is None:
            return Health.SKIPPED, NOT_HERE, ""
        read_seal_key(self.settings)
        if path.stat().st_mode & 0o007:
            return Health.PROBLEM, "can be read by everybody on this host", f"chmod o= {path}"
        return Health.OK, "holds a key", ""

    def _check_keys_dir(self) -> Judgement:
        folder = self.settings.signing.keys_dir
        if folder is None:
            return Health.SKIPPED, NOT_HERE, ""
        if exposed := list_exposed(folder):
            return Health.PROBLEM, "; ".join(exposed), f"chmod 600 {folder}/*/*.pem, and rotate these keys"
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return Health.PROBLEM, "cannot be written to by this user", "the sign role must be able to"
        return Health.OK, "for its owner alone", ""

    def _check_helo(self) -> Judgement:
        hostname = self.settings.ehlo_hostname
        if not hostname:
            return Health.SKIPPED, NOT_HERE, ""
        relay = self.settings.relay
        resolver = StubResolver(tuple(map(str, relay.resolvers)), relay.resolver_port)
        addresses = resolve_addresses(resolver, hostname)
        if not addresses:
            return Health.PROBLEM, "has no address", f"{hostname}. 3600 IN A (the address that mail is sent from)"
        # Large receivers refuse hosts whose address does not lead to a name that leads back.
        faults = [
            f"{address} is named {', '.join(names) or 'nothing'} by the reverse DNS"
            for address in addresses
            if hostname not in (names := resolve_names(resolver, address))
        ]
        if faults:
            return Health.PROBLEM, "; ".join(faults), f"let its owner set the PTR record to {hostname}."
        return Health.OK, f"{', '.join(addresses)}, and back", ""

    def _check_smtp(self) -> Judgement:
        if not self.smtp_host:
            return Health.SKIPPED, "ask for it with --smtp-host", ""
        port = self.settings.relay.smtp_port
        try:
            with socket.create_connection((self.smtp_host, port), SMTP_TIMEOUT_S) as connection:
                greeting = connection.recv(512).decode("ascii", "replace").strip()
                with suppress(OSError):
                    connection.sendall(b"QUIT\r\n")
        except OSError as error:
            return Health.PROBLEM, f"port {port} cannot be reached: {error}", "many networks close it: ask the provider"
        return (Health.OK if greeting.startswith("220") else Health.PROBLEM), greeting or "says nothing", ""

    def _check_certificate(self, files: Certificate) -> Judgement:
        certificate = x509.load_pem_x509_certificates(files.certificate_file.read_bytes())[0]
        key = serialization.load_pem_private_key(files.key_file.read_bytes(), password=None)
        if key.public_key() != certificate.public_key():
            return Health.PROBLEM, "does not belong to its key", ""
        if fault := _find_date_fault(certificate, self.now()):
            return Health.PROBLEM, fault, "renew it"
        names, hostname = _list_names(certificate), self.settings.ingress.hostname
        if files == self.settings.ingress.all_certificates[0] and not _covers(names, hostname):
            return Health.PROBLEM, f"is for {', '.join(names) or 'no name'}", f"must be for {hostname}"
        return Health.OK, f"valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", ""


def _find_date_fault(certificate: x509.Certificate, now: datetime) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now < end:
        return f"is valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC only"
    return f"ends soon: {end:%Y-%m-%d %H:%M} UTC" if end - now < RENEWAL else ""


def _list_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]


def _covers(names: list[str], hostname: str) -> bool:
    # RFC 9525 section 6.3: a wildcard stands for one label.
    return hostname in names or f"*.{hostname.partition('.')[2]}" in names


def run_check(name: str, subject: str, check: Callable[[], Judgement]) -> Finding:
    """Run one check; what cannot be asked is unknown, what fails is a problem."""
    try:
        health, detail, advice = check()
    except Unavailable as error:
        health, detail, advice = Health.UNKNOWN, str(error), ""
    except (PttError, OSError, ValueError, TypeError) as error:
        health, detail, advice = Health.PROBLEM, f"cannot be used: {error}", ""
    return Finding(check=name, subject=subject, health=health, detail=detail, advice=advice)
