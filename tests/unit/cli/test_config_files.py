"""What the files hold that the settings name: `ptt config check` and each program refuse the same, all at once."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ptt.store.users_repository import make_clone
from ptt.workers.ingress import main as run_ingress
from tests.servers.submission import make_certificate
from tests.unit.cli.conftest import Run

TSIG = '[dns_update]\nserver = "192.0.2.53"\ntsig_key_name = "ptt"\ntsig_secret_file = "tsig.secret"\n'
WRONG_SETTING = "environment: PTT_LOG__LEVELS: unknown key; did you mean PTT_LOG__LEVEL?"
CHECKOUT = Path(__file__).parents[3]


def write_secret(path: Path, content: bytes) -> None:
    """Write a file of mode 0600."""
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.fixture
def site(run: Run, tmp_path: Path) -> Path:
    """Give a folder with settings that are fine."""
    run("init", "--domain", "example.test")
    return tmp_path


@pytest.fixture
def broken(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder in which every file that counts is there, readable, and wrong."""
    monkeypatch.setenv("PTT_USERS__REPOSITORY", "/nonexistent.git")
    monkeypatch.setenv("PTT_REDIS__URL", "redis://127.0.0.1:1")
    write_secret(site / "seal.key", b"\xff\x00abc")
    write_secret(site / "tsig.secret", b"not base64!")
    (site / "other").mkdir()
    write_secret(site / "tls/key.pem", make_certificate(site / "other").key_file.read_bytes())
    monkeypatch.setenv("PTT_DNS_UPDATE", '{"server": "192.0.2.53", "tsig_key_name": "ptt"}')
    monkeypatch.setenv("PTT_DNS_UPDATE__TSIG_SECRET_FILE", str(site / "tsig.secret"))
    monkeypatch.setenv("PTT_LOG__LEVELS", "info")
    return site


def list_ingress_lines(site: Path) -> list[str]:
    """Give what is wrong for ingress, the settings apart."""
    certificate = site / "tls/certificate.pem"
    missing = "users repository /nonexistent.git: Repository not found at /nonexistent.git"
    return [
        f"{site}/seal.key: ingress.seal_key_file: not base64",
        f"{site}/tls/key.pem: ingress.key_file: does not belong to the certificate in {certificate}",
        f"environment: PTT_USERS__REPOSITORY: {missing}",
    ]


def list_sign_lines(site: Path) -> list[str]:
    """Give what is wrong for sign, the settings apart."""
    return [
        f"{site}/seal.key: ingress.seal_key_file: not base64",
        f"{site}/tsig.secret: dns_update.tsig_secret_file: not base64",
    ]


@pytest.mark.parametrize("command", [("config", "check"), ("up",)])
def test_wrong_content_of_all_files_is_told_at_once(run: Run, broken: Path, command: tuple[str, ...]) -> None:
    """Beside wrong settings, and before anything is started."""
    result = run(*command)
    assert result.exit_code == 78
    assert sorted(result.stderr.splitlines()) == sorted(
        {
            WRONG_SETTING,
            *list_ingress_lines(broken),
            *list_sign_lines(broken),
        }
    )


