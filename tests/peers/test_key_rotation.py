"""Rotation, the way back and retirement of keys against a real BIND; and all that must not change when it fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ptt.core.errors import NoUsableKey, PttError, RotationRefused, UpdateRefused
from ptt.core.signature import Algorithm
from ptt.dns.update import publish_key_record, remove_key_record
from ptt.signing.key_files import KeyState
from ptt.signing.key_making import KeyKind, find_kind, generate_private_key
from ptt.signing.keys import SigningKey
from tests.key_desk import DAY, KEEP, KeyDesk
from tests.servers.bind import ADDRESS, Bind, running_bind
from tests.signing_keys import DOMAIN

SECOND = "127.0.0.3"
ED25519, RSA = Algorithm.ED25519_SHA256, Algorithm.RSA_SHA256


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """Run a primary of the domain."""
    with running_bind((DOMAIN,)) as server:
        yield server


@pytest.fixture
def desk(bind: Bind, tmp_path: Path) -> KeyDesk:
    """Make an empty folder of keys."""
    return KeyDesk(tmp_path, bind)


def test_rotate_replaces_each_algorithm_and_keeps_the_old_records(desk: KeyDesk, bind: Bind) -> None:
    """The new keys sign, the old ones do not, and all four records are in the DNS."""
    old = {desk.add_published(algorithm=algorithm).selector for algorithm in (ED25519, RSA)}
    assert desk.life.rotate(DOMAIN) == ()
    states = desk.list_states()
    assert {selector for selector, state in states.items() if state is KeyState.RETIRING} == old
    signing = desk.ring.get_active(DOMAIN)
    assert {key.algorithm for key in signing} == {ED25519, RSA}
    assert len(states) == 4
    for key in desk.life.list_usable(DOMAIN):
        assert bind.get_texts(key.record_name) == [key.record]


def test_rotate_keeps_the_length_of_an_rsa_key(desk: KeyDesk) -> None:
    """Who chose 3072 bits does not get 2048 one night."""
    desk.life.publisher.let_sign(
        desk.ring.add_key(DOMAIN, None, generate_private_key(KeyKind.RSA3072), created_at=desk.now), at=desk.now
    )
    assert desk.life.rotate(DOMAIN) == ()
    assert [find_kind(key.private_key) for key in desk.ring.get_active(DOMAIN)] == [KeyKind.RSA3072]


def test_rotate_takes_the_key_that_a_person_has_made(desk: KeyDesk) -> None:
    """A key that waits is the successor: no third one is made."""
    old = desk.add_published()
    made = desk.ring.create_key(DOMAIN, None, ED25519, created_at=desk.now)
    desk.life.rotate(DOMAIN)
    assert desk.list_states() == {old.selector: KeyState.RETIRING, made.selector: KeyState.ACTIVE}


def test_rotate_with_a_lagging_server_changes_nothing_and_goes_on_later(tmp_path: Path) -> None:
    """The old key signs until all servers answer the new one; the second try uses the same new key."""
    with running_bind((DOMAIN,), nameservers=(ADDRESS, SECOND)) as bind:
        desk = KeyDesk(tmp_path, bind, wait_s=0)
        old = desk.ring.create_key(DOMAIN, None, ED25519, created_at=desk.now)
        desk.publisher.let_sign(old, at=desk.now)
        for _ in range(2):
            [(key, lag)] = desk.life.rotate(DOMAIN)
            assert (str(lag), key.selector != old.selector) == ("ns2.example.test. (127.0.0.3) does not answer", True)
            assert desk.list_signing() == {old.selector}
            assert sorted(desk.list_states().values()) == [KeyState.ACTIVE, KeyState.PUBLISHED]


def test_rotate_without_an_active_key_says_so(desk: KeyDesk) -> None:
    """There is nothing to replace: `publish` is what is wanted."""
    desk.ring.create_key(DOMAIN, None, ED25519, created_at=desk.now)
    with pytest.raises(NoUsableKey, match=r"no active key of example\.test to rotate"):
        desk.life.rotate(DOMAIN)


def test_rotate_never_takes_the_place_of_another_hosts_key(desk: KeyDesk, bind: Bind) -> None:
    """Two hosts with folders of their own: a selector that is taken is refused, and the other's record stays."""
    old = desk.add_published()
    waiting = desk.ring.create_key(DOMAIN, None, ED25519, created_at=desk.now)
    publish_key_record(desk.primary, waiting.record_name, "v=DKIM1; k=ed25519; p=THEIRS", ttl_s=60)
    with pytest.raises(UpdateRefused, match="somebody else uses this selector"):
        desk.life.rotate(DOMAIN)
    assert bind.get_texts(waiting.record_name) == ["v=DKIM1; k=ed25519; p=THEIRS"]
    assert desk.list_signing() == {old.selector}


