"""Keys from a seed: the derivation is fixed for ever, and a bad seed makes no key."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from ptt.core.address import Domain
from ptt.core.errors import MalformedInput
from ptt.core.signature import Selector
from ptt.signing.key_files import PrivateKey
from ptt.signing.key_making import KeyKind, derive_private_key, derive_selector, find_kind, load_seed
from ptt.signing.keys import KeyRing
from tests.signing_keys import DOMAIN

SEED = bytes(range(32))
S1 = Selector("s1")

VECTORS = {
    KeyKind.ED25519: "fd913ebf5ece1a9c9a36ecb6b4379e8c5c6b3117ab079aed0d44bc7e3c04d0a8",
    KeyKind.RSA2048: "4b1968051ef73496153c3bc0a14685031b70fdd768aea0dec7a1cec32e1ada07",
    KeyKind.RSA3072: "0a5293ec6ec15d59ac98c96c33324255effbeef51cf7ccebe2e634e94ed157e6",
    KeyKind.RSA4096: "64f030fa6c01fc5b662a471360c2615338acd561a118e09528630c887825ba85",
}
"""SHA-256 of the DNS record that follows from SEED, example.test and s1; docs/key-derivation.md has the same."""


def get_public(key: PrivateKey) -> bytes:
    """Give the public key in DER."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("kind", [KeyKind.ED25519, KeyKind.RSA2048, KeyKind.RSA3072])
def test_derived_key_is_that_of_the_vector(tmp_path: Path, kind: KeyKind) -> None:
    """What a seed gives never changes; RSA of 4096 bits takes the same path and five seconds."""
    key = derive_private_key(SEED, DOMAIN, S1, kind)
    kept = KeyRing(tmp_path).add_key(DOMAIN, S1, key, created_at=datetime.now(UTC))
    assert hashlib.sha256(kept.record.encode()).hexdigest() == VECTORS[kind]
    assert find_kind(key) is kind
    [loaded] = KeyRing(tmp_path).list_keys(DOMAIN)
    assert getattr(loaded, "record", None) == kept.record


def test_derived_ed25519_key_is_plain_hkdf_of_the_seed() -> None:
    """RFC 5869 by hand: anybody can derive the key without our code."""
    extracted = hmac.digest(b"ptt dkim key 1", SEED, "sha256")
    secret = hmac.digest(extracted, b"key\0example.test\0ed25519\0s1\x01", "sha256")
    expected = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    assert get_public(derive_private_key(SEED, DOMAIN, S1, KeyKind.ED25519)) == get_public(expected)


def test_derived_rsa_key_has_sound_primes() -> None:
    """FIPS 186-5 appendix A.1.1: the lengths are right, p and q are apart, and the parts fit together."""
    key = derive_private_key(SEED, DOMAIN, S1, KeyKind.RSA2048)
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    assert (key.key_size, numbers.public_numbers.e) == (2048, 65537)
    assert numbers.p * numbers.q == numbers.public_numbers.n
    assert {numbers.p.bit_length(), numbers.q.bit_length()} == {1024}
    assert abs(numbers.p - numbers.q) > 1 << 924


@pytest.mark.parametrize(
    ("seed", "domain", "selector"),
    [(bytes(32), "example.test", "s1"), (SEED, "other.test", "s1"), (SEED, "example.test", "s2")],
)
def test_derived_key_of_another_seed_domain_or_selector_is_another(seed: bytes, domain: str, selector: str) -> None:
    """One seed may serve for all domains and rotations: no two names share a key."""
    keys = [
        derive_private_key(SEED, DOMAIN, S1, KeyKind.ED25519),
        derive_private_key(seed, Domain(domain), Selector(selector), KeyKind.ED25519),
    ]
    assert get_public(keys[0]) != get_public(keys[1])


def test_derived_selector_is_the_same_again_and_no_other_kinds() -> None:
    """Without a selector the same command finds the same key."""
    selectors = [derive_selector(SEED, DOMAIN, kind) for kind in (KeyKind.ED25519, KeyKind.ED25519, KeyKind.RSA2048)]
    assert selectors == ["ptt-9e2d1d92", "ptt-9e2d1d92", "ptt-aa004eec"]


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (base64.b64encode(bytes(15)), 0o600, "has 15 octets"),
        (b"not base64!", 0o600, "is no base64"),
        (b"", 0o600, "has 0 octets"),
        (base64.b64encode(SEED), 0o640, "has mode 0640"),
        (None, 0o600, "No such file"),
    ],
)
def test_load_seed_of_a_bad_file_names_it(tmp_path: Path, content: bytes | None, mode: int, reason: str) -> None:
    """A seed is as secret as the keys that it gives, and one that can be guessed is none."""
    path = tmp_path / "seed"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(MalformedInput, match=f"seed: .*{reason}"):
        load_seed(path)


def test_load_seed_takes_base64_with_a_line_end(tmp_path: Path) -> None:
    """As ``openssl rand -base64 32`` writes it."""
    path = tmp_path / "seed"
    path.write_bytes(base64.b64encode(SEED) + b"\n")
    path.chmod(0o600)
    assert load_seed(path) == SEED
