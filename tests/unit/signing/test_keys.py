"""The key ring: what is used, what is refused, what is kept after a crash, what is seen without a restart."""

import json
import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ptt.core.address import Domain
from ptt.core.errors import NoUsableKey, Unavailable
from ptt.core.signature import Algorithm, Selector
from ptt.signing.key_files import KeyState, KeyStatus, list_exposed, load_status, save_status
from ptt.signing.key_lock import locking
from ptt.signing.keys import CHECK_INTERVAL_S, KeyRing, RefusedKey, SigningKey
from tests.signing_keys import DOMAIN, add_active_key

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ED25519, RSA = Algorithm.ED25519_SHA256, Algorithm.RSA_SHA256
S1 = Selector("s1")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        """Start anywhere."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now

    def advance(self) -> None:
        """Go on until the folders are looked at again."""
        self.now += CHECK_INTERVAL_S


@pytest.fixture
def clock() -> Clock:
    """Make a clock."""
    return Clock()


@pytest.fixture
def ring(tmp_path: Path, clock: Clock) -> KeyRing:
    """Make an empty ring that looks at its folders when the clock says so."""
    return KeyRing(tmp_path, clock=clock)


def write_key(path: Path, pem: bytes, mode: int = 0o600) -> None:
    """Put a file there by hand, as an operator would."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pem)
    path.chmod(mode)


