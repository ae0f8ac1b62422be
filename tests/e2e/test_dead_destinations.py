"""Mail to many dead destinations: it waits without being tried message by message, and live mail goes by."""

import asyncio
from collections import Counter

import pytest
import redis

from ptt.store import keys
from ptt.tasks.window import FIRST_WINDOW
from tests.e2e.dead_site import dead_site, name_destination
from tests.e2e.site import DESTINATIONS, Site
from tests.servers.submitter import submit_all
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)
DEAD = 60
PER_DESTINATION = 3 * FIRST_WINDOW
BODY_BYTES = 10_000
MOST_BYTES = 14_336
"""Memory of Redis for one waiting message of 10 kB, the history of its attempt apart."""


def send(site: Site, numbers: range, domains: list[str]) -> None:
    """Send messages to these domains in turn; all must be accepted."""

    def recipient(number: int) -> str:
        return f"r{number}@{domains[number % len(domains)]}"

    ledger = asyncio.run(submit_all(site.account(), list(numbers), 20, BODY_BYTES, recipient))
    assert len(ledger.accepted) == len(numbers)


def test_dead_destinations_back_off_and_live_mail_goes_by() -> None:
    """Refused connections: a first window of each is tried, the rest waits for the probe, in bounded memory."""
    total = DEAD * PER_DESTINATION
    with (
        dead_site(DEAD, silent=False) as site,
        redis.Redis(unix_socket_path=str(site.folder / "valkey/valkey.sock"), db=1) as client,
    ):
        before = client.info("memory")["used_memory"]
        send(site, range(total), [name_destination(number) for number in range(DEAD)])
        wait_until(
            lambda: len(set(client.scan_iter(f"{keys.BACKOFF}*"))) == DEAD and not client.exists(keys.SIGN),
            "all destinations back off",
            120,
        )
        used = client.info("memory")["used_memory"] - before - int(client.memory_usage(keys.EVENTS) or 0)
        assert used / total <= MOST_BYTES
        send(site, range(total, total + 10), list(DESTINATIONS))
        wait_until(lambda: sum(1 for _ in site.read_arrived()) == 10, "live mail is delivered")
        tried = Counter(event["recipient"] for event in site.list_events() if event["event"] == "recipient.deferred")
        by_domain = Counter(recipient.partition("@")[2] for recipient in tried.elements())
        assert max(by_domain.values()) <= 2 * FIRST_WINDOW
        assert len(by_domain) == DEAD
        assert site.stop() == 0


def test_silent_destinations_do_not_hold_up_live_mail() -> None:
    """Hosts that take connections and never greet, more than the places of the relay: live mail is not behind them."""
    with dead_site(DEAD, silent=True, settings={"PTT_RELAY__DESTINATIONS": "20"}) as site:
        send(site, range(DEAD), [name_destination(number) for number in range(DEAD)])
        send(site, range(1000, 1010), list(DESTINATIONS))
        wait_until(lambda: sum(1 for _ in site.read_arrived()) == 10, "live mail is delivered", 120)
        assert not any(event["event"] == "recipient.deferred" for event in site.list_events())
