"""Every mechanism with clients that are not ours: msmtp, GNU SASL, curl, nodemailer, Python's smtplib."""

import base64
import json
import os
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trustme

from ptt.core.credentials import make_application_password
from ptt.core.user_file import add_application_password, format_user
from ptt.store.connection import RedisAddress
from ptt.store.sign_queue import SignQueue
from ptt.store.users_password import derive_scram, hash_password
from tests.servers.ingress import LOGIN, PASSWORD, SENDER, IngressProcess, IngressSite, make_site, running_ingress
from tests.servers.oauth import AUDIENCE, ISSUER, OAuthServer
from tests.servers.redis import RedisServer

RECIPIENT = "rita@destination.test"
APPLICATION_PASSWORD = "made up for the printer"
TLS = ("implicit", "starttls")
LETTER = f"From: {SENDER}\nSubject: hello\n\nHello\n"


@dataclass(frozen=True)
class Place:
    """A running server with all that clients need to log in by any mechanism."""

    ingress: IngressProcess
    site: IngressSite
    token: str

    @property
    def authority(self) -> str:
        """Give the path of what signed the server's certificate."""
        return str(self.site.certificate.authority_file)

    def path(self, name: str) -> str:
        """Give the path of a file."""
        return str(self.site.folder / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, valkey_process: RedisServer) -> Iterator[Place]:
    """Run the server that all tests here share."""
    folder = tmp_path_factory.mktemp("login")
    site = make_site(folder, valkey_process.url)
    issued = trustme.CA()
    issued.cert_pem.write_to_path(str(folder / "clients.pem"))
    certificate = issued.issue_cert("app.example.test")
    certificate.private_key_pem.write_to_path(str(folder / "client.key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    oauth = OAuthServer(folder / "keys.json")
    oauth.publish()
    text = format_user(hash_password(PASSWORD.encode()), [SENDER], derive_scram(PASSWORD.encode()))
    text += 'certificates = ["dns:app.example.test"]\n'
    printer = make_application_password("printer", APPLICATION_PASSWORD.encode())
    site.commit_file(LOGIN, add_application_password(LOGIN, text, printer))
    site.write_config(client_ca_file=folder / "clients.pem")
    with site.config.open("a") as config:
        config.write(f'[oauth]\nkeys_file = "{oauth.keys_file}"\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\n')
    with running_ingress(site) as ingress:
        yield Place(ingress, site, oauth.issue(LOGIN))


def run(*argv: str, text: str = "", environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a client."""
    assert shutil.which(argv[0]), f"{argv[0]} is missing: see tests/install_peers.sh"
    environment = {**os.environ, **(environment or {})}
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False, env=environment)


def count_spooled(address: RedisAddress) -> int:
    """Count the messages that wait to be signed."""
    entries, _ = SignQueue(address, lease_s=30).claim()
    return len(entries)


@pytest.mark.parametrize(
    ("mechanism", "tls"),
    [
        ("scram-sha-256", "implicit"),
        ("scram-sha-256", "starttls"),
        ("plain", "starttls"),
        ("login", "implicit"),
        ("external", "implicit"),
        ("external", "starttls"),
        ("oauthbearer", "starttls"),
        ("on", "implicit"),
    ],
)
def test_msmtp_submits(place: Place, address: RedisAddress, mechanism: str, tls: str) -> None:
    """By each mechanism that it knows, and by the one that it chooses."""
    secret = place.token if mechanism == "oauthbearer" else PASSWORD
    certificate = (f"--tls-cert-file={place.path('client.pem')}", f"--tls-key-file={place.path('client.key')}")
    client = run(
        *("msmtp", "--host=127.0.0.1", f"--port={place.ingress.port(tls)}", "--tls=on", f"--from={SENDER}"),
        *(f"--tls-starttls={'on' if tls == 'starttls' else 'off'}", f"--tls-trust-file={place.authority}"),
        *(f"--auth={mechanism}", f"--user={LOGIN}", f"--passwordeval=printf '%s\\n' '{secret}'"),
        *(certificate if mechanism == "external" else ()),
        RECIPIENT,
        text=LETTER,
    )
    assert client.returncode == 0, client.stderr
    assert count_spooled(address) == 1


def test_msmtp_with_a_wrong_password_hears_535(place: Place) -> None:
    """SCRAM of a known and an unknown user end the same way."""
    words = []
    for login in (LOGIN, "nobody"):
        client = run(
            *("msmtp", "--host=127.0.0.1", f"--port={place.ingress.port('implicit')}", "--tls=on"),
            *("--tls-starttls=off", f"--tls-trust-file={place.authority}", f"--from={SENDER}"),
            *("--auth=scram-sha-256", f"--user={login}", "--passwordeval=echo wrong", RECIPIENT),
            text=LETTER,
        )
        assert client.returncode == 77  # EX_NOPERM
        words.append(client.stderr.replace(login, ""))
    assert "535 5.7.8" in words[0]
    assert words[0] == words[1]


@pytest.mark.parametrize(
    ("mechanism", "options"),
    [
        ("SCRAM-SHA-256-PLUS", ("--priority=NORMAL:-VERS-TLS1.3",)),
        ("SCRAM-SHA-256", ("--no-cb",)),
        ("PLAIN", ()),
    ],
)
def test_gsasl_logs_in_and_knows_the_server(place: Place, mechanism: str, options: tuple[str, ...]) -> None:
    """GNU SASL binds to TLS 1.2 by itself, and checks with SCRAM that the server knows the password too."""
    client = run(
        *("gsasl", "--client", "--smtp", f"--connect=127.0.0.1:{place.ingress.port('starttls')}", "--starttls"),
        *(f"--x509-ca-file={place.authority}", f"--mechanism={mechanism}", f"--authentication-id={LOGIN}"),
        *(f"--password={PASSWORD}", *options),
    )
    assert "235 2.7.0 Authentication successful" in client.stdout, client.stdout + client.stderr
    assert "Client authentication finished (server trusted)" in client.stdout + client.stderr


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "EXTERNAL"])
@pytest.mark.parametrize("tls", TLS)
def test_curl_submits(place: Place, address: RedisAddress, mechanism: str, tls: str) -> None:
    """With a token, and with a certificate."""
    letter = place.site.folder / "letter"
    letter.write_bytes(LETTER.replace("\n", "\r\n").encode())
    proof = {
        "OAUTHBEARER": ("--oauth2-bearer", place.token),
        "EXTERNAL": ("--cert", place.path("client.pem"), "--key", place.path("client.key")),
    }
    client = run(
        *("curl", "-sS", "--ssl-reqd", "--cacert", place.authority, "--user", f"{LOGIN}:", *proof[mechanism]),
        *("--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", str(letter)),
        *("--login-options", f"AUTH={mechanism}"),
        f"{'smtps' if tls == 'implicit' else 'smtp'}://127.0.0.1:{place.ingress.port(tls)}/curl.test",
    )
    assert client.returncode == 0, client.stderr
    assert count_spooled(address) == 1


def test_curl_with_a_bad_token_gets_one_final_reply(place: Place) -> None:
    """It answers the error challenge and understands the 535 after it."""
    client = run(
        *("curl", "-sS", "-v", "--ssl-reqd", "--cacert", place.authority, "--user", f"{LOGIN}:"),
        *("--oauth2-bearer", place.token[:-4] + "AAAA", "--login-options", "AUTH=OAUTHBEARER"),
        *("--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", os.devnull),
        f"smtps://127.0.0.1:{place.ingress.port('implicit')}/curl.test",
    )
    assert client.returncode == 67  # CURLE_LOGIN_DENIED
    heard = [line[2:] for line in client.stderr.splitlines() if line.startswith("< ")]
    (challenge,) = [line for line in heard if line.startswith("334 ") and len(line) > 4]
    assert json.loads(base64.b64decode(challenge[4:]))["status"] == "invalid_token"
    assert [line for line in heard if line.startswith("535 ")] == ["535 5.7.8 Authentication credentials invalid"]


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_nodemailer_submits(place: Place, address: RedisAddress, tls: str, mechanism: str) -> None:
    """What programs in JavaScript use; it verifies the certificate and refuses to go on in clear."""
    transport = {
        "host": "127.0.0.1",
        "port": place.ingress.port(tls),
        "secure": tls == "implicit",
        "requireTLS": True,
        "authMethod": mechanism,
        "auth": {"user": LOGIN, "pass": APPLICATION_PASSWORD if tls == "implicit" else PASSWORD},
        "tls": {"servername": "localhost"},
    }
    letter = {"from": SENDER, "to": RECIPIENT, "subject": "hello", "text": "Hello"}
    client = run(
        *("node", "tests/servers/nodemailer.js", json.dumps({"transport": transport, "message": letter})),
        environment={"NODE_EXTRA_CA_CERTS": place.authority, "NODE_PATH": "/usr/share/nodejs:/usr/lib/nodejs"},
    )
    assert client.stdout.startswith("250 2.0.0 queued as "), client.stderr
    assert count_spooled(address) == 1


def test_smtplib_logs_in_with_an_application_password(place: Place) -> None:
    """Beside the user's own password, and in the mechanism that the library chooses."""
    context = ssl.create_default_context(cafile=place.authority)
    for password in (APPLICATION_PASSWORD, PASSWORD):
        with smtplib.SMTP_SSL("127.0.0.1", place.ingress.port("implicit"), context=context) as client:
            assert client.login(LOGIN, password)[0] == 235
