"""A folder of keys, a primary and a clock that a test moves: what rotation and the keeper work with."""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from ptt.core.address import Domain
from ptt.core.signature import Algorithm
from ptt.dns.primary import Primary
from ptt.dns.zone import StubResolver
from ptt.signing.key_files import KeyState
from ptt.signing.keys import KeyRing, SigningKey
from ptt.workers.keeper import Keeper
from ptt.workers.publication import Publisher
from ptt.workers.rotation import KeyLife
from tests.servers.bind import Bind
from tests.signing_keys import DOMAIN, SIGNED_AT

KEEP = timedelta(days=12)
EVERY = timedelta(minutes=5)
DAY = timedelta(days=1)


@dataclass
class KeyDesk:
    """Keys of one folder, published on one BIND."""

    folder: Path
    bind: Bind
    port: int = 0
    """Where updates go, if not to the BIND itself."""
    now: datetime = SIGNED_AT
    wait_s: float = 10
    rotate_after: timedelta | None = None
    attempts: int = 1
    timeout_s: float = 5
    keeper: Keeper = field(init=False)

    def __post_init__(self) -> None:
        """Start a keeper that has seen nothing."""
        self.restart()

    def restart(self) -> None:
        """Start anew, as a worker does after a crash."""
        self.keeper = Keeper(life=self.life, every=EVERY, rotate_after=self.rotate_after)

    @property
    def primary(self) -> Primary:
        """Give the primary as ptt knows it."""
        return Primary(
            address=self.bind.address,
            port=self.port or self.bind.port,
            key=self.bind.tsig_key,
            timeout_s=self.timeout_s,
            attempts=self.attempts,
        )

    @property
    def life(self) -> KeyLife:
        """Give the life of these keys, with this clock."""
        return KeyLife(publisher=self.publisher, now=lambda: self.now, wait_s=self.wait_s, keep=KEEP)

    @property
    def publisher(self) -> Publisher:
        """Give what publishes them."""
        return Publisher(
            ring=self.ring,
            primary=self.primary,
            ttl_s=60,
            resolver=StubResolver(("127.0.0.1",), 1),  # nobody listens there: the primary must know all
            check_port=self.bind.port,
        )

    @property
    def ring(self) -> KeyRing:
        """Open the keys as another process would."""
        return KeyRing(self.folder)

    def add_published(self, *, domain: Domain = DOMAIN, algorithm: Algorithm = Algorithm.ED25519_SHA256) -> SigningKey:
        """Make a key that signs, with its record on the real primary."""
        publisher = replace(self.publisher, primary=replace(self.primary, port=self.bind.port, attempts=4))
        key = publisher.ring.create_key(domain, None, algorithm, created_at=self.now)
        publisher.send(key, at=self.now)
        assert not publisher.activate(key, at=self.now, wait_s=10)
        return self.get_key(key.selector, domain)

    def get_key(self, selector: str, domain: Domain = DOMAIN) -> SigningKey:
        """Read a key anew."""
        [key] = [key for key in self.ring.list_keys(domain) if isinstance(key, SigningKey) and key.selector == selector]
        return key

    def list_states(self, domain: Domain = DOMAIN) -> dict[str, KeyState]:
        """Give the state of each key by selector."""
        return {key.selector: key.status.state for key in self.ring.list_keys(domain) if isinstance(key, SigningKey)}

    def list_signing(self, domain: Domain = DOMAIN) -> set[str]:
        """Give the selectors that sign."""
        keys = (key for key in self.ring.list_keys(domain) if isinstance(key, SigningKey))
        return {key.selector for key in keys if key.status.is_signing}


def list_events(stderr: str) -> list[str]:
    """Give the events that were logged."""
    return [json.loads(line)["event"] for line in stderr.splitlines() if line.startswith("{")]
