"""Brings a DKIM key from the key ring into the DNS, and back comes the leave to sign with it.

The one place where keys and DNS meet: ``signing`` knows no DNS and ``dns`` knows no keys.
"""

from dataclasses import dataclass
from datetime import datetime

from ptt import maillog
from ptt.core.errors import ConfigError
from ptt.dns.primary import Primary, load_tsig_key
from ptt.dns.update import publish_key_record
from ptt.dns.zone import StubResolver, find_nameservers, wait_until_served
from ptt.settings import Settings
from ptt.signing.key_files import KeyState
from ptt.signing.keys import KeyRing, SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Publishes keys; without ``primary`` somebody else puts the records into the zone."""

    ring: KeyRing
    primary: Primary | None
    ttl_s: int
    resolver: StubResolver
    check_port: int

    def send(self, key: SigningKey, *, at: datetime) -> None:
        """Send the record of a key to the primary, if there is one to send it to.

        Raises:
            Unavailable: the primary does not answer.
            UpdateRefused: it does not take the record.
        """
        if self.primary is None:
            return
        publish_key_record(self.primary, key.record_name, key.record, ttl_s=self.ttl_s)
        self._record(key, KeyState.PUBLISHED, at)

    def activate(self, key: SigningKey, *, at: datetime, wait_s: float) -> tuple[str, ...]:
        """Let a key sign once every authoritative server answers exactly its record.

        Returns:
            One line for each server that did not within ``wait_s``; the key then stays as it is.

        Raises:
            Unavailable: the servers cannot be found now.
            UpdateRefused: the primary has no zone of the key.
        """
        servers = find_nameservers(key.record_name, self.resolver, self.primary)
        lagging = wait_until_served(servers, self.check_port, key.record_name, key.record, wait_s=wait_s)
        if not lagging:
            if self.primary is None:
                self._record(key, KeyState.PUBLISHED, at)
            self._record(key, KeyState.ACTIVE, at)
        return lagging

    def _record(self, key: SigningKey, state: KeyState, at: datetime) -> None:
        self.ring.set_state(key, state, at=at)
        event = "key.activated" if state is KeyState.ACTIVE else "key.published"
        maillog.emit(event, signing_domain=key.domain, selector=key.selector)


def open_ring(settings: Settings) -> KeyRing:
    """Open the key ring.

    Raises:
        ConfigError: the settings name none.
    """
    if settings.signing.keys_dir is None:
        raise ConfigError("ptt.toml: signing.keys_dir: missing; keys are kept there")
    return KeyRing(settings.signing.keys_dir)


def make_publisher(settings: Settings) -> Publisher:
    """Build the publisher that the settings describe.

    Raises:
        ConfigError: something in them is missing, or the TSIG secret cannot be read.
    """
    update, relay = settings.dns_update, settings.relay
    return Publisher(
        ring=open_ring(settings),
        primary=_make_primary(settings),
        ttl_s=update.ttl_s,
        resolver=StubResolver(tuple(str(address) for address in relay.resolvers), relay.resolver_port),
        check_port=update.check_port,
    )


def _make_primary(settings: Settings) -> Primary | None:
    update = settings.dns_update
    if update.server is None:
        return None
    if update.tsig_secret_file is None or not update.tsig_key_name:
        raise ConfigError("ptt.toml: dns_update: tsig_key_name and tsig_secret_file must be set with server")
    tsig_key = load_tsig_key(update.tsig_key_name, update.tsig_secret_file, update.tsig_algorithm)
    return Primary(address=str(update.server), port=update.port, key=tsig_key)
