"""What a hundred thousand messages to a thousand dead destinations cost, and what they do to live mail.

Run it from the root of the checkout:  python -m bench.dead_destinations [--messages 100000] [--destinations 1000]
[--silent]. It starts a whole site of its own on the loopback (`ptt up` with embedded Valkey, BIND, a destination that
lives). The dead ones refuse connections; with --silent they take them and never greet. It asserts nothing.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import redis

from bench.conditions import describe_machine
from ptt.store import keys
from tests.e2e.dead_site import dead_site, name_destination
from tests.e2e.site import DESTINATIONS, Site
from tests.servers.submitter import Ledger, submit_all

BODY_BYTES = 10_000
CONNECTIONS = 50
LIVE = 50
IDLE_S = 30.0
TICKS = os.sysconf("SC_CLK_TCK")
ROLES = ("ptt.workers.ingress", "-Q sign", "-Q relay", " up", "valkey.sock")


def connect(site: Site) -> redis.Redis:
    """Connect to the spool."""
    return redis.Redis(unix_socket_path=str(site.folder / "valkey/valkey.sock"), db=1)


def submit_dead(site: Site, messages: int, destinations: int) -> Ledger:
    """Submit messages to the dead destinations in turn."""

    def recipient(number: int) -> str:
        return f"r{number}@{name_destination(number % destinations)}"

    return asyncio.run(submit_all(site.account(), list(range(messages)), CONNECTIONS, BODY_BYTES, recipient))


def wait_until_quiet(client: redis.Redis, destinations: int) -> None:
    """Wait until everything is signed and every destination backs off."""
    while client.exists(keys.SIGN) or sum(1 for _ in client.scan_iter(f"{keys.BACKOFF}*", count=5000)) < destinations:
        time.sleep(1)


def time_live_mail(site: Site, first: int) -> list[float]:
    """Send single messages to the destination that lives; give the seconds of each from log-in to its arrival there."""
    times = []
    for number in range(first, first + LIVE):
        arrived = (site.folder / "arrived").stat().st_size
        began = time.perf_counter()
        account = site.account()
        ledger = asyncio.run(submit_all(account, [number], 1, BODY_BYTES, lambda _: f"live@{DESTINATIONS[0]}"))
        if not ledger.accepted:
            raise RuntimeError("the message was not accepted")
        while (site.folder / "arrived").stat().st_size == arrived:
            time.sleep(0.002)
        times.append(time.perf_counter() - began)
    return times


def read_cpu_s(site: Site) -> dict[str, float]:
    """Give the CPU time so far of all processes of each role."""
    used = dict.fromkeys(ROLES, 0.0)
    for role in ROLES:
        for pid in site.find_processes(role):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[role] += (int(fields[11]) + int(fields[12])) / TICKS
    return used


def measure_idle(site: Site) -> dict[str, float]:
    """Give the share of one core that each role uses while nothing happens, in per cent."""
    before = read_cpu_s(site)
    time.sleep(IDLE_S)
    return {role.strip(): round(100 * (now - before[role]) / IDLE_S, 2) for role, now in read_cpu_s(site).items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--destinations", type=int, default=1000)
    parser.add_argument("--silent", action="store_true")
    options = parser.parse_args()
    print(json.dumps(describe_machine(Path(tempfile.gettempdir())), indent=2))
    print(vars(options), f"{BODY_BYTES} octets each")
    with dead_site(options.destinations, silent=options.silent) as site, connect(site) as client:
        print("live mail, empty queue:", summarise(time_live_mail(site, 10_000_000)))
        print("idle, per cent of a core, empty queue:", measure_idle(site))
        before = client.info("memory")["used_memory"]
        began = time.perf_counter()
        accepted = len(submit_dead(site, options.messages, options.destinations).accepted)
        print(f"accepted {accepted} in {time.perf_counter() - began:.0f} s")
        print("live mail, in the midst of the first attempts:", summarise(time_live_mail(site, 20_000_000)))
        if not options.silent:
            wait_until_quiet(client, options.destinations)
        used = client.info("memory")["used_memory"] - before
        print(f"memory: {used / 1e6:.0f} MB, {used / accepted:.0f} octets a message")
        print("live mail, queue full of dead mail:", summarise(time_live_mail(site, 30_000_000)))
        print("idle, per cent of a core, queue full of dead mail:", measure_idle(site))
        events = [event["event"] for event in site.list_events()]
        print(f"attempts {events.count('recipient.deferred')}, back-offs {events.count('destination.deferred')}")


def summarise(times: list[float]) -> str:
    """Give median and worst, in ms."""
    return f"median {statistics.median(times) * 1e3:.0f} ms, worst of {len(times)} {max(times) * 1e3:.0f} ms"


if __name__ == "__main__":
    main()