def test_rotation_that_crashed_between_its_two_steps_is_finished(desk: KeyDesk) -> None:
    """The new key was active and the old one was not retired yet: both signed, and now one does."""
    old = desk.add_published()
    desk.life.rotate(DOMAIN)
    desk.ring.change_status(old, lambda status: replace(status, state=KeyState.ACTIVE))
    assert len(desk.list_signing()) == 2
    desk.life.finish(DOMAIN)
    assert desk.list_states()[old.selector] is KeyState.RETIRING
    assert len(desk.list_signing()) == 1


def test_rollback_lets_the_old_key_sign_again(desk: KeyDesk) -> None:
    """And forth again: each way the other key is retiring, and `finish` finds nothing to do."""
    old = desk.add_published()
    desk.life.rotate(DOMAIN)
    [new] = desk.list_signing()
    for back, forth in [(old.selector, new), (new, old.selector)]:
        assert desk.life.roll_back(DOMAIN) == ()
        desk.life.finish(DOMAIN)
        assert desk.list_states() == {back: KeyState.ACTIVE, forth: KeyState.RETIRING}


def test_rollback_goes_back_to_exactly_what_the_last_rotation_replaced(desk: KeyDesk) -> None:
    """Both algorithms, and not a key that an earlier rollback has set aside, or that signs beside them since."""
    for algorithm in (ED25519, RSA):
        desk.add_published(algorithm=algorithm)
    old = desk.list_signing()
    for step in (desk.life.rotate, desk.life.roll_back, desk.life.rotate):
        desk.now += DAY
        assert step(DOMAIN) == ()
    desk.now += DAY
    beside = desk.add_published()
    desk.now += DAY
    assert desk.life.roll_back(DOMAIN) == ()
    assert desk.list_signing() == {*old, beside.selector}


def test_rollback_of_one_algorithm_leaves_the_other(desk: KeyDesk) -> None:
    """The timer rotates what is due alone: the rotation before it is not undone with it."""
    for algorithm in (ED25519, RSA):
        desk.add_published(algorithm=algorithm)
    seen = [desk.list_signing()]
    for algorithm in (ED25519, RSA):
        desk.now += DAY
        assert desk.life.rotate(DOMAIN, [algorithm]) == ()
        seen.append(desk.list_signing())
    desk.now += DAY
    assert desk.life.roll_back(DOMAIN) == ()
    assert desk.list_signing() == seen[1]


def test_rollback_after_the_new_key_was_retired_lets_the_old_one_sign(desk: KeyDesk) -> None:
    """The new key is what others have: it is declared void, and the key before comes back."""
    old = desk.add_published()
    desk.now += DAY
    desk.life.rotate(DOMAIN)
    [new] = desk.list_signing()
    desk.life.revoke(desk.get_key(new), is_forced=True)
    assert desk.life.roll_back(DOMAIN) == ()
    assert desk.list_states() == {old.selector: KeyState.ACTIVE, new: KeyState.RETIRED}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda desk, key: desk.life.revoke(key), "{} was declared void"),
        (
            lambda desk, key: desk.ring.set_state(key, KeyState.RETIRED, at=desk.now),
            "{} is retired, its record is gone",
        ),
        (lambda desk, key: desk.ring.get_path(key).chmod(0o644), "the key that ptt[-0-9a-f]+ replaced is gone, or"),
        (lambda desk, key: desk.ring.get_path(key).unlink(), "the key that ptt[-0-9a-f]+ replaced is gone, or"),
    ],
    ids=["void", "retired", "refused", "gone"],
)
def test_rollback_to_a_set_that_is_not_whole_is_refused(
    desk: KeyDesk, spoil: Callable[[KeyDesk, SigningKey], None], reason: str
) -> None:
    """One of the two cannot come back: neither does, and no key of another rotation takes its place."""
    old, _ = (desk.add_published(algorithm=algorithm) for algorithm in (ED25519, RSA))
    for step in (desk.life.rotate, desk.life.roll_back, desk.life.rotate):
        desk.now += DAY
        assert step(DOMAIN) == ()
    spoil(desk, desk.get_key(old.selector))
    states = desk.list_states()
    with pytest.raises(RotationRefused, match=f"cannot be undone: {reason.format(old.selector)}") as caught:
        desk.life.roll_back(DOMAIN)
    assert "\n" not in str(caught.value)
    assert desk.list_states() == states


