"""``ptt key check`` and ``ptt doctor`` against real servers: each fault that is seeded is found, and named."""

import json
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.message
import dns.rcode
import pytest
import trustme
from click.testing import CliRunner
from typing_extensions import override

from ptt.cli import main
from ptt.core.address import Domain
from ptt.core.domain_policy import format_dmarc
from ptt.core.signature import Algorithm
from ptt.dns.primary import Primary
from ptt.dns.update import publish_key_record, remove_key_record
from ptt.signing.key_files import KeyState
from ptt.signing.keys import KeyRing, SigningKey
from tests.servers.bind import Bind, running_bind
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer
from tests.servers.responder import running_responder
from tests.signing_keys import DOMAIN, SIGNED_AT

HOST = "mail.example.test"
REVERSE = "0.0.127.in-addr.arpa"
RECORDS = (
    '@ TXT "v=spf1 mx -all"',
    '_dmarc TXT "v=DMARC1; p=reject"',
    "mail A 127.0.0.1",
    "1 PTR mail.example.test.",
    "astray A 127.0.0.2",
    "2 PTR elsewhere.example.test.",
)


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """Run a primary with all that a sound domain has, forward and reverse."""
    with running_bind((DOMAIN, "bare.test", REVERSE), records=RECORDS) as server:
        yield server


@dataclass
class Host:
    """A folder with a ptt.toml, secrets, certificate, users and one key that signs."""

    folder: Path
    bind: Bind
    redis_url: str

    def prepare(self) -> None:
        """Make all of it sound."""
        self.write_certificate(HOST, timedelta(days=60))
        (self.folder / "seal.key").write_text("A" * 43 + "=")
        (self.folder / "seal.key").chmod(0o600)
        (self.folder / "tsig").write_text(self.bind.secret)
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.folder / "users.git")], check=True)
        self.write_config()
        user = ("user", "add", "alice", "--address", f"a@{DOMAIN}", "--password-stdin")
        assert CliRunner().invoke(main, [*self.config, *user], input="correct horse battery").exit_code == 0
        self.ring.create_key(DOMAIN, None, Algorithm.ED25519_SHA256, created_at=SIGNED_AT)
        assert CliRunner().invoke(main, [*self.config, "key", "publish", DOMAIN]).exit_code == 0

    @property
    def config(self) -> tuple[str, str]:
        """Give the option that names the settings."""
        return ("--config", str(self.folder / "ptt.toml"))

    @property
    def ring(self) -> KeyRing:
        """Open the keys."""
        return KeyRing(self.folder / "keys")

    @property
    def key(self) -> SigningKey:
        """Give the key."""
        [key] = self.ring.list_keys(DOMAIN)
        assert isinstance(key, SigningKey)
        return key

    @property
    def primary(self) -> Primary:
        """Give the primary."""
        return Primary(address=self.bind.address, port=self.bind.port, key=self.bind.tsig_key)

    def write_certificate(self, name: str, lifetime: timedelta) -> None:
        """Make the certificate of ingress."""
        made = trustme.CA().issue_cert(name, not_after=datetime.now(UTC) + lifetime)
        made.private_key_pem.write_to_path(str(self.folder / "tls.key"))
        made.cert_chain_pems[0].write_to_path(str(self.folder / "tls.crt"))

    def write_config(self, **changes: object) -> None:
        """Write ptt.toml; what is not said is sound."""
        values = {
            "url": self.redis_url,
            "hostname": HOST,
            "resolver_port": self.bind.port,
            "smtp_port": 25,
        } | changes
        (self.folder / "ptt.toml").write_text(f"""
[redis]
url = "{values["url"]}"
[ingress]
hostname = "{HOST}"
certificate_file = "tls.crt"
key_file = "tls.key"
seal_key_file = "seal.key"
[users]
repository = "users.git"
[signing]
keys_dir = "keys"
[dns_update]
server = "{self.bind.address}"
port = {self.bind.port}
check_port = {self.bind.port}
tsig_key_name = "{self.bind.key_name}"
tsig_secret_file = "tsig"
[relay]
hostname = "{values["hostname"]}"
resolvers = ["{self.bind.address}"]
resolver_port = {values["resolver_port"]}
smtp_port = {values["smtp_port"]}
""")

    def run(self, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
        """Run a command; give its exit code, and health and text of each finding that is not ok, by check."""
        result = CliRunner().invoke(main, [*self.config, *arguments, "-o", "json"])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        rows = json.loads(result.stdout)
        faults = [row for row in rows if row["health"] != "ok"]
        return result.exit_code, {row["check"]: (row["health"], f"{row['detail']} {row['advice']}") for row in faults}


@pytest.fixture
def host(tmp_path: Path, bind: Bind, valkey: RedisServer) -> Host:
    """Make a host on which nothing is wrong."""
    made = Host(tmp_path, bind, valkey.url)
    made.prepare()
    return made


def test_doctor_finds_nothing_on_a_sound_host(host: Host) -> None:
    """Only what nobody asked for is skipped, and the table says the same as JSON."""
    assert host.run("doctor") == (0, {"smtp.reachable": ("skipped", "ask for it with --smtp-host ")})
    assert host.run("key", "check", DOMAIN) == (0, {})
    table = CliRunner().invoke(main, [*host.config, "doctor"])
    assert table.exit_code == 0
    assert "ok       helo.confirmed     mail.example.test: 127.0.0.1, and back" in table.stdout


def expect(host: Host, command: tuple[str, ...], check: str, health: str, text: str) -> None:
    """Run a command and look for one finding."""
    exit_code, faults = host.run(*command)
    assert exit_code == {"problem": 4, "unknown": 75}[health], faults
    assert faults[check][0] == health, faults
    assert text in faults[check][1]


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


def test_key_check_finds_a_record_that_is_gone(host: Host) -> None:
    """The advice is the record to put there."""
    key = host.key
    remove_key_record(host.primary, key.record_name, key.record)
    expect(host, ("key", "check"), "key.record", "problem", key.record)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("v=DKIM1; k=ed25519; p=", "is revoked"),
        ("v=DKIM1; t=y; k=ed25519; p=QUJD", "this is a test"),
    ],
)
def test_key_check_finds_a_record_that_is_wrong(host: Host, record: str, text: str) -> None:
    """What is wrong is said, and that it is not ours."""
    publish_key_record(host.primary, host.key.record_name, record, ttl_s=60)
    exit_code, faults = host.run("key", "check", DOMAIN)
    assert exit_code == 4
    assert "answers another record" in faults["key.record"][1]
    assert text in faults["key.syntax"][1]


