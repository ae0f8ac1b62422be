"""The timer of the keys: what it suspends and resumes, rotates and removes, and how it treats a primary that fails."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import dns.message
import dns.rcode
import dns.tsig
import dns.update
import pytest

from ptt.core.errors import ConfigError
from ptt.core.signature import Algorithm
from ptt.dns.update import publish_key_record, remove_key_record
from ptt.settings import load_settings
from ptt.signing.key_files import KeyState
from ptt.workers.keeper import RETRY_S, SUSPENDED_EVERY, make_keeper
from tests.key_desk import DAY, EVERY, KEEP, KeyDesk
from tests.servers.bind import ADDRESS, Bind, running_bind
from tests.servers.ports import free_port
from tests.servers.responder import running_responder
from tests.signing_keys import DOMAIN, SIGNED_AT

SECOND = "127.0.0.3"


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """Run a primary of the domain."""
    with running_bind((DOMAIN,)) as server:
        yield server


@pytest.fixture
def desk(bind: Bind, tmp_path: Path) -> KeyDesk:
    """Make a folder of keys that are a day old when they are to be replaced."""
    return KeyDesk(tmp_path, bind, rotate_after=DAY)


@dataclass
class Updates:
    """A primary that answers updates in one wrong way, and counts them; all else goes to the BIND."""

    bind: Bind
    answer: Callable[[bytes, "Updates"], bytes | None]
    times: list[int] = field(default_factory=list)

    def respond(self, request: bytes, is_tcp: bool) -> bytes | None:  # noqa: FBT001 - the hook of a responder
        """Answer one request."""
        if dns.message.from_wire(request, keyring=self.bind.tsig_key).opcode() != dns.opcode.UPDATE:
            return self.bind.forward(request, is_tcp)
        self.times.append(1)
        return self.answer(request, self)

    def refuse(self, request: bytes, rcode: dns.rcode.Rcode, *, tsig_error: int = 0) -> bytes:
        """Make a signed refusal."""
        query = dns.message.from_wire(request, keyring=self.bind.tsig_key)
        reply = dns.message.make_response(query)
        reply.set_rcode(rcode)
        reply.use_tsig(self.bind.tsig_key, tsig_error=tsig_error)
        reply.request_mac = query.mac or b""
        return reply.to_wire()

    def forge(self, request: bytes) -> bytes:
        """Make a success that is signed with another secret."""
        query = dns.message.from_wire(request, keyring=self.bind.tsig_key)
        reply = dns.message.make_response(query)
        reply.use_tsig(dns.tsig.Key(self.bind.key_name, b"y" * 32, self.bind.algorithm))
        reply.request_mac = query.mac or b""
        return reply.to_wire()

    def pretend(self, request: bytes) -> bytes:
        """Make a signed success, and do nothing."""
        return self.refuse(request, dns.rcode.NOERROR)


WAYS: dict[str, Callable[[bytes, Updates], bytes | None]] = {
    "REFUSED": lambda request, by: by.refuse(request, dns.rcode.REFUSED),
    "NOTAUTH": lambda request, by: by.refuse(request, dns.rcode.NOTAUTH),
    "NOTZONE": lambda request, by: by.refuse(request, dns.rcode.NOTZONE),
    "BADSIG": lambda request, by: by.refuse(request, dns.rcode.NOTAUTH, tsig_error=dns.rcode.BADSIG),
    "BADKEY": lambda request, by: by.refuse(request, dns.rcode.NOTAUTH, tsig_error=dns.rcode.BADKEY),
    "BADTIME": lambda request, by: by.refuse(request, dns.rcode.NOTAUTH, tsig_error=dns.rcode.BADTIME),
    "SERVFAIL": lambda request, by: by.refuse(request, dns.rcode.SERVFAIL),
    "did not reply": lambda _request, _by: None,
    "signature of its reply is wrong": lambda request, by: by.forge(request),
    "NXDOMAIN": lambda request, by: by.refuse(request, dns.rcode.NXDOMAIN),
    "does not have it": lambda request, by: by.pretend(request),
}
"""Each way to fail of an update, by what the alarm says of it; the last is a success that nobody can see."""


def list_reasons(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    """Give the reasons of all events of this name."""
    return [record.__dict__["fields"].get("reason", "") for record in caplog.records if record.message == event]


@pytest.mark.parametrize("way", WAYS)
def test_rotation_whose_update_fails_keeps_the_old_key_and_asks_once_a_minute(
    desk: KeyDesk, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """However it fails: an alarm says why, nothing is half done, and no second update comes within the minute."""
    old = desk.add_published()
    failing = Updates(desk.bind, WAYS[way])
    desk.now += DAY
    with running_responder(ADDRESS, port := free_port(), failing.respond):
        # Only who waits for a reply that never comes waits for less than ever; all else is answered within that time.
        desk.port, desk.timeout_s, desk.wait_s = port, 1.5 if way == "did not reply" else 5, 0
        desk.restart()
        desk.keeper.run_due()
        assert [way in reason for reason in list_reasons(caplog, "rotation.failed")] == [True]
        for later_s in (1, RETRY_S - 2):
            desk.now += timedelta(seconds=later_s)
            desk.restart()  # a worker that starts anew knows of it, too
            desk.keeper.run_due()
        assert len(failing.times) == 1
        assert desk.list_signing() == {old.selector}
    desk.port = 0
    desk.now += EVERY
    desk.restart()
    desk.keeper.run_due()
    assert desk.list_states()[old.selector] is KeyState.RETIRING
    assert len(desk.list_states()) == 2


def test_rotation_that_fails_again_and_again_waits_longer_each_time(
    desk: KeyDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """At most once a minute at first, and less often later."""
    desk.add_published()
    failing = Updates(desk.bind, WAYS["REFUSED"])
    desk.now += DAY
    with running_responder(ADDRESS, port := free_port(), failing.respond):
        desk.port = port
        desk.restart()
        for _ in range(60):
            desk.keeper.run_due()
            desk.now += timedelta(minutes=1)
    assert len(failing.times) == 6  # after 0, 5, 10, 15, 25 and 45 minutes: a pass comes every five
    assert len(list_reasons(caplog, "rotation.failed")) == 6


def test_key_is_rotated_when_it_is_old_enough_and_removed_when_its_time_is_over(desk: KeyDesk, bind: Bind) -> None:
    """A day on, the new key signs; when no signature of the old one is valid any more, its record goes."""
    old = desk.add_published()
    desk.now += DAY - timedelta(minutes=1)
    desk.keeper.run_due()
    assert desk.list_signing() == {old.selector}
    desk.now += EVERY
    desk.keeper.run_due()
    assert desk.list_states()[old.selector] is KeyState.RETIRING
    assert bind.get_texts(old.record_name) == [old.record]
    desk.rotate_after = None
    desk.restart()
    desk.now += KEEP
    desk.keeper.run_due()
    assert desk.list_states()[old.selector] is KeyState.RETIRED
    assert bind.get_texts(old.record_name) == []


def test_keys_are_not_rotated_unless_asked_for(desk: KeyDesk) -> None:
    """The default is that a person rotates."""
    old = desk.add_published()
    desk.rotate_after = None
    desk.restart()
    desk.now += 1000 * DAY
    desk.keeper.run_due()
    assert desk.list_states() == {old.selector: KeyState.ACTIVE}


def test_keepers_of_one_folder_rotate_once(desk: KeyDesk, bind: Bind) -> None:
    """Two workers share the keys: whoever comes second finds it done."""
    desk.add_published()
    other = KeyDesk(desk.folder, bind, rotate_after=DAY)
    desk.now = other.now = desk.now + DAY
    with desk.life.hold(DOMAIN):
        other.keeper.run_due()  # somebody is at it
    for keeper in (desk.keeper, other.keeper, desk.keeper, other.keeper):
        keeper.run_due()
    assert sorted(desk.list_states().values()) == [KeyState.ACTIVE, KeyState.RETIRING]


def test_keepers_of_separate_folders_leave_each_other_alone(desk: KeyDesk, bind: Bind, tmp_path: Path) -> None:
    """Two hosts with keys of their own for one domain: each rotates its own, and all records are there."""
    other = KeyDesk(tmp_path / "other", bind, rotate_after=DAY)
    for one in (desk, other):
        one.add_published()
        one.now += DAY
    for one in (desk, other):
        one.keeper.run_due()
    keys = [key for one in (desk, other) for key in one.life.list_usable(DOMAIN)]
    assert sorted(key.status.state for key in keys) == [KeyState.ACTIVE] * 2 + [KeyState.RETIRING] * 2
    assert [bind.get_texts(key.record_name) for key in keys] == [[key.record] for key in keys]


@pytest.mark.parametrize("record", [None, "v=DKIM1; k=ed25519; p=WRONG", "v=DKIM1; k=ed25519; p="])
def test_key_whose_record_is_wrong_stops_signing_until_it_is_repaired(
    desk: KeyDesk, caplog: pytest.LogCaptureFixture, record: str | None
) -> None:
    """Gone, changed or revoked: the other key goes on, an alarm says why, and it comes back by itself when repaired."""
    caplog.set_level("INFO", "ptt")
    bad, good = desk.add_published(), desk.add_published()
    if record is None:
        remove_key_record(desk.primary, bad.record_name, bad.record)
    else:
        publish_key_record(desk.primary, bad.record_name, record, ttl_s=60)
    desk.keeper.run_due()
    assert desk.list_signing() == {good.selector}
    [reason] = list_reasons(caplog, "key.suspended")
    assert "ns1.example.test." in reason
    assert desk.get_key(bad.selector).status.problem == reason
    if record is not None:
        remove_key_record(desk.primary, bad.record_name, record)
    publish_key_record(desk.primary, bad.record_name, bad.record, ttl_s=60)
    desk.now += SUSPENDED_EVERY
    desk.keeper.run_due()
    assert desk.list_signing() == {good.selector, bad.selector}
    assert list_reasons(caplog, "key.resumed") == [""]


def test_key_goes_on_while_a_server_does_not_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that tells nobody anything does no harm: receivers ask the other one."""
    with running_bind((DOMAIN,), nameservers=(ADDRESS, SECOND)) as bind:
        desk = KeyDesk(tmp_path, bind)
        key = desk.ring.create_key(DOMAIN, None, Algorithm.ED25519_SHA256, created_at=desk.now)
        publish_key_record(desk.primary, key.record_name, key.record, ttl_s=60)
        desk.publisher.let_sign(key, at=desk.now)
        desk.keeper.run_due()
        bind.stop()
        desk.now += EVERY
        desk.keeper.run_due()
    assert desk.list_signing() == {key.selector}
    assert "127.0.0.3) does not answer" in list_reasons(caplog, "key.unverified")[0]
    assert len(list_reasons(caplog, "key.unverified")) == 2