def to_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """Write a key as OpenSSL does."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def selectors(ring: KeyRing) -> list[str]:
    """List what signs."""
    return [key.selector for key in ring.get_active(DOMAIN)]


def test_created_key_has_mode_0600_and_a_state_beside_it(ring: KeyRing, tmp_path: Path) -> None:
    """Nobody else may read a private key; its folder is private too."""
    key = ring.create_key(DOMAIN, None, ED25519, created_at=NOW)
    path = ring.get_path(key)
    assert path == tmp_path / "example.test" / f"{key.selector}.pem"
    assert re.fullmatch(r"ptt20261123-[0-9a-f]{6}", key.selector)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "state": "created",
        "created_at": "2026-11-23T12:00:00+00:00",
    }
    assert sorted(entry.name for entry in path.parent.iterdir()) == [f"{key.selector}.json", path.name]


def test_create_key_of_rsa_gives_2048_bits(ring: KeyRing) -> None:
    """RFC 8301 section 3.2."""
    key = ring.create_key(DOMAIN, None, RSA, created_at=NOW).private_key
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048


def test_create_key_without_selector_takes_one_that_nobody_else_has(ring: KeyRing) -> None:
    """Two hosts with folders of their own make keys of one domain on one day: their records must not meet."""
    assert len({ring.create_key(DOMAIN, None, ED25519, created_at=NOW).selector for _ in range(10)}) == 10


def test_create_key_with_a_taken_selector_leaves_the_old_key(ring: KeyRing) -> None:
    """A published key must never be lost to a second one of its name."""
    before = ring.get_path(ring.create_key(DOMAIN, S1, ED25519, created_at=NOW)).read_bytes()
    with pytest.raises(FileExistsError, match="s1"):
        ring.create_key(DOMAIN, S1, ED25519, created_at=NOW)
    assert (ring.get_path(add_active_key(ring, ED25519)).parent / "s1.pem").read_bytes() == before


@pytest.mark.parametrize("state", [state for state in KeyState if state is not KeyState.ACTIVE])
def test_key_in_any_other_state_than_active_signs_nothing(ring: KeyRing, state: KeyState) -> None:
    """A signature that the DNS cannot prove yet, or no longer, is worse than waiting."""
    key = ring.create_key(DOMAIN, S1, ED25519, created_at=NOW)
    ring.set_state(key, state, at=NOW)
    with pytest.raises(NoUsableKey, match="no active DKIM key"):
        ring.get_active(DOMAIN)


def test_state_of_a_key_keeps_when_each_was_reached(ring: KeyRing) -> None:
    """Rotation later needs to know how long a key has been known to the world."""
    key = ring.create_key(DOMAIN, S1, ED25519, created_at=NOW)
    ring.set_state(key, KeyState.PUBLISHED, at=NOW.replace(hour=13))
    ring.set_state(key, KeyState.ACTIVE, at=NOW.replace(hour=14))
    [found] = ring.get_active(DOMAIN)
    assert found.status == KeyStatus(
        state=KeyState.ACTIVE,
        created_at=NOW,
        published_at=NOW.replace(hour=13),
        active_at=NOW.replace(hour=14),
    )


def test_state_of_a_void_key_says_so_for_good(ring: KeyRing) -> None:
    """It is on disk, and nothing that the key reaches later takes it back; a file without it loads as ever."""
    key = add_active_key(ring, ED25519, at=NOW)
    path = ring.get_path(key).with_suffix(".json")
    assert load_status(path).revoked_at is None
    ring.change_status(key, lambda status: status.revoke(NOW))
    ring.set_state(key, KeyState.RETIRED, at=NOW.replace(hour=13))
    ring.change_status(key, lambda status: status.revoke(NOW.replace(hour=14)))
    found = load_status(path)
    assert (found.state, found.revoked_at, found.retiring_at) == (KeyState.RETIRED, NOW, NOW)


def test_key_without_state_file_is_known_and_not_used(ring: KeyRing, tmp_path: Path) -> None:
    """A key that was put there by hand waits for its publication."""
    write_key(tmp_path / DOMAIN / "s1.pem", to_pem(ed25519.Ed25519PrivateKey.generate()))
    [key] = ring.list_keys(DOMAIN)
    assert isinstance(key, SigningKey)
    assert key.status == KeyStatus(state=KeyState.CREATED)


def make_weak_rsa() -> bytes:
    """Make a key that receivers may refuse."""
    return to_pem(rsa.generate_private_key(65537, 1024))


REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "readable by the group": (lambda: to_pem(ed25519.Ed25519PrivateKey.generate()), 0o640, "mode 0640"),
    "readable by all": (lambda: to_pem(ed25519.Ed25519PrivateKey.generate()), 0o604, "mode 0604"),
    "executable": (lambda: to_pem(ed25519.Ed25519PrivateKey.generate()), 0o700, "mode 0700"),
    "RSA of 1024 bits": (make_weak_rsa, 0o600, "has 1024 bits"),
    "another curve": (lambda: to_pem(ec.generate_private_key(ec.SECP256R1())), 0o600, "neither RSA nor Ed25519"),
    "no key": (lambda: b"hello", 0o600, "no private key"),
    "cut off": (lambda: to_pem(ed25519.Ed25519PrivateKey.generate())[:60], 0o600, "no private key"),
    "empty": (lambda: b"", 0o600, "no private key"),
    "with a passphrase": (
        lambda: ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        ),
        0o600,
        "without a passphrase",
    ),
}


@pytest.mark.parametrize(("make", "mode", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_key_that_must_not_be_used_is_refused_with_an_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[], bytes], mode: int, reason: str
) -> None:
    """One line says which key and why; the others of the domain go on."""
    ring = KeyRing(tmp_path)
    add_active_key(ring, ED25519, selector="good")
    write_key(tmp_path / DOMAIN / "bad.pem", make(), mode)
    save_status(tmp_path / DOMAIN / "bad.json", KeyStatus(state=KeyState.ACTIVE, created_at=NOW))
    with caplog.at_level(logging.WARNING, "ptt"):
        assert selectors(ring) == ["good"]
        ring.list_keys(DOMAIN)
    [record] = [record for record in caplog.records if record.message == "key.refused"]
    fields = record.__dict__["fields"]
    assert (fields["signing_domain"], fields["selector"]) == (DOMAIN, "bad")
    assert reason in fields["reason"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "on"}', '{"state": "active", "x_at": "2026"}', '{"a": 1}'])
def test_key_with_damaged_state_is_refused(ring: KeyRing, text: str) -> None:
    """Nobody knows whether the key is published: it must not sign."""
    key = add_active_key(ring, ED25519)
    ring.get_path(key).with_suffix(".json").write_text(text)
    [found] = ring.list_keys(DOMAIN)
    assert found == RefusedKey(DOMAIN, key.selector, "its state file is damaged")


def test_key_with_a_time_without_zone_is_refused(ring: KeyRing) -> None:
    """Such a time cannot be compared with the others."""
    key = add_active_key(ring, ED25519)
    ring.get_path(key).with_suffix(".json").write_text('{"state": "active", "created_at": "2026-11-23T12:00:00"}')
    [found] = ring.list_keys(DOMAIN)
    assert isinstance(found, RefusedKey)


def test_key_whose_name_is_no_selector_is_refused(ring: KeyRing, tmp_path: Path) -> None:
    """Its record could not be found in the DNS."""
    write_key(tmp_path / DOMAIN / "My Key.pem", to_pem(ed25519.Ed25519PrivateKey.generate()))
    [found] = ring.list_keys(DOMAIN)
    assert isinstance(found, RefusedKey)
    assert "not a selector" in found.reason


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_key_that_is_no_file_is_refused_at_once(ring: KeyRing, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe would hold the signer until somebody writes to it."""
    (tmp_path / DOMAIN).mkdir()
    make(tmp_path / DOMAIN / "s1.pem")
    (tmp_path / DOMAIN / "s1.pem").chmod(0o600)
    [found] = ring.list_keys(DOMAIN)
    assert isinstance(found, RefusedKey)
    assert found.reason == "is no file"


