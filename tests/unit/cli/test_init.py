"""`ptt init`: what it makes, and that nothing is lost by calling it."""

import base64
import re
import ssl
import stat
from pathlib import Path

import pytest

from ptt.settings import Settings, list_fields, load_settings
from ptt.store.users_commit import read_users
from ptt.store.users_transfer import Access
from tests.unit.cli.conftest import Run


def get_mode(path: Path) -> int:
    """Give the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_init_makes_all_that_up_needs(run: Run, tmp_path: Path) -> None:
    """After `ptt init --domain D` nothing is missing for `ptt up`."""
    result = run("init", "--domain", "example.test")
    assert result.exit_code == 0, result.output
    settings = load_settings(role="up")
    assert settings.ingress.hostname == "mail.example.test"
    assert len(base64.b64decode((tmp_path / "seal.key").read_bytes())) == 32
    assert read_users(Access(repository=settings.users.repository)).users == {}
    assert settings.up.data_dir == tmp_path / "var/valkey"
    assert "SELF-SIGNED" in result.stderr
    assert "ptt up" in result.stderr
    assert result.stdout == ""


def test_init_keeps_secrets_private(run: Run, tmp_path: Path) -> None:
    """Keys and password hashes are for the owner only."""
    run("init", "--domain", "example.test")
    private = {"seal.key": 0o600, "tls/key.pem": 0o600, "keys": 0o700, "users.git": 0o700, "var": 0o700}
    assert {name: get_mode(tmp_path / name) for name in private} == private


def test_init_twice_changes_nothing(run: Run, tmp_path: Path) -> None:
    """What is there is named and left as it is."""
    run("init", "--domain", "example.test")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = run("init", "--domain", "other.test")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"{name}: exists already, nothing was changed" for name in ("ptt.toml", "seal.key", "users.git")
    ]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_init_keeps_a_certificate_that_is_there(run: Run, tmp_path: Path) -> None:
    """A certificate of the user is never replaced."""
    (tmp_path / "tls").mkdir()
    for name in ("certificate.pem", "key.pem"):
        (tmp_path / "tls" / name).write_text("mine")
    assert "SELF-SIGNED" not in run("init", "--domain", "example.test").stderr
    assert (tmp_path / "tls/key.pem").read_text() == "mine"


def test_init_in_another_folder_names_it_in_the_next_steps(run: Run, tmp_path: Path) -> None:
    """The commands printed can be copied."""
    result = run("init", "--domain", "example.test", "--directory", "etc/ptt")
    assert "  ptt --config etc/ptt/ptt.toml user add alice --address alice@example.test" in result.stderr.splitlines()
    assert load_settings(Path("etc/ptt/ptt.toml"), role="up").signing.keys_dir == tmp_path / "etc/ptt/keys"


def test_init_with_certificate_writes_its_path(run: Run, tmp_path: Path) -> None:
    """A certificate of a public authority stays where it is renewed."""
    (tmp_path / "c.pem").write_text("x")
    (tmp_path / "k.pem").write_text("x")
    result = run("init", "--domain", "example.test", "--directory", "d", "--certificate", "c.pem", "--key", "k.pem")
    ingress = load_settings(Path("d/ptt.toml"), role="up").ingress
    assert (ingress.certificate_file, ingress.key_file) == (tmp_path / "c.pem", tmp_path / "k.pem")
    assert not (tmp_path / "d/tls/certificate.pem").exists()
    assert "ingress.certificate_file" not in result.stderr
    assert run("init", "--certificate", "c.pem").exit_code == 2


def test_init_without_domain_says_what_is_left_to_do(run: Run) -> None:
    """No name is guessed: the next step says what to set."""
    result = run("init")
    assert result.exit_code == 0
    assert "set ingress.hostname" in result.stderr
    assert load_settings().ingress.hostname == ""


@pytest.mark.parametrize("domain", ["localhost:25", "exa mple.test", "-.test"])
def test_init_with_malformed_domain_makes_nothing(run: Run, tmp_path: Path, domain: str) -> None:
    """A wrong argument is a usage error."""
    assert run("init", "--domain", domain).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_init_where_nothing_can_be_written_fails_in_one_line(run: Run, tmp_path: Path) -> None:
    """No traceback for a folder that cannot be."""
    (tmp_path / "file").write_text("")
    result = run("init", "--domain", "example.test", "--directory", "file/x")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_config_file_describes_every_key(run: Run, tmp_path: Path) -> None:
    """The comments are the model's own words, so that they cannot drift."""
    run("init", "--domain", "example.test")
    text = (tmp_path / "ptt.toml").read_text()
    comments = " ".join(line.removeprefix("# ") for line in text.splitlines())
    for dotted, field in list_fields():
        assert re.search(rf"^(# )?{dotted.partition('.')[2]} = ", text, re.MULTILINE), dotted
        assert (field.description or "?") in comments


def test_config_file_defaults_are_the_defaults(run: Run, tmp_path: Path) -> None:
    """Whoever uncomments a line gets what held before."""
    run("init")
    config = tmp_path / "ptt.toml"
    text = config.read_text()
    text = re.sub(r'^# (\w+ = (?!"").*)$', r"\1", text, flags=re.MULTILINE)
    config.write_text(text)
    settings, default = load_settings(), Settings()
    assert settings.relay == default.relay
    assert settings.queue == default.queue
    assert settings.ingress.timeout_s == default.ingress.timeout_s
    assert text.count("\n# ") < config.read_text().count("\n")


def test_self_signed_certificate_is_accepted_by_who_trusts_it(run: Run, tmp_path: Path) -> None:
    """OpenSSL verifies name, dates and form, as strictly as newer Pythons do."""
    run("init", "--domain", "example.test")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls/certificate.pem", tmp_path / "tls/key.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "tls/certificate.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    shake_hands(client, server, "mail.example.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "mail.other.test")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Make one TLS handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
