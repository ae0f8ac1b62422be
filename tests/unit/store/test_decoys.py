"""What stands for users who are not there: like those who are, and the same each time."""

import hashlib
from collections import Counter

from ptt.core.scram import ITERATIONS, SALT_BYTES, make_verifier
from ptt.core.user import parse_user
from ptt.core.user_file import format_user
from ptt.store.decoys import Decoys, make_decoys, spoil

CHEAP = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"
DEAR = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaA"
SEEDS = [hashlib.sha256(bytes([number])).digest() for number in range(200)]


def make(count: int, password_hash: str, iterations: int) -> list[str]:
    """Make files of users."""
    verifier = make_verifier(b"secret", b"salt", iterations)
    return [format_user(password_hash, ["a@example.test"], verifier)] * count


USERS = [parse_user("x", text) for text in make(3, CHEAP, 4096) + make(1, DEAR, 5000)]


def test_decoys_are_as_frequent_as_users() -> None:
    """With one user in four of another kind, about one unknown login in four looks like him."""
    decoys = make_decoys(USERS)
    assert 20 < Counter(decoys.pick_hash(seed) for seed in SEEDS)[DEAR] < 80
    found = Counter(decoys.make_verifier(seed).iterations for seed in SEEDS)
    assert set(found) == {4096, 5000}
    assert 20 < found[5000] < 80


def test_decoy_is_the_same_each_time() -> None:
    """In every process, and when the order of users changes; its salt is no other's, and of their length."""
    one, other = make_decoys(USERS), make_decoys(reversed(USERS))
    verifiers = [one.make_verifier(seed) for seed in SEEDS]
    assert verifiers == [other.make_verifier(seed) for seed in SEEDS]
    assert len({verifier.salt for verifier in verifiers}) == len(SEEDS)
    assert {len(verifier.salt) for verifier in verifiers} == {4}
    assert [one.pick_hash(seed) for seed in SEEDS] == [other.pick_hash(seed) for seed in SEEDS]


def test_few_decoys_change_when_a_user_comes() -> None:
    """Somebody who asks for all logins before and after learns nothing by the difference."""
    before, after = make_decoys(USERS * 20), make_decoys([*USERS * 20, USERS[0]])
    changed = [seed for seed in SEEDS if before.pick_hash(seed) != after.pick_hash(seed)]
    assert len(changed) < len(SEEDS) / 20


def test_decoys_without_users_are_like_those_that_we_make() -> None:
    """The first user must not be the first to look different."""
    verifier = make_decoys([]).make_verifier(SEEDS[0])
    assert (verifier.iterations, len(verifier.salt)) == (ITERATIONS, SALT_BYTES)
    assert make_decoys([]) == Decoys()


def test_spoiled_verifier_looks_the_same_and_fits_no_password() -> None:
    """For a disabled user."""
    verifier = make_verifier(b"secret", b"salt", 4096)
    spoiled = spoil(verifier, SEEDS[0])
    assert (spoiled.iterations, spoiled.salt) == (verifier.iterations, verifier.salt)
    assert spoiled.stored_key != verifier.stored_key