def test_key_is_parsed_once_while_its_file_stays(ring: KeyRing, clock: Clock) -> None:
    """Parsing an RSA key takes as long as a hundred signatures."""
    key = add_active_key(ring, RSA)
    [first] = ring.get_active(DOMAIN)
    clock.advance()
    add_active_key(ring, ED25519)
    second = next(found for found in ring.get_active(DOMAIN) if found.selector == key.selector)
    assert second.private_key is first.private_key


def test_change_of_the_folder_is_seen_within_the_interval(ring: KeyRing, clock: Clock) -> None:
    """No restart is needed for a new key, a new state or a key that is gone; in between nothing is read."""
    key = add_active_key(ring, ED25519, selector="a")
    assert selectors(ring) == ["a"]
    add_active_key(ring, ED25519, selector="b")
    assert selectors(ring) == ["a"]
    clock.advance()
    assert selectors(ring) == ["b", "a"]
    ring.set_state(key, KeyState.RETIRING, at=NOW)
    clock.advance()
    assert selectors(ring) == ["b"]
    (ring.get_path(key).parent / "b.pem").unlink()
    clock.advance()
    with pytest.raises(NoUsableKey):
        ring.get_active(DOMAIN)


def test_key_whose_mode_is_widened_stops_signing(ring: KeyRing, clock: Clock) -> None:
    """A key that others could read meanwhile is not to be trusted, although it is parsed already."""
    key = add_active_key(ring, ED25519)
    assert selectors(ring)
    ring.get_path(key).chmod(0o644)
    clock.advance()
    with pytest.raises(NoUsableKey):
        ring.get_active(DOMAIN)


def test_list_keys_of_all_domains_is_sorted_and_knows_folders_that_are_domains(ring: KeyRing, tmp_path: Path) -> None:
    """What else lies in the folder is not looked into."""
    for domain in ("b.example.test", "a.example.test"):
        for selector in ("s2", "s1"):
            ring.create_key(Domain(domain), Selector(selector), ED25519, created_at=NOW)
    write_key(tmp_path / "lost+found" / "s1.pem", b"")
    write_key(tmp_path / "Upper.Example.test" / "s1.pem", b"")
    found = [(key.domain, key.selector) for key in ring.list_keys()]
    assert found == [(domain, name) for domain in ("a.example.test", "b.example.test") for name in ("s1", "s2")]


def test_list_keys_without_a_folder_is_empty(tmp_path: Path) -> None:
    """Before the first key there is nothing."""
    assert KeyRing(tmp_path / "none").list_keys() == ()
    with pytest.raises(NoUsableKey):
        KeyRing(tmp_path / "none").get_active(DOMAIN)


def test_get_active_of_a_name_that_is_no_folder_finds_nothing(ring: KeyRing, tmp_path: Path) -> None:
    """A file in the place of a domain is no domain."""
    (tmp_path / DOMAIN).write_text("")
    with pytest.raises(NoUsableKey):
        ring.get_active(DOMAIN)


def test_private_key_is_in_no_text(ring: KeyRing) -> None:
    """A key in a traceback or a log line must not show what it holds."""
    key = add_active_key(ring, ED25519)
    assert "private" not in repr(key)
    assert "Ed25519" not in repr(key)


