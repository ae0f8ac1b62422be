"""Whole processes: mail goes in over TLS, comes out signed at another server, and nothing is lost on the way."""

import asyncio
import hashlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
import redis

from ptt.store import keys
from tests.e2e.site import DESTINATIONS, Site
from tests.servers.submitter import Ledger, submit_all
from tests.servers.verifiers import MailDkim, verify_by_dkimpy
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)
BODY_BYTES = 10_240


def submit(site: Site, count: int, connections: int) -> Ledger:
    """Send some messages, to both destinations in turn."""

    def recipient(number: int) -> str:
        return f"r{number}@{DESTINATIONS[number % 2]}"

    return asyncio.run(submit_all(site.account(), list(range(count)), connections, BODY_BYTES, recipient))


def identity_of(content: bytes) -> str:
    """Give the id that the submitter put into the header."""
    return content.split(b"\r\nX-Identity: ", 1)[1].split(b"\r\n", 1)[0].decode()


def wait_delivered(site: Site, ledger: Ledger, timeout_s: float) -> Counter[str]:
    """Wait until each accepted message has arrived with its very body, and give how often each did."""

    def arrived() -> Counter[str]:
        return Counter(identity_of(content) for _, content in site.read_arrived())

    wait_until(lambda: ledger.accepted.keys() <= arrived().keys(), "each accepted message is delivered", timeout_s)
    for head, content in site.read_arrived():
        identity = identity_of(content)
        if identity in ledger.accepted:
            assert hashlib.sha256(content.partition(b"\r\n\r\n")[2]).hexdigest() == ledger.accepted[identity]
        assert head["tls"] is True
    return arrived()


def check_spool_is_empty(site: Site) -> None:
    """Nothing is left in the spool that has no TTL and no permanent place."""
    with redis.Redis(unix_socket_path=str(site.folder / "valkey/valkey.sock"), db=1) as client:

        def left() -> list[bytes]:
            return [
                name for name in client.scan_iter() if name.decode() not in keys.PERMANENT and client.ttl(name) == -1
            ]

        wait_until(lambda: not left() and not client.exists(keys.SIGN, keys.DESTINATIONS), "the spool is empty", 120)


def records_of(site: Site) -> dict[str, str]:
    """Give the DKIM records that BIND serves for the keys on disk."""
    selectors = [path.stem for path in (site.folder / "keys/example.test").glob("*.pem")]
    names = [f"{selector}._domainkey.example.test" for selector in selectors]
    return {name: site.bind.get_texts(name)[0] for name in names}


def test_ten_thousand_messages_arrive_signed_and_whole(site: Site) -> None:
    """10,000 messages of 10 kB over 50 kept TLS connections: all delivered once, each signature verified."""
    site.start()
    ledger = submit(site, 10_000, 50)
    assert len(ledger.accepted) == 10_000
    assert not ledger.refused
    assert ledger.cut == 0
    copies = wait_delivered(site, ledger, 480)
    assert copies.total() == 10_000
    check_spool_is_empty(site)
    records = records_of(site)
    contents = [content for _, content in site.read_arrived()]
    with ProcessPoolExecutor(2) as pool:
        results = Counter(map(tuple, pool.map(partial(verify_by_dkimpy, records=records), contents, chunksize=200)))
    assert results == {("rsa-sha256=pass",): 10_000}
    with MailDkim.running(records, site.folder) as verifier:
        assert all(verifier.verify(content) == ["rsa-sha256=pass"] for content in contents[::20])
    assert site.stop() == 0


def kill(site: Site, name: str) -> None:
    """Kill one process of a role."""
    pids = site.find_processes(name)
    assert pids, f"no process {name}"
    os.kill(pids[0], signal.SIGKILL)


def flush_broker(site: Site) -> None:
    """Throw all wake-ups away."""
    with redis.Redis(unix_socket_path=str(site.folder / "valkey/valkey.sock"), db=0) as client:
        client.flushdb()


@pytest.mark.parametrize(
    ("fault", "may_double"),
    [
        pytest.param(partial(kill, name="ptt.workers.ingress"), False, id="ingress"),
        pytest.param(partial(kill, name="-Q sign"), False, id="sign"),
        pytest.param(partial(kill, name="-Q relay"), True, id="relay"),
        pytest.param(partial(kill, name="valkey.sock"), True, id="redis"),
        pytest.param(flush_broker, False, id="flushdb"),
    ],
)
def test_everything_accepted_is_delivered_when(site: Site, fault: Callable[[Site], None], *, may_double: bool) -> None:
    """One process is killed or the broker emptied in mid-run: nothing is lost, a double is listed as uncertain."""
    site.start()
    timer = threading.Timer(0.7, fault, [site])
    timer.start()
    ledger = submit(site, 1500, 20)
    timer.join()
    assert len(ledger.accepted) == 1500
    copies = wait_delivered(site, ledger, 240)
    doubled = {identity for identity, count in copies.items() if count > 1}
    listed = {event["recipient"] for event in site.list_events() if event["event"] == "recipient.uncertain"}
    assert {f"r{name[1:].split('-')[0]}" for name in doubled} <= {address.split("@")[0] for address in listed}
    assert may_double or not doubled
    check_spool_is_empty(site)
    assert site.stop() == 0
