"""Whole processes: what cannot be delivered comes back to its sender once, signed; and only to who wants to know."""

import email
import email.policy
import os
import signal
import smtplib
from collections import Counter
from email.message import EmailMessage

import pytest

from tests.e2e.site import PASSWORD, SENDER, Site
from tests.e2e.test_whole_path import check_spool_is_empty, records_of
from tests.servers.verifiers import verify_by_dkimpy
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)
REFUSED = "refused@destination.test"


def submit(site: Site, name: str, recipient: str = REFUSED, sender: str = SENDER, notify: str = "") -> None:
    """Submit a message whose Message-ID is made of the name."""
    account = site.account()
    content = f"From: {SENDER}\r\nMessage-ID: <{name}@example.test>\r\nSubject: {name}\r\n\r\nHello\r\n"
    with smtplib.SMTP_SSL(account.address, account.port, context=account.context) as client:
        client.login("alice", PASSWORD)
        assert client.has_extn("dsn")
        asked = [f"NOTIFY={notify}", f"ORCPT=rfc822;{recipient}"] if notify else []
        client.sendmail(sender, [recipient], content, ["ENVID=" + name] if notify else [], asked)


def read_reports(site: Site) -> list[tuple[EmailMessage, bytes]]:
    """Give what came back to the sender."""
    reports = []
    for head, content in site.read_arrived():
        if f"RCPT TO:<{SENDER}>" in head["envelope"]:
            assert head["envelope"][0].startswith("MAIL FROM:<> ")
            message = email.message_from_bytes(content, policy=email.policy.SMTP)
            assert isinstance(message, EmailMessage)
            reports.append((message, content))
    return reports


def test_report_comes_back_once_signed_and_only_where_it_is_wanted(site: Site) -> None:
    """A refusal is reported, a null reverse-path and NOTIFY=NEVER are not; success is where it was asked for."""
    site.start()
    submit(site, "plain")
    submit(site, "null", sender="")
    submit(site, "never", notify="NEVER")
    submit(site, "asked", "rita@elsewhere.test", notify="SUCCESS,FAILURE")
    wait_until(lambda: len(read_reports(site)) == 2, "two reports come back", 120)
    check_spool_is_empty(site)
    reports = read_reports(site)
    assert sorted(message["In-Reply-To"] for message, _ in reports) == ["<asked@example.test>", "<plain@example.test>"]
    records = records_of(site)
    for message, content in reports:
        assert verify_by_dkimpy(content, records) == ["rsa-sha256=pass"]
        assert message["From"].addresses[0].domain == "example.test"
        assert message["Auto-Submitted"] == "auto-replied"
    status = {message["In-Reply-To"]: content for message, content in reports}
    assert b"\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n" in status["<plain@example.test>"]
    assert b"\r\nAction: failed\r\n" in status["<plain@example.test>"]
    assert b"\r\nAction: relayed\r\n" in status["<asked@example.test>"]
    assert b"\r\nOriginal-Envelope-Id: asked\r\n" in status["<asked@example.test>"]
    assert b"\r\nOriginal-Recipient: rfc822; rita@elsewhere.test\r\n" in status["<asked@example.test>"]
    assert [event["event"] for event in site.list_events()].count("dsn.created") == 2
    assert site.stop() == 0


def test_each_failure_is_reported_once_when_signers_are_killed(site: Site) -> None:
    """Signers are killed while they make reports: none is lost, none comes twice."""
    site.start()
    names = [f"n{number}" for number in range(60)]
    for name in names:
        submit(site, name)
    wait_until(lambda: site.has_event("dsn.created"), "the first report is made")
    for pid in site.find_processes("-Q sign"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(read_reports(site)) >= len(names), "each failure is reported", 240)
    check_spool_is_empty(site)
    answered = Counter(message["In-Reply-To"] for message, _ in read_reports(site))
    assert answered == {f"<{name}@example.test>": 1 for name in names}
    assert site.stop() == 0