def test_keeper_after_a_clock_that_was_set_back_goes_on(desk: KeyDesk, caplog: pytest.LogCaptureFixture) -> None:
    """What was written an hour ahead is not waited for."""
    key = desk.add_published()
    desk.keeper.run_due()
    remove_key_record(desk.primary, key.record_name, key.record)
    desk.now -= timedelta(hours=1)
    desk.keeper.run_due()
    assert len(list_reasons(caplog, "key.suspended")) == 1


def test_automatic_rotation_without_a_primary_is_refused_at_the_start(tmp_path: Path) -> None:
    """A person would have to be there each time: exit 78 with the key of ptt.toml."""
    config = tmp_path / "ptt.toml"
    config.write_text('[signing]\nkeys_dir = "."\nrotate_after_days = 90\n')
    settings = load_settings(config)
    with pytest.raises(ConfigError, match=r"signing\.rotate_after_days: needs dns_update\.server"):
        make_keeper(settings, lambda: SIGNED_AT)


def test_keeper_of_a_folder_that_cannot_be_written_to_says_so(desk: KeyDesk, caplog: pytest.LogCaptureFixture) -> None:
    """Without its state files it could stop no key: an alarm, once for each pass."""
    key = desk.add_published()
    lock = desk.ring.get_folder(DOMAIN) / ".lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    for _ in range(2):
        desk.keeper.run_due()
    assert len(list_reasons(caplog, "keys.unwritable")) == 1
    assert desk.list_signing() == {key.selector}
