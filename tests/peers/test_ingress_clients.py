"""The submission server with the clients that people use: swaks, curl and Python's smtplib."""

import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from ptt.store.connection import RedisAddress
from ptt.store.sign_queue import SignQueue
from tests.servers.ingress import LOGIN, PASSWORD, SENDER, IngressProcess, IngressSite, make_site, running_ingress
from tests.servers.redis import RedisServer
from tests.servers.submission import HOSTNAME

RECIPIENT = "rita@destination.test"
TLS = ("implicit", "starttls")
MECHANISMS = ("PLAIN", "LOGIN")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, valkey_process: RedisServer) -> IngressSite:
    """Give the folder of the server that all tests here share."""
    return make_site(tmp_path_factory.mktemp("ingress"), valkey_process.url)


@pytest.fixture(scope="module")
def ingress(site: IngressSite) -> Iterator[IngressProcess]:
    """Run the server."""
    with running_ingress(site) as process:
        yield process


def spooled(address: RedisAddress) -> list[bytes]:
    """Give the contents that wait to be signed."""
    queue = SignQueue(address, lease_s=30)
    entries, _ = queue.claim()
    return [queue.read(entry) for entry in entries]


def run(*argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a client."""
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_swaks_submits_a_message(ingress: IngressProcess, address: RedisAddress, tls: str, mechanism: str) -> None:
    """Both ports, both mechanisms; with pipelining, which swaks does when it is offered and asked for."""
    client = run(
        *("swaks", "--server", "127.0.0.1", "--port", str(ingress.port(tls)), "--pipeline"),
        *("--tls-on-connect" if tls == "implicit" else "--tls", "--helo", "swaks.test"),
        *("--auth", mechanism, "--auth-user", LOGIN, "--auth-password", PASSWORD),
        *("--from", SENDER, "--to", RECIPIENT, "--body", "..dots\n.\nHello"),
    )
    assert client.returncode == 0, client.stdout + client.stderr
    assert "250 2.0.0 queued as " in client.stdout
    (content,) = spooled(address)
    assert content.startswith(b"Received: from swaks.test ([127.0.0.1])\r\n\tby " + HOSTNAME.encode())
    assert b"\r\n..dots\r\n.\r\nHello\r\n" in content


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_curl_submits_a_message(  # noqa: PLR0913, PLR0917 - fixtures and cases
    ingress: IngressProcess, site: IngressSite, address: RedisAddress, tmp_path: Path, tls: str, mechanism: str
) -> None:
    """Curl verifies the certificate, refuses to go on in clear, and gives no initial response unless told."""
    message = tmp_path / "message"
    message.write_bytes(f"From: Alice <{SENDER}>\r\nSubject: curl\r\n\r\n.Hello\r\n".encode())
    client = run(
        *("curl", "-sS", "--ssl-reqd", "--cacert", str(site.certificate.authority_file)),
        *("--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", str(message)),
        *("--user", f"{LOGIN}:{PASSWORD}", "--login-options", f"AUTH={mechanism}"),
        f"{'smtps' if tls == 'implicit' else 'smtp'}://127.0.0.1:{ingress.port(tls)}/curl.test",
    )
    assert client.returncode == 0, client.stderr
    (content,) = spooled(address)
    assert content.endswith(f"From: Alice <{SENDER}>\r\nSubject: curl\r\n\r\n.Hello\r\n".encode())
    assert content.count(b"\r\nMessage-ID: ") == 1


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_smtplib_submits_several_messages(
    ingress: IngressProcess, site: IngressSite, address: RedisAddress, tls: str, mechanism: str
) -> None:
    """One connection, several messages, with RSET and NOOP between them; Bcc reaches the envelope and nobody's eyes."""
    context = ssl.create_default_context(cafile=str(site.certificate.authority_file))
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = f"Jérôme <{SENDER}>", RECIPIENT, "hidden@destination.test"
    message["Subject"] = "Grüße"
    message.set_content("Grüße\n.\n")
    port = ingress.port(tls)
    opened = (
        smtplib.SMTP_SSL("127.0.0.1", port, context=context) if tls == "implicit" else smtplib.SMTP("127.0.0.1", port)
    )
    with opened as client:
        if tls == "starttls":
            client.starttls(context=context)
        client.ehlo("smtplib.test")
        client.user, client.password = LOGIN, PASSWORD
        client.auth(mechanism, client.auth_plain if mechanism == "PLAIN" else client.auth_login)
        for _ in range(3):
            assert client.send_message(message) == {}
            client.rset()
            client.noop()
    contents = spooled(address)
    assert len(contents) == 3
    assert all(b"hidden" not in content for content in contents)


def test_submission_made_again_over_two_processes_is_one_message(
    tmp_path: Path, valkey: RedisServer, address: RedisAddress
) -> None:
    """`ingress.idempotency_window_s`: a client that never saw the 250 hears it again, from any process."""
    site = make_site(tmp_path, valkey.url)
    site.write_config(idempotency_window_s=60)
    context = ssl.create_default_context(cafile=str(site.certificate.authority_file))
    heard = []
    for mark in (b"<1@x.test>", b"<1@x.test>", b"<2@x.test>"):
        content = b"From: %b\r\nMessage-ID: %b\r\n\r\nbody\r\n" % (SENDER.encode(), mark)
        with (
            running_ingress(site) as process,
            smtplib.SMTP_SSL("127.0.0.1", process.port("implicit"), context=context) as client,
        ):
            client.login(LOGIN, PASSWORD)
            client.mail(SENDER)
            client.rcpt(RECIPIENT)
            heard.append(client.data(content))
    assert heard[0] == heard[1] != heard[2]
    assert len(spooled(address)) == 2


def test_smtplib_hears_why_it_is_refused(ingress: IngressProcess, site: IngressSite, address: RedisAddress) -> None:
    """Codes and texts arrive as the client library's own exceptions."""
    context = ssl.create_default_context(cafile=str(site.certificate.authority_file))
    with smtplib.SMTP_SSL("127.0.0.1", ingress.port("implicit"), context=context) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
            client.login(LOGIN, "wrong", initial_response_ok=False)
        assert wrong.value.smtp_code == 535
        client.login(LOGIN, PASSWORD)
        with pytest.raises(smtplib.SMTPSenderRefused) as sender:
            client.sendmail("bob@example.test", [RECIPIENT], "From: bob@example.test\r\n\r\n")
        assert sender.value.smtp_code == 550
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail(SENDER, ["rita@localhost"], f"From: {SENDER}\r\n\r\n")
        with pytest.raises(smtplib.SMTPDataError) as header:
            client.sendmail(SENDER, [RECIPIENT], "From: bob@example.test\r\n\r\n")
        assert header.value.smtp_code == 550
    assert spooled(address) == []
