"""What stands for a user who is not there, so that nobody can tell by time or answer that he is not.

Users' hashes may differ in cost, and their SCRAM verifiers in iterations and length of salt. Each unknown login gets
the parameters of one of the users, as often as users have them, and always the same: it is chosen by a seed that
depends on nothing but the login and a key. So no login stands out, and few change when other users come and go.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import Generic, TypeVar

from ptt.core.scram import ITERATIONS, SALT_BYTES, ScramVerifier
from ptt.core.user import User
from ptt.store.users_password import ENCODED_DECOY

_Kind = TypeVar("_Kind", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Weighted(Generic[_Kind]):
    """Kinds with how many there are of each, summed up."""

    kinds: tuple[_Kind, ...]
    sums: tuple[int, ...]

    def pick(self, seed: bytes) -> _Kind:
        """Pick one, each as often as there are of it; always the same for a seed."""
        place = int.from_bytes(seed[:8], "big") * self.sums[-1] >> 64
        return self.kinds[bisect_right(self.sums, place)]


@dataclass(frozen=True, slots=True)
class Decoys:
    """What decoys are made like."""

    hashes: Weighted[tuple[str, str]] = Weighted((("", ENCODED_DECOY),), (1,))
    """Parameters of Argon2id, with a hash that has them."""
    verifiers: Weighted[tuple[int, int]] = Weighted(((ITERATIONS, SALT_BYTES),), (1,))
    """Iterations and octets of salt."""

    def pick_hash(self, seed: bytes) -> str:
        """Give a hash that takes as long as that of a user."""
        return self.hashes.pick(seed)[1]

    def make_verifier(self, seed: bytes) -> ScramVerifier:
        """Make a verifier that looks like that of a user, and that no password fits."""
        iterations, salt_bytes = self.verifiers.pick(seed)
        salt = _derive(seed, b"salt")[:salt_bytes]
        return ScramVerifier(iterations, salt, _derive(seed, b"stored key"), _derive(seed, b"server key"))


def make_decoys(users: Iterable[User]) -> Decoys:
    """Count how many users have which parameters."""
    hashes: dict[str, str] = {}
    costs: Counter[str] = Counter()
    shapes: Counter[tuple[int, int]] = Counter()
    for user in users:
        parameters = user.password_hash.rpartition("$")[0].rpartition("$")[0]
        hashes.setdefault(parameters, user.password_hash)
        costs[parameters] += 1
        if user.scram is not None:
            shapes[user.scram.iterations, len(user.scram.salt)] += 1
    found = Decoys()
    return Decoys(
        _weigh({(name, hashes[name]): count for name, count in costs.items()}) or found.hashes,
        _weigh(shapes) or found.verifiers,
    )


def spoil(verifier: ScramVerifier, seed: bytes) -> ScramVerifier:
    """Give a verifier that looks the same and that no password fits."""
    return ScramVerifier(verifier.iterations, verifier.salt, _derive(seed, b"stored key"), verifier.server_key)


def _weigh(counts: Mapping[_Kind, int]) -> "Weighted[_Kind] | None":
    kinds = tuple(sorted(counts))  # type: ignore[type-var]  # tuples of numbers and text
    return Weighted(kinds, tuple(accumulate(counts[kind] for kind in kinds))) if kinds else None


def _derive(seed: bytes, purpose: bytes) -> bytes:
    return blake2b(purpose, key=seed, digest_size=32).digest()
