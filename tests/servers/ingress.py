"""``ptt-ingress`` as a process, with a users repository and a certificate in a folder of its own."""

import base64
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptt.store.users_password import hash_password
from tests.servers.submission import HOSTNAME, Certificate, make_certificate
from tests.waiting import wait_until

LOGIN = "alice"
PASSWORD = "correct horse battery"
SENDER = "alice@example.test"


@dataclass
class IngressSite:
    """A folder with all that the process reads."""

    folder: Path
    redis_url: str
    certificate: Certificate

    @property
    def config(self) -> Path:
        """Give the path of ptt.toml."""
        return self.folder / "ptt.toml"

    @property
    def repository(self) -> Path:
        """Give the users repository."""
        return self.folder / "users"

    def write_config(self, **ingress: object) -> None:
        """Write ptt.toml; arguments are keys of [ingress]."""
        listen = [{"address": "127.0.0.1", "port": 0, "tls": tls} for tls in ("implicit", "starttls")]
        values: Mapping[str, object] = {
            "hostname": HOSTNAME,
            "listen": listen,
            "certificate_file": self.certificate.certificate_file,
            "key_file": self.certificate.key_file,
            "seal_key_file": self.folder / "seal.key",
            **ingress,
        }
        text = "[ingress]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
        text += f'[redis]\nurl = "{self.redis_url}"\n[users]\nrepository = "{self.repository}"\npoll_s = 0.1\n'
        tomllib.loads(text)
        self.config.write_text(text)

    def commit_user(self, *, enabled: bool = True) -> None:
        """Commit Alice to the users repository."""
        text = f'password = "{hash_password(PASSWORD.encode())}"\naddresses = ["{SENDER}"]\n'
        self.commit_file(LOGIN, text + f"enabled = {str(enabled).lower()}\n")

    def commit_file(self, login: str, text: str) -> None:
        """Commit the file of a user."""
        users = self.repository / "users"
        users.mkdir(parents=True, exist_ok=True)
        (users / f"{login}.toml").write_text(text)
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.test")
        commands = [("add", "-A"), (*identity, "commit", "-q", "-m", "users")]
        if not (self.repository / ".git").exists():
            commands.insert(0, ("init", "-q", "-b", "main"))
        for arguments in commands:
            subprocess.run(["git", "-C", self.repository, *arguments], check=True)


@dataclass
class IngressProcess:
    """A running process and what it logs."""

    process: subprocess.Popen[bytes]
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give the events of one name."""
        complete = self.log.read_text().rpartition("\n")[0]  # it may be writing the next line
        lines = [json.loads(line) for line in complete.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def port(self, tls: str) -> int:
        """Give the port that is really bound, as the log says."""
        (started,) = self.events("ingress.started")
        (port,) = [endpoint["port"] for endpoint in started["listen"] if endpoint["tls"] == tls]
        assert isinstance(port, int)
        return port

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


def make_site(folder: Path, redis_url: str) -> IngressSite:
    """Fill a folder."""
    site = IngressSite(folder, redis_url, make_certificate(folder))
    (folder / "seal.key").write_text(base64.b64encode(bytes(range(32))).decode())
    (folder / "seal.key").chmod(0o600)
    site.write_config()
    site.commit_user()
    return site


def start_ingress(site: IngressSite, *arguments: str, socket_fd: int = 0) -> IngressProcess:
    """Start the process and give it at once; with a listening socket it is started as systemd does."""
    log = site.folder / "ingress.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PTT_")}
    argv = [sys.executable, "-m", "ptt.workers.ingress", "--config", str(site.config), *arguments]
    if socket_fd:
        # LISTEN_PID is only known once the process is there (sd_listen_fds(3)).
        take = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&{socket_fd}'
        argv = ["/bin/bash", "-c", take, *argv]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
            pass_fds=(socket_fd,) if socket_fd else (),
        )
    return IngressProcess(process, log)


@contextmanager
def running_ingress(site: IngressSite, *arguments: str, socket_fd: int = 0) -> Iterator[IngressProcess]:
    """Run the process until it listens, and end it at the end."""
    ingress = start_ingress(site, *arguments, socket_fd=socket_fd)
    try:
        wait_until(lambda: ingress.events("ingress.started") or ingress.process.poll() is not None, "ingress listens")
        assert ingress.process.poll() is None, ingress.log.read_text()
        yield ingress
    finally:
        ingress.process.kill()
        ingress.process.wait()


def _toml(value: object) -> str:
    if isinstance(value, list):
        return (
            "[" + ", ".join("{" + ", ".join(f"{k} = {_toml(v)}" for k, v in item.items()) + "}" for item in value) + "]"
        )
    return str(value) if isinstance(value, int | float) else f'"{value}"'
