"""What a person or a client gets wrong, from outside: each its one clear line or reply; nothing accepted is lost."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.site import DESTINATIONS, PASSWORD, SENDER, Site
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)
RECIPIENT = f"rita@{DESTINATIONS[0]}"


@contextmanager
def session(site: Site, *, login: bool = True) -> Iterator[smtplib.SMTP]:
    """Open a session over STARTTLS."""
    context = ssl.create_default_context(cafile=str(site.folder / "ca.pem"))
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", site.ports["starttls"], local_hostname="client.test", timeout=60) as client:
        client.starttls(context=context)
        if login:
            client.login("alice", PASSWORD)
        yield client


def letter(sender: str = SENDER, body: str = "Hello") -> str:
    """Write a message."""
    return f"From: {sender}\r\nTo: {RECIPIENT}\r\nSubject: x\r\n\r\n{body}\r\n"


def send_raw(client: smtplib.SMTP, content: bytes) -> tuple[int, bytes]:
    """Send content as it is, dots and line ends untouched."""
    client.mail(SENDER)
    client.rcpt(RECIPIENT)
    client.docmd("DATA")
    client.send(content + b"\r\n.\r\n")
    return client.getreply()


def test_bad_clients_hear_one_clear_reply_and_good_mail_goes_on(site: Site) -> None:
    """Wrong password, unknown user, foreign sender, bare LF, NUL, over-size; the next good message is delivered."""
    site.settings["PTT_INGRESS__MAX_MESSAGE_BYTES"] = "65536"
    site.start()
    for login, password in (("alice", "wrong"), ("nobody", PASSWORD)):
        with session(site, login=False) as client, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.login(login, password)
        assert refused.value.smtp_code == 535
    with session(site, login=False) as client:
        client.ehlo()
        assert client.mail(SENDER)[0] == 530
    with session(site) as client:
        assert client.mail("mallory@example.test")[0] == 550
        client.rset()
        assert client.docmd("MAIL", f"FROM:<{SENDER}> SIZE=70000")[0] == 552
        assert send_raw(client, letter("mallory@example.test").encode())[0] == 550
        assert send_raw(client, letter().encode() + b"bare\nLF")[0] == 554
        assert send_raw(client, letter().encode() + b"a\r\n.\nMAIL FROM:<a@example.test>")[0] == 554
        assert send_raw(client, letter().encode() + b"NUL \0")[0] == 554
        assert send_raw(client, letter().encode() + b"x" * 1000)[0] == 554
        assert send_raw(client, letter().encode() + b"too big\r\n" * 10_000)[0] == 552
        assert client.sendmail(SENDER, [RECIPIENT], letter(body="good")) == {}
    wait_until(lambda: list(site.read_arrived()), "the good message is delivered")
    assert [content.endswith(b"\r\n\r\ngood\r\n") for _, content in site.read_arrived()] == [True]
    assert site.stop() == 0


def test_mail_without_an_active_key_waits_and_is_never_sent_unsigned(site: Site) -> None:
    """No key for the From domain: the message is accepted, an alarm is raised, and nothing leaves."""
    site.ptt("user", "add", "bob", "--address", "bob@late.test", "--password-stdin", stdin=PASSWORD)
    site.start()
    with session(site, login=False) as client:
        client.login("bob", PASSWORD)
        assert client.sendmail("bob@late.test", [RECIPIENT], letter("bob@late.test")) == {}
        wait_until(lambda: site.has_event("key.missing"), "the alarm is raised")
    assert list(site.read_arrived()) == []
    assert site.stop() == 0
    assert not any(event["event"] == "recipient.delivered" for event in site.list_events())


def test_refused_dns_update_leaves_the_key_unused_and_says_why(site: Site) -> None:
    """The primary takes no update with this secret: one line, exit 1, the key stays out of use."""
    (site.folder / "tsig.key").write_text("A" * 43 + "=")
    site.ptt("key", "create", "example.test", "--selector", "second")
    ended = site.ptt("key", "publish", "example.test", expected=1)
    talk = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert len(talk) == 1
    assert "BADSIG" in talk[0]
    assert site.bind.get_texts("second._domainkey.example.test") == []
    assert '"state": "created"' in site.ptt("key", "list", "-o", "json").stdout


def test_wrong_settings_stop_the_start_with_all_problems_at_once(site: Site) -> None:
    """Each problem has its line with file, key and reason; exit 78; nothing is started."""
    path = site.folder / "ptt.toml"
    text = path.read_text().replace("poll_s = 0.5", "poll_s = -1\npol_s = 2").replace('"ingress.crt"', '"missing.crt"')
    path.write_text(text)
    ended = site.ptt("up", expected=78)
    lines = ended.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert {line.split(": ")[1] for line in lines} == {"users.poll_s", "users.pol_s", "ingress.certificate_file"}