def test_up_refuses_a_port_that_it_would_share(run: Run, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second site on one host, with a Redis of its own, would take half of the clients of the first."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("PTT_REDIS__URL", "redis://127.0.0.1:1")
        monkeypatch.setenv("PTT_INGRESS__LISTEN", f'[{{"address": "127.0.0.1", "port": {port}, "tls": "implicit"}}]')
        result = run("up")
    assert (result.exit_code, result.stderr) == (78, f"ingress.listen: 127.0.0.1 port {port}: Address already in use\n")
    assert site.exists()


def test_ingress_tells_all_at_once(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing of what belongs to other roles."""
    assert run_ingress(["--config", "ptt.toml"]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert lines == [WRONG_SETTING, *list_ingress_lines(broken)]


def test_sign_worker_tells_all_at_once(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the other programs do, and before it looks at Redis, which is not there."""
    monkeypatch.setenv("PTT_CONFIG", str(broken / "ptt.toml"))
    monkeypatch.delenv("PTT_LOG__LEVELS")
    command = [sys.executable, "-m", "celery", "-A", "ptt", "worker", "-Q", "sign"]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.splitlines()) == (78, list_sign_lines(broken))


@pytest.mark.parametrize(
    "case",
    [
        ("ingress", "PTT_INGRESS__CERTIFICATE_FILE", "ingress.certificate_file: not a PEM file with a certificate"),
        ("ingress", "PTT_INGRESS__KEY_FILE", "ingress.key_file: not a PEM file with a private key, or it has a"),
        ("ingress", "PTT_INGRESS__CLIENT_CA_FILE", "ingress.client_ca_file: not a PEM file with certificates"),
        ("ingress", "PTT_OAUTH__KEYS_FILE", "oauth.keys_file: "),
        ("relay", "PTT_RELAY__CA_FILE", "relay.ca_file: not a PEM file with certificates"),
        ("sign", "PTT_REDIS__CA_FILE", "redis.ca_file: not a PEM file with certificates"),
        ("up", "PTT_REDIS__CERTIFICATE_FILE", "redis.certificate_file: not a PEM file with a certificate"),
    ],
)
def test_garbage_in_a_file_is_told(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str]
) -> None:
    """One line for each file, also where several roles read it."""
    role, setting, expected = case
    garbage = site / "garbage"
    write_secret(garbage, b"garbage")
    monkeypatch.setenv("PTT_REDIS__URL", "rediss://127.0.0.1:1")
    monkeypatch.setenv("PTT_OAUTH__ISSUER", "https://oauth.test")
    monkeypatch.setenv("PTT_OAUTH__AUDIENCE", "ptt")
    monkeypatch.setenv(setting, str(garbage))
    result = run("config", "check", "--role", role)
    assert result.exit_code == 78
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{garbage}: {expected}")


def test_each_further_certificate_is_looked_at(run: Run, site: Path) -> None:
    """One that cannot be read does not hide the fault of another."""
    (site / "garbage").write_bytes(b"garbage")
    more = [("nowhere", "tls/key.pem"), ("garbage", "tls/key.pem"), ("tls/certificate.pem", "tls/key.pem")]
    tables = ", ".join(f'{{ certificate_file = "{one}", key_file = "{key}" }}' for one, key in more)
    text = (site / "ptt.toml").read_text()
    (site / "ptt.toml").write_text(text.replace("[ingress]\n", f"[ingress]\ncertificates = [ {tables} ]\n"))
    result = run("config", "check", "--role", "ingress")
    assert result.stderr.splitlines() == [
        "ptt.toml: redis.url: missing; `ingress` needs it",
        "ptt.toml: ingress.certificates[0].certificate_file: cannot be read: No such file or directory",
        f"{site}/garbage: ingress.certificate_file: not a PEM file with a certificate",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TSIG.replace('tsig_key_name = "ptt"\n', ""), "dns_update.tsig_key_name: missing; dns_update.server needs it"),
        ("[signing]\nrotate_after_days = 90\n", "signing.rotate_after_days: needs dns_update.server"),
    ],
)
def test_settings_that_need_others_are_told(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: str
) -> None:
    """What sign refuses to start with for what it lacks; the line begins with where the setting is."""
    write_secret(site / "tsig.secret", b"c2VjcmV0")
    (site / "ptt.toml").write_text(text)
    for name, value in (("REDIS__URL", "redis://r.test"), ("INGRESS__SEAL_KEY_FILE", site / "seal.key")):
        monkeypatch.setenv(f"PTT_{name}", str(value))
    monkeypatch.setenv("PTT_SIGNING__KEYS_DIR", str(site / "keys"))
    result = run("config", "check", "--role", "sign")
    assert result.exit_code == 78
    assert result.stderr.startswith(f"ptt.toml: {line}")


def test_repository_elsewhere_is_not_asked(run: Run, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be down: then the users of the last good commit go on. And a check leaves no clone behind."""
    monkeypatch.setenv("PTT_USERS__REPOSITORY", "https://127.0.0.1:1/users.git")
    monkeypatch.setenv("PTT_USERS__CLONE_DIR", str(site / "clone"))
    assert run("config", "check").exit_code == 0
    assert not (site / "clone").exists()
    make_clone(site / "clone", "https://other.test/users.git")
    result = run("config", "check")
    assert result.exit_code == 78
    assert result.stderr.startswith("environment: PTT_USERS__CLONE_DIR: ")
    assert "is the clone of 'https://other.test/users.git'" in result.stderr
