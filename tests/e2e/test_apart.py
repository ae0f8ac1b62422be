"""The roles apart, as on several hosts: each its own program and user of Redis, over TLS with client certificates."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis
import trustme

from ptt.store import keys
from ptt.store.server import NOT_LOADED
from tests.e2e.site import Site
from tests.e2e.test_whole_path import submit, wait_delivered
from tests.servers.ports import free_port
from tests.servers.redis import SAFE, RedisServer, debian_redis, running_server
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)
PROGRAMS = {
    "ingress": ("-m", "ptt.workers.ingress"),
    "sign": ("-m", "celery", "-A", "ptt", "worker", "-Q", "sign", "-n", "sign@%h"),
    "relay": ("-m", "celery", "-A", "ptt", "worker", "-Q", "relay", "-n", "relay-1@%h"),
    "relay-2": ("-m", "celery", "-A", "ptt", "worker", "-Q", "relay", "-n", "relay-2@%h"),
}


@contextmanager
def redis_over_tls(site: Site) -> Iterator[RedisServer]:
    """Run Debian's Redis on a TLS port that asks for client certificates, and point the site to it."""
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(str(site.folder / "redis-ca.pem"))
    for name in ("server", "client"):
        certificate = authority.issue_cert("127.0.0.1" if name == "server" else "ptt.test")
        certificate.private_key_pem.write_to_path(str(site.folder / f"redis-{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(site.folder / f"redis-{name}.crt"))
    site.settings |= {
        "PTT_REDIS__URL": f"rediss://127.0.0.1:{port}/1",
        "PTT_REDIS__CA_FILE": str(site.folder / "redis-ca.pem"),
        "PTT_REDIS__CERTIFICATE_FILE": str(site.folder / "redis-client.crt"),
        "PTT_REDIS__KEY_FILE": str(site.folder / "redis-client.key"),
    }
    options = {
        **SAFE,
        "tls-port": str(port),
        "tls-cert-file": str(site.folder / "redis-server.crt"),
        "tls-key-file": str(site.folder / "redis-server.key"),
        "tls-ca-cert-file": str(site.folder / "redis-ca.pem"),
        "tls-auth-clients": "yes",
    }
    password = secrets.token_hex(8)
    lines = site.ptt("redis", "acl", "--urls", str(site.folder / "urls")).stdout
    lines += f"user root on >{password} allkeys allchannels allcommands\n"
    (site.folder / "users.acl").write_text(lines)
    with running_server(debian_redis(), options | {"aclfile": str(site.folder / "users.acl")}, password) as server:
        yield server


def environment_of(site: Site, role: str) -> dict[str, str]:
    """Give the environment of a program or command with the login of a role."""
    environment = site.environment | {"PTT_CONFIG": str(site.folder / "ptt.toml")}
    del environment["PTT_REDIS__URL"]
    return environment | {"PTT_REDIS__URL_FILE": str(site.folder / f"urls/{role}.url")}


def run(site: Site, role: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with the login of a role."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment_of(site, role),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def running(site: Site, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one program until the end of the test and check that it stops in good order."""
    environment = environment_of(site, name.partition("-")[0])
    with (site.folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *PROGRAMS[name]], env=environment, stderr=log)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, name
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def count_started(site: Site) -> int:
    """Count the programs that say that they have started."""
    events = [event["event"] for event in site.list_events()]
    return sum(events.count(f"{role}.started") for role in ("ingress", "sign", "relay"))


def test_roles_apart_over_redis_with_tls_deliver_everything(site: Site) -> None:
    """Two relays, one signer and one ingress, each with its rights alone: all mail arrives once, none is left.

    Nothing of what they do is denied: the rights are enough.
    """
    with redis_over_tls(site) as server, ExitStack() as stack:
        assert run(site, "admin", "-m", "ptt", "redis", "load").returncode == 0
        for name in PROGRAMS:
            stack.enter_context(running(site, name))
        wait_until(lambda: count_started(site) == len(PROGRAMS), "all programs have started", 120)
        ledger = submit(site, 200, 10)
        assert len(ledger.accepted) == 200
        assert set(wait_delivered(site, ledger, 240).values()) == {1}
        assert run(site, "admin", "-m", "ptt", "queue", "list").returncode == 0
        with server.client() as client:
            # They ask for the configuration at their start, and take INFO for an answer.
            assert {entry["object"] for entry in client.acl_log()} <= {"config|get"}
            wait_until(
                lambda: {name for name in client.scan_iter() if client.ttl(name) == -1} <= {keys.EVENTS.encode()},
                "the spool is empty",
            )


def test_roles_refuse_a_redis_that_is_not_the_one_they_trust(site: Site) -> None:
    """A server whose certificate another authority signed gets no mail and no wake-up: 75, try again."""
    with redis_over_tls(site):
        trustme.CA().cert_pem.write_to_path(str(site.folder / "redis-ca.pem"))
        for name in ("ingress", "sign"):
            ended = run(site, name, *PROGRAMS[name])
            assert ended.returncode == 75, ended.stderr
            assert "CERTIFICATE_VERIFY_FAILED" in ended.stderr


@pytest.mark.parametrize("name", ["ingress", "sign", "relay"])
def test_role_without_its_functions_does_not_start(site: Site, name: str) -> None:
    """Who may not load functions says who has to: one line, exit 78."""
    with redis_over_tls(site):
        ended = run(site, name, *PROGRAMS[name])
        assert (ended.returncode, ended.stderr.strip()) == (78, NOT_LOADED)


@pytest.mark.parametrize("name", ["ingress", "sign", "relay"])
def test_role_with_an_unsafe_redis_does_not_start(site: Site, name: str) -> None:
    """Redis that may lose what it acknowledged: one line, exit 78, for each role."""
    with running_server() as server:
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            client.config_set("appendfsync", "everysec")
        environment = site.environment | {"PTT_CONFIG": str(site.folder / "ptt.toml"), "PTT_REDIS__URL": server.url}
        ended = subprocess.run(
            [sys.executable, *PROGRAMS[name]], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 78
        assert ended.stderr.splitlines() == [
            "redis: appendfsync: is 'everysec', must be 'always': anything less loses mail that was answered with 250"
        ]
