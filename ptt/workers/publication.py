"""Brings a DKIM key from the key ring into the DNS and out of it, and back comes the leave to sign with it.

The one place where keys and DNS meet: ``signing`` knows no DNS and ``dns`` knows no keys.
"""

from dataclasses import dataclass
from datetime import datetime

from ptt import maillog
from ptt.core.errors import ConfigError
from ptt.dns.primary import Primary, load_tsig_key
from ptt.dns.update import publish_key_record, remove_key_record, revoke_key_record
from ptt.dns.zone import Lag, StubResolver, find_nameservers, wait_until_served
from ptt.settings import Settings
from ptt.signing.key_files import KeyState, KeyStatus
from ptt.signing.keys import KeyRing, SigningKey

_UNPUBLISHED = frozenset({KeyState.CREATED, KeyState.RETIRED})
_EVENTS = {
    KeyState.PUBLISHED: "key.published",
    KeyState.ACTIVE: "key.activated",
    KeyState.RETIRING: "key.retiring",
    KeyState.RETIRED: "key.retired",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Publishes keys; without ``primary`` somebody else puts the records into the zone."""

    ring: KeyRing
    primary: Primary | None
    ttl_s: int
    resolver: StubResolver
    check_port: int

    def send(self, key: SigningKey, *, at: datetime, is_new: bool = False) -> None:
        """Send the record of a key to the primary, if there is one to send it to.

        Raises:
            Unavailable: the primary does not answer.
            UpdateRefused: it does not take the record, or ``is_new`` and the name belongs to another key.
        """
        if self.primary is None:
            return
        publish_key_record(self.primary, key.record_name, key.record, ttl_s=self.ttl_s, is_new=is_new)
        if key.status.state in _UNPUBLISHED:
            self.reach(key, KeyState.PUBLISHED, at=at)

    def find_lags(self, key: SigningKey, *, wait_s: float = 0) -> tuple[Lag, ...]:
        """Ask every authoritative server for the record of a key, until all answer it or the time is up.

        Returns:
            One for each server that did not answer exactly the record.

        Raises:
            Unavailable: the servers cannot be found now.
            UpdateRefused: the primary has no zone of the key.
        """
        servers = find_nameservers(key.record_name, self.resolver, self.primary)
        return wait_until_served(servers, self.check_port, key.record_name, key.record, wait_s=wait_s)

    def activate(self, key: SigningKey, *, at: datetime, wait_s: float) -> tuple[Lag, ...]:
        """Let a key sign once every authoritative server answers exactly its record.

        Returns:
            One for each server that did not within ``wait_s``; the key then stays as it is.

        Raises:
            Unavailable: the servers cannot be found now.
            UpdateRefused: the primary has no zone of the key.
        """
        lags = self.find_lags(key, wait_s=wait_s)
        if not lags:
            self.let_sign(key, at=at)
        return lags

    def let_sign(self, key: SigningKey, *, at: datetime) -> None:
        """Make a key active whose record all servers answer."""
        if self.primary is None and key.status.state in _UNPUBLISHED:
            self.reach(key, KeyState.PUBLISHED, at=at)
        self.reach(key, KeyState.ACTIVE, at=at)

    def resume(self, key: SigningKey) -> None:
        """Let a suspended key sign again whose record all servers answer."""
        self.ring.change_status(key, KeyStatus.resume)
        maillog.emit("key.resumed", signing_domain=key.domain, selector=key.selector)

    def withdraw(self, key: SigningKey) -> None:
        """Remove the record of a key from the primary, if there is one.

        Raises:
            Unavailable: the primary does not answer.
            UpdateRefused: it does not do it.
        """
        if self.primary is not None:
            remove_key_record(self.primary, key.record_name, key.record)

    def revoke(self, key: SigningKey) -> None:
        """Put an empty ``p=`` in the place of a key, if there is a primary.

        Raises:
            Unavailable: the primary does not answer.
            UpdateRefused: it does not do it.
        """
        if self.primary is not None:
            revoke_key_record(self.primary, key.record_name, key.record, ttl_s=self.ttl_s)

    def declare_void(self, key: SigningKey, *, at: datetime) -> None:
        """Record durably that a key must never sign again, and log it."""
        self.ring.change_status(key, lambda status: status.revoke(at))
        maillog.emit("key.revoked", signing_domain=key.domain, selector=key.selector)

    def reach(self, key: SigningKey, state: KeyState, *, at: datetime) -> None:
        """Record durably that a key reached a state, and log it."""
        self.ring.set_state(key, state, at=at)
        maillog.emit(_EVENTS[state], signing_domain=key.domain, selector=key.selector)


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
        absent = "tsig_secret_file" if update.tsig_key_name else "tsig_key_name"
        raise ConfigError(f"dns_update.{absent}: missing; dns_update.server needs it")
    tsig_key = load_tsig_key(update.tsig_key_name, update.tsig_secret_file, update.tsig_algorithm)
    return Primary(address=str(update.server), port=update.port, key=tsig_key)
