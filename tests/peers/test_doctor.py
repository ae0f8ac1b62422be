"""``ptt doctor`` against real servers: each fault that is seeded is found, and named."""

import json
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import dns.message
import dns.rcode
import pytest
from click.testing import CliRunner
from typing_extensions import override

from ptt.cli import main
from tests.checked_host import HOST, Host, expect
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer
from tests.servers.responder import running_responder
from tests.signing_keys import DOMAIN, SIGNED_AT


def test_doctor_finds_nothing_on_a_sound_host(host: Host) -> None:
    """Only what nobody asked for is skipped, and the table says the same as JSON."""
    assert host.run("doctor") == (0, {"smtp.reachable": ("skipped", "ask for it with --smtp-host ")})
    assert host.run("key", "check", DOMAIN) == (0, {})
    table = CliRunner().invoke(main, [*host.config, "doctor"])
    assert table.exit_code == 0
    assert "ok       helo.confirmed     mail.example.test: 127.0.0.1, and back" in table.stdout


def test_doctor_finds_a_redis_that_loses_mail(host: Host, valkey: RedisServer) -> None:
    """The line says which setting."""
    with valkey.client() as client:
        client.config_set("appendfsync", "everysec")
        try:
            expect(host, ("doctor",), "redis.safe", "problem", "appendfsync: is 'everysec'")
        finally:
            client.config_set("appendfsync", "always")


def test_doctor_without_a_running_redis_does_not_know(host: Host) -> None:
    """One-host mode that is not started is no fault, and not fine either."""
    text = (host.folder / "ptt.toml").read_text()
    (host.folder / "ptt.toml").write_text(text.replace(f'url = "{host.redis_url}"', "") + '[up]\ndata_dir = "none"\n')
    expect(host, ("doctor",), "redis.safe", "unknown", "does not run")


@pytest.mark.parametrize(
    ("name", "days", "text"),
    [(HOST, 7, "ends soon"), (HOST, -1, "is valid from"), ("other.test", 60, "is for other.test must be for mail.")],
)
def test_doctor_finds_a_certificate_that_is_not_right(host: Host, name: str, days: int, text: str) -> None:
    """It ends soon, has ended, or is for another name."""
    host.write_certificate(name, timedelta(days=days))
    expect(host, ("doctor",), "certificate.valid", "problem", text)


def test_doctor_finds_secrets_that_others_can_read(host: Host) -> None:
    """The seal key and a private key."""
    (host.folder / "seal.key").chmod(0o604)
    host.ring.get_path(host.key).chmod(0o640)
    exit_code, faults = host.run("doctor")
    assert exit_code == 4
    assert "can be read by everybody" in faults["seal_key.readable"][1]
    assert "has mode 0640" in faults["keys.private"][1]
    assert "has mode 0640" in faults["key.file"][1]


def test_doctor_finds_users_that_cannot_be_read(host: Host) -> None:
    """A repository that is gone, and one without users."""
    (host.folder / "users.git").rename(host.folder / "gone.git")
    expect(host, ("doctor",), "users.readable", "problem", "users.git")
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(host.folder / "users.git")], check=True)
    expect(host, ("doctor",), "users.readable", "problem", "nobody may log in")


def add_user(host: Host, login: str, *addresses: str) -> None:
    """Let a person send as these."""
    options = [part for address in addresses for part in ("--address", address)]
    command = [*host.config, "user", "add", login, *options, "--password-stdin"]
    assert CliRunner().invoke(main, command, input="correct horse battery").exit_code == 0


