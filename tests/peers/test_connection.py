"""How long a start waits for Redis: as long as waiting may help, and not a moment longer."""

import base64
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from ptt.core.errors import Unavailable
from ptt.store.connection import RedisAddress
from ptt.store.server import check_server
from tests.servers.ingress import make_site, start_ingress
from tests.servers.redis import RedisServer
from tests.waiting import wait_until


@dataclass
class Closing:
    """A server that closes each connection; ``count`` are those that came."""

    context: ssl.SSLContext | None
    listening: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    count: int = 0

    @property
    def port(self) -> int:
        """Give the port."""
        port: int = self.listening.getsockname()[1]
        return port

    def serve(self) -> None:
        """Accept and close until the socket is shut."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                self.count += 1
                with connection, contextlib.suppress(OSError):
                    if self.context:
                        self.context.wrap_socket(connection, server_side=True).close()


@contextmanager
def closing_server(context: ssl.SSLContext | None = None) -> Iterator[Closing]:
    """Run such a server."""
    server = Closing(context)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        server.listening.close()


def test_sigterm_while_redis_is_away_ends_the_wait(tmp_path: Path) -> None:
    """The wait is cut, not sat out: 0, long before its 15 s are over."""
    with closing_server() as server:
        ingress = start_ingress(make_site(tmp_path, f"redis://127.0.0.1:{server.port}/1"))
        try:
            wait_until(lambda: server.count > 1, "redis was asked twice")
            ingress.process.send_signal(signal.SIGTERM)
            assert ingress.process.wait(timeout=60) == 0, ingress.log.read_text()
        finally:
            ingress.process.kill()
            ingress.process.wait()


@pytest.mark.parametrize("role", ["sign", "relay"])
def test_sigterm_to_a_worker_that_waits_for_redis_ends_it(tmp_path: Path, role: str) -> None:
    """The same for the workers, which Celery does not stop yet."""
    seal_key = tmp_path / "seal.key"
    seal_key.write_text(base64.b64encode(bytes(32)).decode())
    seal_key.chmod(0o600)
    with closing_server() as server:
        environment = {
            "PTT_INGRESS__SEAL_KEY_FILE": str(seal_key),
            "PATH": os.environ["PATH"],
            "PTT_REDIS__URL": f"redis://127.0.0.1:{server.port}/1",
            "PTT_SIGNING__KEYS_DIR": str(tmp_path),
            "PTT_RELAY__HOSTNAME": "mail.example.test",
        }
        argv = [sys.executable, "-m", "celery", "-A", "ptt", "worker", "-Q", role]
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: server.count > 1, "redis was asked twice")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0  # 75, had it waited on
        finally:
            process.kill()
            process.wait()


def test_certificate_of_redis_that_is_not_trusted_is_told_at_once(tmp_path: Path) -> None:
    """It does not become right by waiting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    authority_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority_file))
    with closing_server(context) as server:
        address = RedisAddress(url=f"rediss://127.0.0.1:{server.port}/1", ca_file=authority_file)
        with pytest.raises(Unavailable, match="certificate verify failed"):
            check_server(address, allow_unsafe=False)
        assert server.count == 1


def test_password_of_redis_that_is_wrong_is_told_at_once(valkey: RedisServer) -> None:
    """The same for who we are."""
    address = RedisAddress(url=valkey.url.replace("unix://", "unix://nobody:wrong@"))
    with valkey.client() as client:
        before = client.info("stats")["total_connections_received"]
        with pytest.raises(Unavailable):
            check_server(address, allow_unsafe=False)
        assert client.info("stats")["total_connections_received"] == before + 1
