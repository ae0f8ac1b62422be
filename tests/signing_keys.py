"""Key rings with keys that sign at once."""

from datetime import UTC, datetime
from pathlib import Path

from ptt.core.address import Domain
from ptt.core.signature import Algorithm, Selector
from ptt.signing.key_files import KeyState
from ptt.signing.keys import KeyRing, SigningKey

DOMAIN = Domain("example.test")
SIGNED_AT = datetime.now(UTC)
"""Verifiers compare t= and x= with the clock."""


def add_active_key(
    ring: KeyRing,
    algorithm: Algorithm,
    *,
    domain: Domain = DOMAIN,
    selector: str | None = None,
    at: datetime = SIGNED_AT,
) -> SigningKey:
    """Create a key and mark it as published and active."""
    key = ring.create_key(domain, Selector(selector) if selector else None, algorithm, created_at=at)
    ring.set_state(key, KeyState.PUBLISHED, at=at)
    ring.set_state(key, KeyState.ACTIVE, at=at)
    return key


def make_ring(folder: Path, *algorithms: Algorithm, domain: Domain = DOMAIN) -> tuple[KeyRing, dict[str, str]]:
    """Make a ring with one active key of each algorithm, and their DNS records by name."""
    ring = KeyRing(folder)
    keys = [add_active_key(ring, algorithm, domain=domain) for algorithm in algorithms]
    return ring, {key.record_name: key.record for key in keys}