def test_doctor_finds_domains_of_users_that_nobody_signs_for(host: Host) -> None:
    """Their mail would wait for days: each is named, with who sends as it and with what helps."""
    add_user(host, "bob", f"*@alerts.{DOMAIN}", f"bob@{DOMAIN}")
    for login in ("dave", "erin", "carl"):
        add_user(host, login, f"{login}@alerts.{DOMAIN}", f"{login}@bare.test")
    add_user(host, "gone", "gone@none.test")
    assert CliRunner().invoke(main, [*host.config, "user", "disable", "gone"]).exit_code == 0
    result = CliRunner().invoke(main, [*host.config, "doctor", "-o", "json"])
    assert result.exit_code == 4
    found = {row["subject"]: row for row in json.loads(result.stdout) if row["check"] == "domain.signs"}
    assert {subject: row["health"] for subject, row in found.items()} == {
        f"alerts.{DOMAIN}": "problem",
        "bare.test": "problem",
        DOMAIN: "ok",
    }
    alerts = found[f"alerts.{DOMAIN}"]
    assert "mail of bob, carl, dave and 1 more as this domain waits" in alerts["detail"]
    assert alerts["advice"].startswith(f"ptt key create alerts.{DOMAIN}, then ptt key publish alerts.{DOMAIN}; or ")
    assert alerts["advice"].endswith(f'domains = [{{ domain = "alerts.{DOMAIN}", sign_as = "{DOMAIN}" }}]')
    assert found["bare.test"]["advice"] == "ptt key create bare.test, then ptt key publish bare.test"


def test_doctor_finds_a_user_domain_whose_parent_signs_or_does_not(host: Host) -> None:
    """`signing.domains` names whose keys sign: that domain is judged by them, and by none of its own."""
    add_user(host, "bob", f"*@alerts.{DOMAIN}")
    with (host.folder / "ptt.toml").open("a") as file:
        file.write(f'[[signing.domains]]\ndomain = "alerts.{DOMAIN}"\nsign_as = "{DOMAIN}"\n')
    table = CliRunner().invoke(main, [*host.config, "doctor"])
    assert table.exit_code == 0, table.output
    assert f"domain.signs       alerts.{DOMAIN}: by {DOMAIN}: {host.key.selector} (ed25519-sha256)" in table.stdout
    host.ring.change_status(host.key, lambda status: status.suspend("gone", SIGNED_AT))
    table = CliRunner().invoke(main, [*host.config, "doctor"])
    assert f"alerts.{DOMAIN}: no key of {DOMAIN} signs: mail of bob" in table.stdout
    assert table.stdout.count(f"-> ptt key publish {DOMAIN}\n") == 2


@pytest.mark.parametrize(
    ("hostname", "text"),
    [("astray.example.test", "127.0.0.2 is named elsewhere.example.test"), ("none.example.test", "has no address")],
)
def test_doctor_finds_a_name_that_does_not_lead_back(host: Host, hostname: str, text: str) -> None:
    """Large receivers refuse such a host."""
    host.write_config(hostname=hostname)
    expect(host, ("doctor",), "helo.confirmed", "problem", text)


def test_doctor_without_a_resolver_does_not_know(host: Host) -> None:
    """What cannot be asked is unknown; the keys are found by way of the primary."""

    def fail(request: bytes, _is_tcp: bool) -> bytes:  # noqa: FBT001 - the hook of a responder
        reply = dns.message.make_response(dns.message.from_wire(request))
        reply.set_rcode(dns.rcode.SERVFAIL)
        return reply.to_wire()

    with running_responder("127.0.0.1", port := free_port(), fail):
        host.write_config(resolver_port=port)
        exit_code, faults = host.run("doctor")
    assert exit_code == 75
    assert {check for check, (health, _) in faults.items() if health == "unknown"} == {
        "helo.confirmed",
        "domain.spf",
        "domain.dmarc",
    }


@contextmanager
def greeting(line: bytes) -> Iterator[int]:
    """Run a server that greets like this, and give its port."""

    class Greeter(socketserver.BaseRequestHandler):
        @override
        def handle(self) -> None:
            self.request.sendall(line)
            self.request.recv(100)

    with socketserver.TCPServer(("127.0.0.1", 0), Greeter) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("line", "health"), [(b"220 mx.test\r\n", "ok"), (b"554 go away\r\n", "problem")])
def test_doctor_reaches_a_mail_host_when_asked(host: Host, line: bytes, health: str) -> None:
    """Many networks close port 25 outward; only who asks for it makes us connect."""
    with greeting(line) as port:
        host.write_config(smtp_port=port)
        _, faults = host.run("doctor", "--smtp-host", "127.0.0.1")
    assert faults.get("smtp.reachable", ("ok",))[0] == health


def test_doctor_finds_a_closed_port(host: Host) -> None:
    """The line says what to do."""
    host.write_config(smtp_port=free_port())
    assert host.run("doctor", "--smtp-host", "127.0.0.1")[1]["smtp.reachable"][0] == "problem"
