"""``ptt-ingress`` as a process: start, signals, exit codes, and a spool that goes away."""

import json
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ptt.cli import main as cli
from tests.servers.ingress import (
    LOGIN,
    PASSWORD,
    SENDER,
    IngressProcess,
    IngressSite,
    make_site,
    running_ingress,
    start_ingress,
)
from tests.servers.ports import free_port
from tests.servers.redis import SAFE, RedisServer, running_server
from tests.servers.submission import make_certificate
from tests.waiting import wait_until

MESSAGE = f"From: {SENDER}\r\n\r\nHello\r\n"


@pytest.fixture
def site(tmp_path: Path, valkey: RedisServer) -> IngressSite:
    """Give a folder for one server."""
    return make_site(tmp_path, valkey.url)


def open_client(site: IngressSite, ingress: IngressProcess) -> smtplib.SMTP_SSL:
    """Connect."""
    context = ssl.create_default_context(cafile=str(site.certificate.authority_file))
    return smtplib.SMTP_SSL("127.0.0.1", ingress.port("implicit"), context=context, timeout=60)


def finish(ingress: IngressProcess) -> tuple[int, list[str]]:
    """Wait for the end; give the exit code and the lines that are no events."""
    code = ingress.process.wait(timeout=60)
    return code, [line for line in ingress.log.read_text().splitlines() if not line.startswith("{")]


def test_sigterm_answers_421_and_exits_0(site: IngressSite) -> None:
    """A session at rest hears 421, the process ends with 0, and the port is free again."""
    with running_ingress(site) as ingress:
        client = open_client(site, ingress)
        client.login(LOGIN, PASSWORD)
        ingress.send_signal(signal.SIGTERM)
        assert client.getreply()[0] == 421
        client.close()
        assert finish(ingress) == (0, [])
        assert len(ingress.events("ingress.stopped")) == 1
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ingress.port("starttls")))


def test_sighup_reloads_the_certificate_and_the_users(site: IngressSite) -> None:
    """No open session is harmed by either, and a disabled user cannot log in again."""
    with running_ingress(site) as ingress, open_client(site, ingress) as client:
        client.login(LOGIN, PASSWORD)
        make_certificate(site.folder)
        site.commit_user(enabled=False)
        ingress.send_signal(signal.SIGHUP)
        wait_until(lambda: ingress.events("certificate.loaded"), "the certificate is loaded")
        wait_until(lambda: len(ingress.events("users.loaded")) > 1, "the users are loaded")
        assert client.mail(SENDER)[0] == 535
        with open_client(site, ingress) as other, pytest.raises(smtplib.SMTPAuthenticationError):
            other.login(LOGIN, PASSWORD)
        site.certificate.certificate_file.write_text("garbage")
        ingress.send_signal(signal.SIGHUP)
        wait_until(lambda: ingress.events("certificate.refused"), "the certificate is refused")
        assert client.noop()[0] == 250


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """Run a server that may be killed."""
    with running_server() as server:
        yield server


def test_redis_away_is_451_and_never_250(tmp_path: Path, own_redis: RedisServer) -> None:
    """Within 5 s, in the same session, and the next message is taken once Redis is back."""
    site = make_site(tmp_path, own_redis.url)
    with running_ingress(site) as ingress, open_client(site, ingress) as client:
        client.login(LOGIN, PASSWORD)
        own_redis.kill()
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail(SENDER, ["rita@destination.test"], MESSAGE)
        assert refused.value.smtp_code == 451
        own_redis.start()
        assert client.sendmail(SENDER, ["rita@destination.test"], MESSAGE) == {}
        assert [event["recipients"] for event in ingress.events("message.accepted")] == [1]


def test_user_over_the_rate_hears_451_and_show_tells_usage(site: IngressSite) -> None:
    """The default of [ingress] holds for who has none in the file; without Redis `ptt user show` shows the rest."""
    site.write_config(rate_per_hour=1)
    with running_ingress(site) as ingress, open_client(site, ingress) as client:
        client.login(LOGIN, PASSWORD)
        assert client.sendmail(SENDER, ["rita@destination.test"], MESSAGE) == {}
        with pytest.raises(smtplib.SMTPDataError, match="You may send 1 messages an hour; try again in 60 minutes"):
            client.sendmail(SENDER, ["rita@destination.test"], MESSAGE)
        assert client.mail(SENDER)[0] == 451
    shown = json.loads(show_user(site))
    assert shown["rate_per_hour"] == shown["usage"]["messages_this_hour"] == 1
    site.redis_url = "unix:///nowhere/redis.sock?db=1"
    site.write_config()
    assert json.loads(show_user(site))["usage"] is None


