"""Keys that go bad while mail flows (B29): nothing is sent unsigned, or signed with what nobody can verify."""

import smtplib
import ssl

import pytest

from ptt.dns.primary import Primary
from ptt.dns.update import publish_key_record, remove_key_record
from ptt.signing.keys import KeyRing, SigningKey
from tests.e2e.site import DESTINATIONS, PASSWORD, SENDER, Site
from tests.signing_keys import DOMAIN
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)


def send(site: Site, subject: str) -> str:
    """Submit a message, which is accepted, and give its queue-id."""
    context = ssl.create_default_context(cafile=str(site.folder / "ca.pem"))
    context.check_hostname = False
    with smtplib.SMTP_SSL("127.0.0.1", site.ports["implicit"], context=context, timeout=20) as client:
        client.login("alice", PASSWORD)
        client.mail(SENDER)
        client.rcpt(f"r@{DESTINATIONS[0]}")
        code, text = client.data(f"From: {SENDER}\r\nSubject: {subject}\r\n\r\nhello\r\n")
        assert code == 250, text
    return text.decode().rpartition(" ")[2]


def has_no_key(site: Site, queue_id: str) -> bool:
    """Tell whether a message was found to have no key."""
    return any(one["event"] == "key.missing" and one["queue_id"] == queue_id for one in site.list_events())


def count(site: Site, name: str) -> int:
    """Count the events of a name."""
    return sum(event["event"] == name for event in site.list_events())


def list_arrived(site: Site) -> list[str]:
    """Give the subjects that arrived; each message is signed."""
    contents = [content.decode() for _, content in site.read_arrived()]
    assert all("DKIM-Signature: " in content for content in contents)
    return [content.partition("Subject: ")[2].partition("\r\n")[0] for content in contents]


def send_until(site: Site, subject: str, event: str) -> None:
    """Submit messages until one more event of this name is logged: a signing process sees a change within a second."""
    before = count(site, event)

    def is_logged() -> bool:
        send(site, subject)
        return count(site, event) > before

    wait_until(is_logged, f"{event} is logged")


def test_key_that_goes_bad_in_mid_run_signs_no_more(site: Site) -> None:
    """Record gone, record repaired, mode widened: mail waits and goes on by itself, and a restart is refused."""
    site.settings["PTT_SIGNING__CHECK_S"] = "0.5"
    primary = Primary(address=site.bind.address, port=site.bind.port, key=site.bind.tsig_key)
    ring = KeyRing(site.folder / "keys")
    [key] = ring.list_keys(DOMAIN)
    assert isinstance(key, SigningKey)
    site.start()
    remove_key_record(primary, key.record_name, key.record)
    wait_until(lambda: count(site, "key.suspended"), "the key is suspended")
    send_until(site, "gone", "key.missing")
    arrived = list_arrived(site)
    waiting = send(site, "still gone")
    wait_until(lambda: has_no_key(site, waiting), "the next message waits too")
    assert "still gone" not in list_arrived(site)
    publish_key_record(primary, key.record_name, key.record, ttl_s=60)
    wait_until(lambda: count(site, "key.resumed"), "the key is back")
    send_until(site, "repaired", "recipient.delivered")
    assert list_arrived(site)[: len(arrived)] == arrived
    path = ring.get_path(key)
    path.chmod(0o644)
    send_until(site, "wide", "key.missing")
    assert site.stop() == 0
    ended = site.ptt("up", expected=78)
    assert f"{path}: signing.keys_dir: has mode 0644: must be 0600, so that nobody else reads it" in ended.stderr
