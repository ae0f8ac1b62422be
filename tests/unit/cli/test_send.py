"""`ptt send` against aiosmtpd as a submission server of somebody else."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.servers.ports import free_port
from tests.unit.cli.conftest import Run

# aiosmtpd does not count TLS from the first byte as TLS.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")

ARGUMENTS = ("send", "--user", "alice", "--from", "alice@example.test", "--to", "bob@example.test", "--password-stdin")


class Inbox:
    """Keeps what was accepted; answers ``refused@`` with 5yz and ``later@`` with 4yz."""

    def __init__(self) -> None:
        """Start empty."""
        self.envelopes: list[Envelope] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Accept a recipient or not."""
        refusals = {"refused": "550 5.1.1 no such user", "later": "451 4.3.0 try again"}
        if refusal := refusals.get(address.partition("@")[0]):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - same
        """Keep a message."""
        self.envelopes.append(envelope)
        return "250 2.0.0 queued as 0123456789ABCDEFGHJK"


def check_password(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object) -> AuthResult:
    """Let alice in."""
    assert isinstance(data, LoginPassword)
    return AuthResult(success=(data.login, data.password) == (b"alice", b"secret"), handled=False)


@pytest.fixture
def inbox() -> Inbox:
    """Give an empty inbox."""
    return Inbox()


@contextmanager
def running(inbox: Inbox, folder: Path, tls: str) -> Iterator[int]:
    """Run a server for mail.example.test, write the settings that go with it, and give its port."""
    authority = trustme.CA()
    certificate = authority.issue_cert("mail.example.test")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    authority.cert_pem.write_to_path(str(folder / "certificate.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    port = free_port()
    (folder / "ptt.toml").write_text(f"""
[ingress]
hostname = "mail.example.test"
listen = [ {{ address = "0.0.0.0", port = {port}, tls = "{tls}" }} ]
certificate_file = "certificate.pem"
""")
    is_implicit = tls == "implicit"
    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=port,
        authenticator=check_password,
        auth_required=True,
        auth_require_tls=not is_implicit,
        ssl_context=context if is_implicit else None,
        tls_context=None if is_implicit else context,
        require_starttls=not is_implicit,
        ready_timeout=60,
    )
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture
def server(inbox: Inbox, tmp_path: Path) -> Iterator[Inbox]:
    """Run a server with TLS from the first byte, and give its inbox."""
    with running(inbox, tmp_path, "implicit"):
        yield inbox


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_send_prints_every_reply(run: Run, tmp_path: Path, inbox: Inbox, tls: str) -> None:
    """Over verified TLS through the first address of ingress.listen; the password is not repeated."""
    with running(inbox, tmp_path, tls):
        result = run(*ARGUMENTS, "--subject", "Grüße", "--text", ".dot\nend", stdin="secret\n")
    assert result.exit_code == 0, result.output
    (envelope,) = inbox.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("alice@example.test", ["bob@example.test"])
    assert isinstance(envelope.content, bytes)
    head, _, body = envelope.content.partition(b"\r\n\r\n")
    assert body == b".dot\r\nend\r\n"
    for line in (
        b"From: alice@example.test",
        b"To: bob@example.test",
        b"Subject: =?utf-8?",
        b"Date: ",
        b"Message-ID: <",
    ):
        assert b"\r\n" + line in b"\r\n" + head
    lines = result.stdout.splitlines()
    assert "C: AUTH PLAIN ***" in lines
    assert ("C: STARTTLS" in lines) is (tls == "starttls")
    assert lines[-1] == "S: 250 2.0.0 queued as 0123456789ABCDEFGHJK"


@pytest.mark.usefixtures("server")
def test_send_json_gives_all_steps(run: Run) -> None:
    """For programs: command, code and text of each step."""
    result = run(*ARGUMENTS, "-o", "json", stdin="secret")
    steps = json.loads(result.stdout)
    assert [step["code"] for step in steps] == [220, 250, 235, 250, 250, 354, 250]
    assert steps[3]["command"] == "MAIL FROM:<alice@example.test>"


@pytest.mark.parametrize(
    ("more", "password", "ending"),
    [
        ((), "wrong", (1, "not sent: 535")),
        (("--to", "refused@example.test"), "secret", (1, "not sent: 550 5.1.1 no such user")),
        (("--to", "later@example.test"), "secret", (75, "not sent: 451 4.3.0 try again")),
    ],
)
def test_send_refused_says_so(
    run: Run, server: Inbox, more: tuple[str, ...], password: str, ending: tuple[int, str]
) -> None:
    """No is 1, later is 75, and nothing was sent."""
    result = run(*ARGUMENTS, *more, stdin=password)
    assert result.exit_code == ending[0]
    assert ending[1] in result.stderr
    assert server.envelopes == []


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_send_to_a_stranger_stops_before_the_password(run: Run, tmp_path: Path, inbox: Inbox, tls: str) -> None:
    """A certificate that nobody vouches for ends it, unless --insecure is given."""
    with running(inbox, tmp_path, tls) as port:
        server = ("--server", f"127.0.0.1:{port}", *(("--starttls",) if tls == "starttls" else ()))
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "certificate.pem"))
        result = run(*ARGUMENTS, *server, stdin="secret")
        assert result.exit_code == 1
        assert "--insecure" in result.stderr
        assert "AUTH" not in result.stdout
        assert inbox.envelopes == []
        assert run(*ARGUMENTS, *server, "--insecure", stdin="secret").exit_code == 0


def test_send_to_nobody_is_temporary(run: Run) -> None:
    """A port that nobody listens on may be served later."""
    result = run(*ARGUMENTS, "--server", f"127.0.0.1:{free_port()}", stdin="secret")
    assert result.exit_code == 75
    assert "Connection refused" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--server", "host:port"), ("--subject", "a\nBcc: eve@example.test"), ("--to", "bob"), ("--to", "a@b.test>\n<x")],
)
def test_send_malformed_argument_is_a_usage_error(run: Run, arguments: tuple[str, ...]) -> None:
    """Nothing is sent that was not meant."""
    assert run(*ARGUMENTS, *arguments, stdin="secret").exit_code == 2
