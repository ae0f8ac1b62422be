"""What a client may ask of the way, over a whole site: TLS, a hold, a deadline, priority, and to be known again."""

import asyncio
import contextlib
import re
import smtplib
import ssl
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.e2e.site import MX_ADDRESS, PASSWORD, SENDER, Site
from tests.scripted import Accepted, Script, scripted_server
from tests.waiting import wait_until_async

pytestmark = pytest.mark.timeout(600)
OFFER = ("PIPELINING", "8BITMIME", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY")
HOLD_S = 3
HOUR_S = 3600


@contextlib.contextmanager
def client_of(site: Site) -> Iterator[smtplib.SMTP_SSL]:
    """Log in as a client library does."""
    account = site.account()
    with smtplib.SMTP_SSL(account.address, account.port, context=account.context) as client:
        client.login(account.login, PASSWORD)
        yield client


def submit(site: Site, number: int, recipient: str, *wishes: str) -> str:
    """Submit a message in two chunks and give its queue-id."""
    content = f"From: {SENDER}\r\nMessage-ID: <{number}@example.test>\r\n\r\nmessage {number}\r\n.\r\n".encode()
    with client_of(site) as client:
        assert client.mail(SENDER, wishes)[0] == 250
        assert client.rcpt(recipient)[0] == 250
        client.send(b"BDAT 30\r\n" + content[:30])
        assert client.getreply()[0] == 250
        client.send(b"BDAT %d LAST\r\n%b" % (len(content) - 30, content[30:]))
        code, text = client.getreply()
        assert code == 250, text
    return text.decode().rpartition(" ")[2]


def list_failed(site: Site) -> dict[str, tuple[str, str]]:
    """Give recipient and status of each failure in the log, by queue-id."""
    return {
        event["queue_id"]: (event["recipient"], event["enhanced_status"])
        for event in site.list_events()
        if event["event"] == "recipient.failed"
    }


def check_delivered(accepted: Sequence[Accepted]) -> None:
    """Check what the MX host has heard and got of the first two messages."""
    secured, released = sorted(accepted, key=lambda one: "REQUIRETLS" not in one.mail)
    found = re.search(r"RET=HDRS REQUIRETLS MT-PRIORITY=5 BY=(\d+);N$", secured.mail)
    assert found, secured.mail
    assert HOUR_S - 600 < int(found[1]) < HOUR_S
    for number, one in ((1, secured), (2, released)):
        assert one.content.startswith(b"DKIM-Signature: ")
        assert one.content.endswith(b"\r\n\r\nmessage %d\r\n.\r\n" % number)


async def test_what_is_asked_is_done_by_all_roles_together(site: Site) -> None:
    """Each wish, from the client's parameter to what the MX host hears, the queue shows and the sender is told."""
    site.settings["PTT_INGRESS__IDEMPOTENCY_WINDOW_S"] = "3600"
    site.settings["PTT_RELAY__CA_FILE"] = str(site.folder / "ca.pem")
    assert site.sink is not None
    site.sink.kill()
    site.sink.wait()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(site.folder / "mx.crt", site.folder / "mx.key")
    async with scripted_server(Script(tls=tls, extensions=OFFER), address=MX_ADDRESS, port=site.sink_port) as mx:
        await asyncio.to_thread(site.start)
        asked = ("REQUIRETLS", "MT-PRIORITY=5", f"BY={HOUR_S};N")
        first = await asyncio.to_thread(submit, site, 1, "rita@destination.test", *asked)
        began = time.monotonic()
        await asyncio.to_thread(submit, site, 2, "rita@destination.test", f"HOLDFOR={HOLD_S}")
        # Nothing that is looked at may be over before it is.
        held = await asyncio.to_thread(submit, site, 4, "rita@destination.test", f"HOLDFOR={HOUR_S}")
        shown = (await asyncio.to_thread(site.ptt, "queue", "show", held)).stdout
        assert await asyncio.to_thread(submit, site, 1, "rita@destination.test", *asked) == first
        third = await asyncio.to_thread(submit, site, 3, "rita@elsewhere.test", "REQUIRETLS")

        await wait_until_async(lambda: len(mx.accepted) == 2, "both are delivered")
        assert time.monotonic() - began > HOLD_S - 1
        check_delivered(mx.accepted)
        assert "waiting until " in shown
        assert "its sender asked for this time (FUTURERELEASE)" in shown
        await wait_until_async(lambda: site.has_event("dsn.created"), "the sender is told")
    await wait_until_async(lambda: third in list_failed(site), "the failure is logged")
    failed = list_failed(site)
    # The report asks for the same as what it tells of (RFC 8689 section 5), so it fails too, sooner or later.
    assert failed.pop(third) == ("rita@elsewhere.test", "5.7.30")
    assert set(failed.values()) <= {(SENDER, "5.7.30")}
    assert [event["original"] for event in site.list_events() if event["event"] == "message.repeated"] == [first]