def test_rollback_of_a_rotation_that_crashed_half_way_brings_back_all_of_it(desk: KeyDesk) -> None:
    """One of two new keys signs, the other does not: afterwards the two old ones do."""
    old = {desk.add_published(algorithm=algorithm).selector for algorithm in (ED25519, RSA)}
    desk.now += DAY
    desk.life.rotate(DOMAIN)
    rsa = next(key for key in desk.life.list_usable(DOMAIN) if key.algorithm is RSA and key.selector in old)
    new = next(key for key in desk.life.list_usable(DOMAIN) if key.selector == rsa.status.successor)
    desk.ring.change_status(rsa, lambda status: replace(status, state=KeyState.ACTIVE))
    desk.ring.change_status(new, lambda status: replace(status, state=KeyState.PUBLISHED, active_at=None))
    desk.now += DAY
    assert desk.life.roll_back(DOMAIN) == ()
    desk.life.finish(DOMAIN)
    assert desk.list_signing() == old


def test_rollback_without_a_rotation_is_refused(desk: KeyDesk) -> None:
    """There is nothing to go back to."""
    desk.add_published()
    with pytest.raises(RotationRefused, match="nothing to go back to"):
        desk.life.roll_back(DOMAIN)


@pytest.mark.parametrize("state", [KeyState.RETIRING, KeyState.RETIRED, KeyState.CREATED])
def test_activate_of_a_key_in_any_state_publishes_it_if_need_be(desk: KeyDesk, bind: Bind, state: KeyState) -> None:
    """The others of its algorithm are retiring, and its record is there."""
    other = desk.add_published()
    key = desk.ring.create_key(DOMAIN, None, ED25519, created_at=desk.now)
    desk.ring.set_state(key, state, at=desk.now)
    assert desk.life.activate(desk.get_key(key.selector)) == ()
    assert desk.list_states() == {key.selector: KeyState.ACTIVE, other.selector: KeyState.RETIRING}
    assert bind.get_texts(key.record_name) == [key.record]


def test_retire_of_the_last_key_is_refused_unless_forced(desk: KeyDesk) -> None:
    """Mail would wait: the line says what to do instead."""
    key = desk.add_published()
    with pytest.raises(RotationRefused, match=r"the last key that signs for example\.test"):
        desk.life.retire(key)
    assert desk.list_signing() == {key.selector}
    assert desk.life.retire(key, is_forced=True) is KeyState.RETIRING


def test_retire_keeps_the_record_until_no_signature_is_valid(desk: KeyDesk, bind: Bind) -> None:
    """One second before the time it stays, then it is removed and the key is retired."""
    key = desk.add_published()
    desk.add_published()
    desk.life.retire(key)
    for later, state, records in [(-1, KeyState.RETIRING, 1), (0, KeyState.RETIRED, 0)]:
        desk.now = desk.get_key(key.selector).status.retiring_at or desk.now
        desk.now += KEEP + later * (KEEP / 1_000_000)
        assert desk.life.retire(desk.get_key(key.selector)) is state
        assert len(bind.get_texts(key.record_name)) == records
        assert desk.list_states()[key.selector] is state