def test_key_check_finds_a_ttl_that_is_too_long(host: Host) -> None:
    """A wrong key would stay in caches for a week."""
    key = host.key
    remove_key_record(host.primary, key.record_name, key.record)
    publish_key_record(host.primary, key.record_name, key.record, ttl_s=604_800)
    expect(host, ("key", "check"), "key.ttl", "problem", "604800 s")


def test_key_check_finds_a_domain_whose_mail_waits(host: Host) -> None:
    """No key signs; the keys that are there say why."""
    key = host.key
    host.ring.change_status(key, lambda status: status.suspend("ns1 lies", SIGNED_AT))
    exit_code, faults = host.run("key", "check", DOMAIN)
    assert exit_code == 4
    assert "ns1 lies" in faults["key.state"][1]
    assert "mail of this domain waits" in faults["domain.signs"][1]


@pytest.mark.parametrize("state", [KeyState.PUBLISHED, KeyState.RETIRING, KeyState.RETIRED])
def test_key_check_finds_a_key_that_was_left_half_way(host: Host, state: KeyState) -> None:
    """Published and not active, retiring for too long, retired and still in the DNS."""
    host.ring.set_state(host.key, state, at=SIGNED_AT - timedelta(days=40))
    check = "key.record" if state is KeyState.RETIRED else "key.state"
    text = {KeyState.PUBLISHED: "ptt key publish", KeyState.RETIRING: "ptt key retire", KeyState.RETIRED: "remove the"}
    expect(host, ("key", "check"), check, "problem", text[state])


def test_key_check_finds_a_void_key_whose_record_does_not_say_so(host: Host) -> None:
    """The primary was down: the advice is to declare it void again, and after that nothing is wrong with it."""
    host.ring.change_status(host.key, lambda status: status.revoke(SIGNED_AT))
    expect(host, ("key", "check"), "key.state", "problem", f"ptt key retire {DOMAIN} {host.key.selector} --now")
    retire = [*host.config, "key", "retire", DOMAIN, host.key.selector, "--now"]
    assert CliRunner().invoke(main, retire).exit_code == 0
    assert "key.state" not in host.run("key", "check")[1]


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        (KeyState.PUBLISHED, f"ptt key publish {DOMAIN}"),
        (KeyState.RETIRING, f"ptt key activate {DOMAIN} {{}}"),
        (KeyState.RETIRED, f"ptt key create {DOMAIN}, then ptt key publish {DOMAIN}"),
    ],
)
def test_key_check_advises_a_command_that_makes_a_key_sign(host: Host, state: KeyState, advice: str) -> None:
    """No key signs: the command that is named leads to one that does."""
    host.ring.set_state(host.key, state, at=SIGNED_AT)
    text = advice.format(host.key.selector)
    expect(host, ("key", "check"), "domain.signs", "problem", text)
    for command in text.split(", then "):
        ran = CliRunner().invoke(main, [*host.config, *command.split()[1:]])
        assert ran.exit_code == 0, ran.output
    assert "domain.signs" not in host.run("key", "check")[1]


def test_key_check_gives_the_records_to_paste(host: Host) -> None:
    """A domain without SPF and DMARC: the advice is the line for the zone."""
    bare = "bare.test"
    records = RECORDS[2:]
    with running_bind((bare,), records=records) as other:
        host.bind = other
        (host.folder / "tsig").write_text(other.secret)
        host.write_config()
        assert CliRunner().invoke(main, [*host.config, "key", "create", bare]).exit_code == 0
        assert CliRunner().invoke(main, [*host.config, "key", "publish", bare]).exit_code == 0
        exit_code, faults = host.run("key", "check", bare)
    assert exit_code == 4
    assert faults == {
        "domain.spf": ("problem", f'has no SPF record {bare}. 3600 IN TXT "v=spf1 a:{HOST} ~all"'),
        "domain.dmarc": (
            "problem",
            f"_dmarc.{bare} has no DMARC record {format_dmarc(Domain(bare))}",
        ),
    }


def test_key_check_without_keys_exits_with_3(host: Host) -> None:
    """There is nothing to check."""
    assert CliRunner().invoke(main, [*host.config, "key", "check", "other.test"]).exit_code == 3
