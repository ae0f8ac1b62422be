"""A real Postfix as a destination: its own folders and processes, on a loopback address and a free port.

Nothing of the system's Postfix is used but its programs. Needs root, as Postfix's master does. Each
mailbox of its domains exists but those whose names start with ``unknown``; all mail goes to one maildir.
"""

import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.servers.ports import free_port
from tests.waiting import wait_until

HOSTNAME = "mx.example.test"

_SERVICES = """
{address}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Received:
    """A message in a maildir."""

    trace: str
    """The header fields that Postfix put on top: Return-Path, Delivered-To, Received."""
    content: bytes
    """The message as it was sent, with CRLF."""

    @property
    def recipient(self) -> str:
        """Whom this copy is for."""
        match = re.search(r"^Delivered-To: (.*)$", self.trace, re.MULTILINE)
        assert match is not None
        return match[1]


@dataclass
class Postfix:
    """A running instance."""

    folder: Path
    address: str
    port: int
    domains: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    """More lines of main.cf."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """The mail log."""
        path = self.folder / "mail.log"
        return path.read_text() if path.exists() else ""

    def list_received(self, recipient: str = "") -> list[Received]:
        """Give the messages that came for a recipient, or all; the oldest first."""
        paths = sorted((self.folder / "mail/all/new").glob("*"), key=lambda path: path.stat().st_mtime_ns)
        received = [_parse(path.read_bytes()) for path in paths]
        return [one for one in received if one.recipient == recipient or not recipient]

    def wait_for(self, recipient: str, count: int) -> list[Received]:
        """Wait until so many messages have come for a recipient, and give them."""
        wait_until(lambda: len(self.list_received(recipient)) >= count, f"{count} for {recipient}, see {self.folder}")
        return self.list_received(recipient)

    def start(self) -> None:
        """Write the configuration, let Postfix make its folders, and start its master as a child of ours."""
        configuration = self._write_configuration()
        postfix = find_program("postfix")
        subprocess.run([postfix, "-c", configuration, "check"], check=True, capture_output=True, timeout=60)
        master = Path(self._ask("daemon_directory")) / "master"
        with (self.folder / "start.log").open("wb") as log:
            # A session of its own: at its end master signals its whole process group.
            command = [str(master), "-c", str(configuration), "-s"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_until(self._is_ready, f"Postfix greets, see {self.folder}/mail.log")

    def stop(self) -> None:
        """End master, which ends all that it started."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log + (self.folder / "start.log").read_text()
        try:
            with socket.create_connection((self.address, self.port), 5) as connection:
                return connection.recv(4) == b"220 "
        except OSError:
            return False

    def _ask(self, parameter: str) -> str:
        command = [find_program("postconf"), "-c", str(self.folder / "etc"), "-h", parameter]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def _write_configuration(self) -> Path:
        configuration = self.folder / "etc"
        for name in ("queue", "data", "etc", "mail"):
            (self.folder / name).mkdir()
        shutil.chown(self.folder / "mail", "nobody")
        shutil.chown(self.folder / "data", "postfix")
        trustme.CA().issue_cert(HOSTNAME).private_key_and_cert_chain_pem.write_to_path(str(configuration / "tls.pem"))
        (configuration / "mailboxes").write_text("if !/^unknown/\n/@/ all/\nendif\n")
        (configuration / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in self._list_settings()))
        (configuration / "master.cf").write_text(_SERVICES.format(address=self.address, port=self.port))
        return configuration

    def _list_settings(self) -> Sequence[tuple[str, object]]:
        nobody = pwd.getpwnam("nobody")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": self.folder / "queue",
            "data_directory": self.folder / "data",
            "maillog_file": self.folder / "mail.log",
            "maillog_file_prefixes": self.folder,
            "myhostname": HOSTNAME,
            "mydestination": "",
            "mynetworks": "",
            "inet_interfaces": self.address,
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "virtual_mailbox_domains": ", ".join(self.domains),
            "virtual_mailbox_base": self.folder / "mail",
            "virtual_mailbox_maps": f"regexp:{self.folder}/etc/mailboxes",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": self.folder / "etc" / "tls.pem",
            "smtpd_tls_received_header": "yes",
            "smtpd_client_connection_count_limit": 0,
            "smtputf8_enable": "yes",
        }
        return list((settings | dict(self.settings)).items())


def _parse(raw: bytes) -> Received:
    # Postfix's own fields end with the first Received; a line that starts with a blank belongs to the field before.
    trace = re.match(rb"(?:(?!Received:).*\n)*Received:.*\n(?:[ \t].*\n)*", raw)
    assert trace is not None, raw[:500]
    return Received(trace[0].decode(), raw[trace.end() :].replace(b"\n", b"\r\n"))


def find_program(name: str) -> str:
    """Give the path of one of Postfix's programs; a missing one fails the test."""
    path = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    assert path, f"{name} is missing: apt-get install postfix"
    return path


@contextmanager
def running_postfix(
    domains: Sequence[str] = ("example.test",),
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Postfix]:
    """Run an instance in a temporary folder that other users can enter: Postfix's processes are not root."""
    folder = Path(tempfile.mkdtemp(prefix="ptt-postfix-"))
    folder.chmod(0o755)
    postfix = Postfix(folder, address, port or free_port(address), domains, settings or {})
    try:
        postfix.start()
        yield postfix
    finally:
        postfix.stop()
        shutil.rmtree(folder, ignore_errors=True)