def test_retire_of_a_key_whose_record_is_anothers_by_now_leaves_it(desk: KeyDesk, bind: Bind) -> None:
    """Only exactly our own record is ever removed."""
    key = desk.add_published()
    desk.ring.set_state(key, KeyState.PUBLISHED, at=desk.now)
    publish_key_record(desk.primary, key.record_name, "v=DKIM1; k=ed25519; p=THEIRS", ttl_s=60)
    assert desk.life.retire(desk.get_key(key.selector)) is KeyState.RETIRED
    assert bind.get_texts(key.record_name) == ["v=DKIM1; k=ed25519; p=THEIRS"]


def test_retire_of_a_key_that_was_never_published_asks_nobody(desk: KeyDesk) -> None:
    """There is nothing in the DNS to remove."""
    key = desk.ring.create_key(DOMAIN, None, ED25519, created_at=desk.now)
    desk.port = 1  # nobody listens there
    assert desk.life.retire(key) is KeyState.RETIRED
    assert desk.life.retire(desk.get_key(key.selector)) is KeyState.RETIRED


def test_revoke_empties_the_record_at_once(desk: KeyDesk, bind: Bind) -> None:
    """RFC 6376 section 3.6.1: an empty p= says that the key is revoked."""
    key = desk.add_published()
    with pytest.raises(RotationRefused):
        desk.life.revoke(key)
    desk.life.revoke(key, is_forced=True)
    assert bind.get_texts(key.record_name) == ["v=DKIM1; k=ed25519; p="]
    assert desk.list_states() == {key.selector: KeyState.RETIRED}


def test_activate_of_a_void_key_is_refused_whatever_its_record_says(desk: KeyDesk, bind: Bind) -> None:
    """A key that others may have never comes back, not even when its record is gone, or was never emptied."""
    desk.add_published()
    gone, never_emptied, before = (desk.add_published() for _ in range(3))
    desk.life.revoke(gone)
    remove_key_record(desk.primary, gone.record_name, "v=DKIM1; k=ed25519; p=")
    desk.life.revoke(before)
    # So did the version before that did not record it: the record alone tells.
    desk.ring.change_status(before, lambda status: replace(status, revoked_at=None))
    desk.port = 1
    with pytest.raises(PttError):
        desk.life.revoke(never_emptied)
    desk.port = 0
    signing = desk.list_signing()
    for key, error in [(gone, RotationRefused), (never_emptied, RotationRefused), (before, UpdateRefused)]:
        with pytest.raises(error, match="declared void") as caught:
            desk.life.activate(desk.get_key(key.selector))
        assert "\n" not in str(caught.value)
    assert desk.list_signing() == signing
    assert [bind.get_texts(key.record_name) for key in (gone, before)] == [[], ["v=DKIM1; k=ed25519; p="]]


@pytest.mark.parametrize("state", [KeyState.CREATED, KeyState.PUBLISHED])
def test_revoke_of_a_key_that_waits_keeps_it_from_being_taken(desk: KeyDesk, state: KeyState) -> None:
    """While the primary is down, too: neither `publish` nor a rotation finds it."""
    key = desk.ring.create_key(DOMAIN, None, ED25519, created_at=desk.now)
    desk.ring.set_state(key, state, at=desk.now)
    old = desk.add_published()
    desk.port = 1
    with pytest.raises(PttError):
        desk.life.revoke(desk.get_key(key.selector))
    desk.port = 0
    assert desk.life.rotate(DOMAIN) == ()
    assert desk.list_states()[key.selector] is KeyState.RETIRING
    assert not desk.list_signing() & {old.selector, key.selector}


def test_revoke_while_the_primary_is_down_stops_the_key_all_the_same(desk: KeyDesk) -> None:
    """Others may have the key: it signs no more, and the command is repeated for the record."""
    key = desk.add_published()
    desk.port = 1
    with pytest.raises(PttError):
        desk.life.revoke(key, is_forced=True)
    assert desk.list_states() == {key.selector: KeyState.RETIRING}


def test_hold_lets_one_process_at_a_time_change_a_domain(desk: KeyDesk) -> None:
    """A person and a timer do not rotate at once."""
    desk.add_published()
    with desk.life.hold(DOMAIN), pytest.raises(PttError, match="another process"), desk.life.hold(DOMAIN):
        raise AssertionError("two hold the lock")
