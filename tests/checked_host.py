"""A host on which nothing is wrong, for what the checks are to find: a test spoils one thing."""

import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from click.testing import CliRunner

from ptt.cli import main
from ptt.core.signature import Algorithm
from ptt.dns.primary import Primary
from ptt.signing.keys import KeyRing, SigningKey
from tests.servers.bind import Bind
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


def expect(host: Host, command: tuple[str, ...], check: str, health: str, text: str) -> None:
    """Run a command and look for one finding."""
    exit_code, faults = host.run(*command)
    assert exit_code == {"problem": 4, "unknown": 75}[health], faults
    assert faults[check][0] == health, faults
    assert text in faults[check][1]