def test_save_status_over_a_left_temporary_file_succeeds(tmp_path: Path) -> None:
    """A crash between writing and renaming leaves the old state and no obstacle."""
    path = tmp_path / "s1.json"
    save_status(path, KeyStatus(created_at=NOW))
    (tmp_path / f".s1.json.{os.getpid()}.tmp").write_text("half a st")
    assert load_status(path).state is KeyState.CREATED
    save_status(path, load_status(path).reach(KeyState.PUBLISHED, NOW))
    assert load_status(path) == KeyStatus(state=KeyState.PUBLISHED, created_at=NOW, published_at=NOW)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s1.json"]


def test_list_exposed_names_each_key_that_others_may_use(ring: KeyRing, tmp_path: Path) -> None:
    """The sign role does not start with a key that is not its own alone."""
    good, bad = (add_active_key(ring, ED25519, selector=name) for name in ("good", "bad"))
    assert list_exposed(tmp_path) == []
    ring.get_path(bad).chmod(0o604)
    assert list_exposed(tmp_path) == [
        f"{ring.get_path(bad)}: signing.keys_dir: has mode 0604: must be 0600, so that nobody else reads it"
    ]
    assert good.selector == "good"


def test_suspended_key_signs_nothing_and_says_why(ring: KeyRing, clock: Clock) -> None:
    """It stays active on disk; the other key of the domain goes on, and without one the reason is told."""
    bad, good = (add_active_key(ring, ED25519, selector=name) for name in ("bad", "good"))
    ring.change_status(bad, lambda status: status.suspend("ns1 answers another record", NOW))
    assert selectors(ring) == ["good"]
    ring.set_state(good, KeyState.RETIRING, at=NOW)
    clock.advance()
    with pytest.raises(NoUsableKey, match="bad: ns1 answers another record"):
        ring.get_active(DOMAIN)
    ring.change_status(bad, KeyStatus.resume)
    clock.advance()
    assert selectors(ring) == ["bad"]


def test_lock_of_a_folder_lets_one_in_at_a_time(ring: KeyRing) -> None:
    """Two timers, or a timer and a person, must not rotate the same keys at once."""
    folder = ring.get_path(add_active_key(ring, ED25519)).parent
    with locking(folder), pytest.raises(Unavailable, match="another process"), locking(folder):
        raise AssertionError("two hold the lock")
    with locking(folder):
        assert selectors(ring)


def test_files_that_root_makes_belong_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    """``sudo ptt key rotate`` must not leave keys that the sign role cannot read."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away; CI runs as root")
    os.chown(tmp_path, 12345, 12346)
    ring = KeyRing(tmp_path)
    key = ring.create_key(DOMAIN, S1, ED25519, created_at=NOW)
    folder = ring.get_folder(DOMAIN)
    with locking(folder):
        owners = {(entry.stat().st_uid, entry.stat().st_gid) for entry in [folder, *folder.iterdir()]}
    assert owners == {(12345, 12346)}
    assert key.selector == S1


ROTATE_FOR_EVER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from ptt.core.address import Domain
from ptt.signing.key_files import KeyState
from ptt.signing.keys import KeyRing

ring, at = KeyRing(Path(sys.argv[1])), datetime.fromtimestamp(0, UTC)
keys = list(ring.list_keys(Domain("example.test")))
while True:
    for new, old in (keys, keys[::-1]):
        ring.set_state(new, KeyState.ACTIVE, at=at)
        ring.set_state(old, KeyState.RETIRING, at=at)
        print("rotated", flush=True)
"""


def test_key_ring_in_the_midst_of_rotations_always_finds_a_key(ring: KeyRing, tmp_path: Path) -> None:
    """What is read while one key takes the place of another is from one moment: regression of mail that waited.

    Parsing an RSA key takes longer than a rotation: the state of one was read before it, that of the other after it.
    """
    for name in ("a", "b"):
        add_active_key(ring, RSA, selector=name)
    command = [sys.executable, "-c", ROTATE_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as rotating:
        try:
            assert rotating.stdout is not None
            for _ in range(10):
                assert rotating.stdout.readline() == b"rotated\n"
                assert KeyRing(tmp_path).get_active(DOMAIN)
        finally:
            rotating.kill()