def show_user(site: IngressSite) -> str:
    """Run `ptt user show`."""
    result = CliRunner().invoke(cli, ["--config", str(site.config), "user", "show", LOGIN, "-o", "json"])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_unsafe_redis_is_refused_unless_allowed(tmp_path: Path) -> None:
    """Exit 78 with one line for each unsafe setting; --allow-unsafe-redis starts all the same."""
    with running_server(options={**SAFE, "appendfsync": "everysec"}) as server:
        site = make_site(tmp_path, server.url)
        code, lines = finish(start_ingress(site))
        assert code == 78
        assert len(lines) == 1
        assert "appendfsync" in lines[0]
        with running_ingress(site, "--allow-unsafe-redis"):
            pass


@pytest.mark.parametrize(
    ("ingress_keys", "expected"),
    [
        ({"certificate_file": "/nowhere/certificate.pem"}, "certificate_file"),
        ({"max_recipients": 1}, "max_recipients"),
        ({"no_such_key": 1}, "no_such_key"),
    ],
)
def test_wrong_settings_exit_78_with_one_line(
    site: IngressSite, ingress_keys: dict[str, object], expected: str
) -> None:
    """What is wrong is named; nothing listens."""
    site.write_config(**ingress_keys)
    code, lines = finish(start_ingress(site))
    assert code == 78
    assert [expected in line for line in lines] == [True]


def test_wrong_files_exit_78_with_one_line(site: IngressSite) -> None:
    """A seal key that is none, and a key that belongs to another certificate."""
    (site.folder / "seal.key").write_text("too short")
    code, lines = finish(start_ingress(site))
    assert (code, len(lines)) == (78, 1)
    assert "seal" in lines[0]
    (site.folder / "other").mkdir()
    site = make_site(site.folder / "other", site.redis_url)
    site.certificate.key_file.write_bytes((site.folder.parent / "key.pem").read_bytes())
    code, lines = finish(start_ingress(site))
    assert (code, len(lines)) == (78, 1)
    assert "certificate" in lines[0]


def test_port_in_use_exits_78_with_one_line(site: IngressSite) -> None:
    """The line names address and port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site.write_config(listen=[{"address": "127.0.0.1", "port": port, "tls": "implicit"}])
        code, lines = finish(start_ingress(site))
    assert (code, len(lines)) == (78, 1)
    assert str(port) in lines[0]


def test_several_processes_share_the_ports(site: IngressSite) -> None:
    """The kernel shares out the clients; each process logs the same addresses."""
    port = free_port()
    site.write_config(listen=[{"address": "127.0.0.1", "port": port, "tls": "implicit"}])
    with running_ingress(site) as first:
        log = first.log.rename(site.folder / "first.log")
        first.log = log
        with running_ingress(site) as second:
            assert first.port("implicit") == second.port("implicit") == port
            with open_client(site, second) as client:
                assert client.noop()[0] == 250


def test_socket_of_systemd_is_served_and_a_foreign_one_refused(site: IngressSite) -> None:
    """Socket activation: a client that connected before the start is served; a port that no key names is a mistake."""
    with socket.create_server(("127.0.0.1", 0)) as handed_over:
        port = handed_over.getsockname()[1]
        site.write_config(listen=[{"address": "127.0.0.1", "port": port, "tls": "starttls"}])
        early = socket.create_connection(("127.0.0.1", port))
        with running_ingress(site, socket_fd=handed_over.fileno()) as ingress, early:
            assert early.recv(100).startswith(b"220 ")
            assert ingress.port("starttls") == port
        site.write_config()
        code, lines = finish(start_ingress(site, socket_fd=handed_over.fileno()))
    assert (code, len(lines)) == (78, 1)
    assert str(port) in lines[0]


def test_log_of_a_working_process_is_json_only(site: IngressSite) -> None:
    """Nothing but JSON lines reaches stderr of a process that works."""
    with running_ingress(site) as ingress:
        with open_client(site, ingress) as client:
            client.login(LOGIN, PASSWORD)
        with socket.create_connection(("127.0.0.1", ingress.port("implicit"))) as plain:
            plain.sendall(b"EHLO in clear\r\n")
            plain.recv(100)
        ingress.send_signal(signal.SIGTERM)
        assert finish(ingress) == (0, [])
        for line in ingress.log.read_text().splitlines():
            json.loads(line)


def test_help_names_the_options() -> None:
    """`ptt-ingress --help` is answered without settings."""
    command = [sys.executable, "-m", "ptt.workers.ingress", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "--config" in finished.stdout
    assert "--allow-unsafe-redis" in finished.stdout
