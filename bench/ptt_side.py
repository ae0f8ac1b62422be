"""ptt's side: `ptt up` with its embedded Valkey, and a DNS of the rig that serves the MX and takes the key.

Everything is set up as a user does it: a users repository by `ptt user add`, a key by `ptt key create` and
`ptt key publish` to a primary that takes updates. All settings but addresses, names and files are ptt's defaults.
"""

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
from accounting import ProcessGroup
from side import Place, take_ports

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 60.0
KEY_TIMEOUT_S = 30.0
SELECTOR = "bench"
TSIG_NAME = "ptt-bench"

PTT_TOML = """\
[ingress]
hostname = "submission.sender.example"
listen = [
  {{ address = "127.0.0.1", port = {implicit_port}, tls = "implicit" }},
  {{ address = "127.0.0.1", port = {starttls_port}, tls = "starttls" }},
]
certificate_file = "{certificate}"
key_file = "{key}"
seal_key_file = "{folder}/seal.key"

[users]
repository = "{folder}/users.git"

[signing]
keys_dir = "{folder}/keys"

[dns_update]
server = "127.0.0.1"
port = {dns_port}
check_port = {dns_port}
tsig_key_name = "{tsig_name}"
tsig_secret_file = "{folder}/tsig.secret"

[relay]
hostname = "relay.sender.example"
resolvers = ["127.0.0.1"]
resolver_port = {dns_port}
smtp_port = {sink_port}
allow_private_addresses = true

[up]
data_dir = "{folder}/valkey"
"""


@dataclass(slots=True)
class PttSide:
    """`ptt up` and what it starts."""

    place: Place
    group: ProcessGroup
    tools: ProcessGroup
    environment: dict[str, str] = field(default_factory=dict)
    dns_port: int = 0
    starttls_port: int = 0
    implicit_port: int = 0
    name: str = "ptt"

    def start(self) -> None:
        """Set up DNS, users and key, then start everything and wait for the ports."""
        # Not port 0: several ingress processes share one port.
        self.starttls_port, self.implicit_port = take_ports(2)
        self._start_nameserver()
        self._write_files()
        self._call(
            "user",
            "add",
            self.place.login,
            "--address",
            self.place.sender,
            "--password-stdin",
            text=self.place.password + "\n",
        )
        self._call("key", "create", self.place.sender_domain, "--selector", SELECTOR, "--algorithm", "rsa2048")
        self._call("key", "publish", self.place.sender_domain)
        self.group.start([*self._command(), "up"], self._log, env=self._environment(), cwd=self.place.folder)
        self._await_ready()

    @property
    def _log(self) -> Path:
        return self.place.folder / "ptt.log"

    def _start_nameserver(self) -> None:
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        (self.place.folder / "tsig.secret").write_text(secret + "\n")
        (self.place.folder / "tsig.secret").chmod(0o600)
        argv: list[str | Path] = [
            sys.executable,
            ROOT / "bench/nameserver.py",
            "--tsig-name",
            TSIG_NAME,
            "--tsig-secret",
            secret,
        ]
        argv += ["--sender-domain", self.place.sender_domain, "--domains", *self.place.domains]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = self.tools.start(argv, self.place.folder / "nameserver.log", **streams)
        assert process.stdout
        self.dns_port = json.loads(process.stdout.readline())["port"]

    def _write_files(self) -> None:
        place, folder = self.place, self.place.folder
        text = PTT_TOML.format(
            folder=folder,
            certificate=place.certificate,
            key=place.key,
            starttls_port=self.starttls_port,
            implicit_port=self.implicit_port,
            dns_port=self.dns_port,
            tsig_name=TSIG_NAME,
            sink_port=place.sink_port,
        )
        (folder / "ptt.toml").write_text(text)
        (folder / "seal.key").write_text(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        (folder / "seal.key").chmod(0o600)
        (folder / "keys").mkdir(mode=0o700)
        argv: list[str | Path] = ["git", "init", "--quiet", "--bare", "--initial-branch", "main", folder / "users.git"]
        subprocess.run(argv, check=True, capture_output=True)

    def _command(self) -> list[str | Path]:
        return [sys.executable, "-m", "ptt"]

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"PTT_CONFIG": str(self.place.folder / "ptt.toml"), "PYTHONPATH": str(ROOT)}
        return kept | own | self.environment

    def _call(self, *arguments: str, text: str = "") -> str:
        """Run one command of ptt to its end."""
        argv = [*self._command(), *arguments]
        done = subprocess.run(
            argv,
            input=text,
            env=self._environment(),
            cwd=self.place.folder,
            capture_output=True,
            text=True,
            timeout=KEY_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ptt {' '.join(arguments)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not any(event.get("event") == "up.ready" for event in _read_events(self._log)):
            self.group.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"ptt up does not come up; see {self._log}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the supervisor, which ends the others."""
        self.group.end()

    def port(self, tls: str) -> int:
        """Give the submission port."""
        return self.implicit_port if tls == "implicit" else self.starttls_port

    def get_process_names(self) -> dict[int, str]:
        """Give the names that the supervisor logs."""
        events = [event for event in _read_events(self._log) if event.get("event") == "process.started"]
        children = {event["pid"]: event["process"] for event in events}
        return dict.fromkeys(self.group.roots, "supervisor") | children

    def is_drained(self) -> bool:
        """Look for messages in the spool."""
        from ptt.store.keys import MESSAGE  # noqa: PLC0415 - the peer can be measured where ptt does not run

        with self._connect(db=1) as spool:
            return next(spool.scan_iter(match=f"{MESSAGE}*", count=1000), None) is None

    @contextlib.contextmanager
    def _connect(self, db: int) -> Iterator[Any]:
        import redis  # noqa: PLC0415 - the peer can be measured where ptt does not run

        client = redis.Redis(unix_socket_path=str(self.place.folder / "valkey/valkey.sock"), db=db)
        try:
            yield client
        finally:
            client.close()

    def get_public_key(self, name: str) -> bytes | None:
        """Ask the DNS, as any verifier does."""
        query = dns.message.make_query(name, dns.rdatatype.TXT)
        answer = dns.query.tcp(query, "127.0.0.1", timeout=5, port=self.dns_port)
        records = [record for records in answer.answer for record in records]
        return b"".join(records[0].strings) if records else None

    def describe(self) -> dict[str, str]:
        """Ask the running Valkey how it writes, and what it is."""
        with self._connect(db=0) as server:
            facts = server.info("server")
            durability = {name: server.config_get(name)[name] for name in ("appendonly", "appendfsync")}
        roles = [event["process"] for event in _read_events(self._log) if event.get("event") == "process.started"]
        return {
            "server": f"{facts.get('server_name', 'redis')} {facts.get('valkey_version', facts['redis_version'])}",
            "durability": " ".join(f"{name}={value}" for name, value in durability.items()),
            "processes": ", ".join(roles),
            "password scheme": "argon2id (ptt's only one)",
            "TLS out": "STARTTLS when offered",
            "changed settings": ", ".join(f"{name}={value}" for name, value in self.environment.items()) or "none",
        }


def _read_events(log: Path) -> Sequence[dict[str, Any]]:
    events = []
    for line in log.read_bytes().splitlines() if log.exists() else []:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events
