"""A whole site for end-to-end tests: BIND, a destination MX, a users repository, a key, and `ptt up` over all."""

import json
import os
import signal
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from tests.processes import find_processes
from tests.servers.bind import Bind
from tests.servers.ports import free_port
from tests.servers.submitter import Account
from tests.waiting import wait_until

MX_ADDRESS = "127.0.0.9"
PASSWORD = "correct horse battery staple"
SENDER = "alice@example.test"
DESTINATIONS = ("destination.test", "elsewhere.test")


@dataclass
class Site:
    """Folders, servers and processes of one site; `start` and `stop` run `ptt up`."""

    folder: Path
    bind: Bind
    settings: dict[str, str] = field(default_factory=dict)
    """More settings, as environment variables."""
    process: subprocess.Popen[bytes] | None = None
    sink: subprocess.Popen[bytes] | None = None
    sink_port: int = 0
    python: str = sys.executable
    """What `ptt up` is started with."""
    up_options: tuple[str, ...] = ()

    def prepare(self) -> None:
        """Make certificates, secrets, configuration, user and key with the commands that a person types."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        for name, host in (("ingress", "mail.example.test"), ("mx", "mx.destination.test")):
            certificate = authority.issue_cert(host)
            certificate.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
            certificate.cert_chain_pems[0].write_to_path(str(self.folder / f"{name}.crt"))
        (self.folder / "seal.key").write_text("A" * 43 + "=")
        (self.folder / "tsig.key").write_text(self.bind.secret)
        for name in ("seal.key", "tsig.key"):
            (self.folder / name).chmod(0o600)
        (self.folder / "keys").mkdir(mode=0o700)
        (self.folder / "ptt.toml").write_text(self._format_settings())
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.folder / "users.git")], check=True)
        self.ptt("user", "add", "alice", "--address", SENDER, "--password-stdin", stdin=PASSWORD)
        self.ptt("key", "create", "example.test")
        self.ptt("key", "publish", "example.test")

    def ptt(self, *arguments: str, stdin: str = "", expected: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of ptt and check its exit code."""
        ended = subprocess.run(
            [sys.executable, "-m", "ptt", "--config", str(self.folder / "ptt.toml"), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=self.environment,
        )
        assert ended.returncode == expected, f"{arguments}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended

    @property
    def environment(self) -> dict[str, str]:
        """Give the environment of every program of the site."""
        return {**os.environ, **self.settings}

    def start_sink(self) -> None:
        """Start the destination MX."""
        self.sink_port = self.sink_port or free_port(MX_ADDRESS)
        program = Path(__file__).parents[1] / "servers/sink.py"
        files = [str(self.folder / name) for name in ("mx.crt", "mx.key", "arrived")]
        command = [sys.executable, str(program), MX_ADDRESS, str(self.sink_port), *files]
        self.sink = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.sink.stdout is not None
        assert self.sink.stdout.readline() == b"ready\n"

    def start(self) -> None:
        """Start `ptt up` and wait until it is ready."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "ptt", "--config", str(self.folder / "ptt.toml"), "up", *self.up_options],
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        wait_until(lambda: self.has_event("up.ready"), f"ptt up is ready, see {self.folder}/log", 120)

    def stop(self) -> int:
        """Ask for a graceful stop and give the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def close(self) -> None:
        """End everything."""
        for process in (self.process, self.sink):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        if self.sink is not None and self.sink.stdout is not None:
            self.sink.stdout.close()

    def list_events(self) -> list[dict[str, Any]]:
        """Give all lines of the log; each is one JSON object."""
        lines = (self.folder / "log").read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def has_event(self, name: str) -> bool:
        """Tell whether an event was logged."""
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
        return any(event["event"] == name for event in self.list_events())

    def account(self) -> Account:
        """Give the account that may submit over implicit TLS."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.check_hostname = False  # the certificate is for the name, the test goes to the address
        return Account(
            address="127.0.0.1",
            port=self.ports["implicit"],
            context=context,
            login="alice",
            password=PASSWORD,
            sender=SENDER,
        )

    @property
    def ports(self) -> dict[str, int]:
        """Give the ports of ingress by kind of TLS."""
        return {"implicit": int(self.settings["TEST_IMPLICIT"]), "starttls": int(self.settings["TEST_STARTTLS"])}

    def read_arrived(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Give each message that the destination has answered with 250: envelope and content."""
        data = memoryview((self.folder / "arrived").read_bytes())
        position = 0
        while position + 8 <= len(data):
            head, size = struct.unpack("!II", data[position : position + 8])
            content_at = position + 8 + head
            if content_at + size > len(data):
                return
            yield json.loads(bytes(data[position + 8 : content_at])), bytes(data[content_at : content_at + size])
            position = content_at + size

    def list_started(self) -> list[int]:
        """Give the processes that the site has started itself."""
        assert self.process is not None
        return [self.process.pid]

    def find_processes(self, name: str) -> list[int]:
        """Give the pids of the site's processes whose command line holds the name."""
        return find_processes(name, self.folder, self.list_started())

    def _format_settings(self) -> str:
        self.settings = {
            "TEST_IMPLICIT": str(free_port()),
            "TEST_STARTTLS": str(free_port()),
        } | self.settings
        return f"""
[ingress]
hostname = "mail.example.test"
listen = [
  {{ address = "127.0.0.1", port = {self.ports["implicit"]}, tls = "implicit" }},
  {{ address = "127.0.0.1", port = {self.ports["starttls"]}, tls = "starttls" }},
]
certificate_file = "ingress.crt"
key_file = "ingress.key"
seal_key_file = "seal.key"
[users]
repository = "users.git"
poll_s = 0.5
[signing]
keys_dir = "keys"
[dns_update]
server = "{self.bind.address}"
port = {self.bind.port}
check_port = {self.bind.port}
tsig_key_name = "{self.bind.key_name}"
tsig_secret_file = "tsig.key"
[relay]
hostname = "mail.example.test"
resolvers = ["{self.bind.address}"]
resolver_port = {self.bind.port}
smtp_port = {self.sink_port}
allow_private_addresses = true
connections_per_host = 20
retry_schedule_s = [1, 2, 4]
[queue]
lease_s = 5
[up]
data_dir = "valkey"
"""
