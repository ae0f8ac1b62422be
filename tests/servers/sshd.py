"""Debian's sshd on the loopback, with keys of its own, for who logs in by one key as the user of the tests."""

import contextlib
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.ports import free_port
from tests.waiting import wait_until


@dataclass(frozen=True)
class SshServer:
    """A running server."""

    folder: Path
    port: int

    @property
    def user_key(self) -> Path:
        """Give the private key that is let in."""
        return self.folder / "user"

    @property
    def known_hosts(self) -> Path:
        """Give a file with this server's key."""
        return self.folder / "known_hosts"

    def url(self, path: Path) -> str:
        """Give the URL of a repository."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"


def make_key(path: Path) -> Path:
    """Make an Ed25519 key without a passphrase; the public one stands beside it."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(argv, check=True, timeout=60)
    return path


@contextmanager
def running_sshd(folder: Path) -> Iterator[SshServer]:
    """Run a server in a folder."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    assert program, "sshd is missing: apt-get install openssh-server"
    server = SshServer(folder, free_port())
    host_key = make_key(folder / "host")
    make_key(server.user_key)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    public = host_key.with_suffix(".pub").read_text()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {public}")
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{server.port}\nHostKey {host_key}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd's unprivileged part is locked into
    log = folder / "sshd.log"
    argv = [program, "-D", "-e", "-f", str(config)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_until(lambda: "Server listening" in log.read_text() or process.poll() is not None, "sshd listens")
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        process.kill()
        process.wait()
