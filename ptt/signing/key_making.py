"""Makes private keys: random ones, and ones that follow from a seed, so that a lost key can be made again.

The derivation is written down in docs/key-derivation.md and fixed by test vectors: a change of one octet here would
give every seed another key. RFC 5869 (HKDF), RFC 8032 (Ed25519), RFC 8439 (ChaCha20), FIPS 186-5 appendix A.1 (RSA).
"""

import binascii
import math
import os
from base64 import b64decode
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptt.core.address import Domain
from ptt.core.errors import MalformedInput
from ptt.core.signature import Algorithm, Selector
from ptt.signing.key_files import PrivateKey, read_private

MIN_SEED_BYTES = 16
"""128 bits: a shorter seed could be guessed, and each key with it."""

_EXPONENT = 65537
_SALT = b"ptt dkim key 1"
_ROUNDS = 20
"""Of Miller-Rabin for random candidates: FIPS 186-5 table B.1 asks for 5 at most; more cost little."""
_SMALL_PRIMES = math.prod(n for n in range(3, 2000, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2)))


class KeyKind(StrEnum):
    """What a person may ask for: an algorithm and, for RSA, the number of bits."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"

    @property
    def algorithm(self) -> Algorithm:
        """Give the a= tag."""
        return Algorithm.ED25519_SHA256 if self is KeyKind.ED25519 else Algorithm.RSA_SHA256

    @property
    def bits(self) -> int:
        """Give the length of the modulus; 256 for Ed25519."""
        return 256 if self is KeyKind.ED25519 else int(self.value.removeprefix("rsa"))


def find_kind(key: PrivateKey) -> KeyKind:
    """Tell of which kind a key is; an RSA key of an odd length counts as the next longer one."""
    if not isinstance(key, rsa.RSAPrivateKey):
        return KeyKind.ED25519
    kinds = (KeyKind.RSA2048, KeyKind.RSA3072)
    return next((kind for kind in kinds if key.key_size <= kind.bits), KeyKind.RSA4096)


def generate_private_key(kind: KeyKind) -> PrivateKey:
    """Make a random key."""
    if kind is KeyKind.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=_EXPONENT, key_size=kind.bits)


def load_seed(path: Path) -> bytes:
    """Read a seed: base64 of 16 octets at least, in a file that nobody else may read.

    Raises:
        MalformedInput: naming the file and what is wrong with it.
    """
    try:
        seed = b64decode(read_private(path).strip(), validate=True)
    except OSError as error:
        raise MalformedInput(f"{path}: cannot be read: {error.strerror}") from error
    except binascii.Error as error:
        raise MalformedInput(f"{path}: is no base64") from error
    except MalformedInput as error:
        raise MalformedInput(f"{path}: {error}") from error
    if len(seed) < MIN_SEED_BYTES:
        raise MalformedInput(f"{path}: has {len(seed)} octets, a seed needs {MIN_SEED_BYTES} at least")
    return seed


def derive_selector(seed: bytes, domain: Domain, kind: KeyKind) -> Selector:
    """Give the selector of a key that is asked for without one: the same seed finds it again."""
    return Selector(f"ptt-{_expand(seed, 'selector', domain, kind)[:4].hex()}")


def derive_private_key(seed: bytes, domain: Domain, selector: Selector, kind: KeyKind) -> PrivateKey:
    """Make the one key that follows from seed, domain, selector and kind; an RSA key takes up to some seconds.

    Args:
        seed: secret, of 16 octets at least.
        domain: whom the key signs for.
        selector: its name.
        kind: algorithm and length.
    """
    secret = _expand(seed, "key", domain, kind, selector)
    if kind is KeyKind.ED25519:
        return ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    # RFC 8439 section 2.4: the key stream of ChaCha20 with an empty nonce; each secret is used once.
    stream = Cipher(ChaCha20(secret, bytes(16)), mode=None).encryptor()
    return _make_rsa(lambda size_bytes: stream.update(bytes(size_bytes)), kind.bits)


def _expand(seed: bytes, *purpose: str) -> bytes:
    # The parts hold no NUL, so no two lists of parts give the same octets.
    return HKDF(hashes.SHA256(), length=32, salt=_SALT, info="\0".join(purpose).encode()).derive(seed)


def _make_rsa(draw: Callable[[int], bytes], bits: int) -> rsa.RSAPrivateKey:
    while True:
        p, q = _draw_prime(draw, bits // 2), _draw_prime(draw, bits // 2)
        # FIPS 186-5 appendix A.1.1: p and q must be far from each other, and d must not be small.
        if abs(p - q) <= 1 << (bits // 2 - 100):
            continue
        d = pow(_EXPONENT, -1, math.lcm(p - 1, q - 1))
        if d > 1 << (bits // 2):
            break
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=d % (p - 1),
        dmq1=d % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(_EXPONENT, p * q),
    )
    return numbers.private_key()


def _draw_prime(draw: Callable[[int], bytes], bits: int) -> int:
    """Draw candidates until one is prime: big-endian, the two highest bits and the lowest set."""
    highest = 3 << (bits - 2)
    while True:
        candidate = int.from_bytes(draw(bits // 8)) | highest | 1
        if math.gcd(candidate, _SMALL_PRIMES) > 1 or math.gcd(candidate - 1, _EXPONENT) > 1:
            continue
        if _is_prime(candidate):
            return candidate


def _is_prime(number: int) -> bool:
    """Test by Miller and Rabin, to random bases: which ones has no influence on what a seed gives."""
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    bases = (2 + int.from_bytes(os.urandom(32)) for _ in range(_ROUNDS))
    return all(_is_witnessed(pow(base, odd, number), number, twos) for base in bases)


def _is_witnessed(power: int, number: int, twos: int) -> bool:
    if power in {1, number - 1}:
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
