"""The faults: each takes a run and does its harm at moments and in ways that the run's random numbers choose."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from ptt.core.wakeup import DESTINATION_PLACE, ID_PLACE, RELAY_QUEUE, RELAY_WAKEUP
from ptt.workers.lag import LOOK_EVERY_S
from tests.chaos.ledger import read_lines
from tests.chaos.proxy import Cut, Cutting, Way, reset
from tests.chaos.rig import Run, wait_pids, wait_port, wait_started
from tests.chaos.sender import Offer, expect, login_dialogue
from tests.e2e.site import DESTINATIONS
from tests.waiting import wait_until_async

INGRESS, SIGN, RELAY = "ptt.workers.ingress", "-Q sign", "-Q relay"
RELAY_PROCESSES = "PTT_RELAY__PROCESSES"
MAX_PORT_S = 2.0
"""B1: so soon the port is to be back."""
MAX_REFUSAL_S = 5.0
"""B7: so soon a client must have its 451 while Redis is away."""
MAX_STOP_S = 30.0
"""B43: so soon a stopped site must be gone."""
_CUTS_AT_ONCE = 8
"""B25: sessions at once beside those of the load."""
_HEARD_WITHIN_S = 120.0
"""Longest wait for the first 451 while Redis is away; Redis does not come back before it."""


async def kill_ingress(run: Run) -> None:
    """Kill ingress, and measure how long its port is away."""
    slowest_s = 0.0
    async for _ in run.moments():
        kill((await wait_pids(run.site, INGRESS))[0])
        slowest_s = max(slowest_s, await wait_port(run.site.ports["implicit"], 30 * run.patience))
    run.note("port", f"back after {slowest_s:.2f} s at most", holds=slowest_s < MAX_PORT_S * run.patience)


async def kill_sign(run: Run) -> None:
    """Kill the main process of sign, one of its children, or all of them."""
    starts = 1
    async for _ in run.moments():
        await _let_work(run, "sign.started", starts)
        pids = await wait_pids(run.site, SIGN)
        main = next((pid for pid in pids if _parent_of(pid) not in pids), pids[0])
        children = [pid for pid in pids if pid != main] or [main]
        victims = run.random.choice([[main], [run.random.choice(children)], pids])
        starts += main in victims
        for pid in victims:
            kill(pid)


async def kill_relay(run: Run) -> None:
    """Kill one of the relay workers, once all of them work: its processes finish what they have in hand."""
    async for number in run.moments():
        await _let_work(run, "relay.started", number + run.case.relays)
        kill(run.random.choice((await find_relays(run))[0]))


async def kill_relay_process(run: Run) -> None:
    """Kill one of the processes of the relay workers, with all that it has in hand."""
    processes = run.case.relays * int(run.case.settings.get(RELAY_PROCESSES, "1"))
    async for number in run.moments():
        await _let_work(run, "relay.process_started", number + processes)
        kill(run.random.choice((await find_relays(run))[1]))


async def find_relays(run: Run) -> tuple[list[int], list[int]]:
    """Give the pids of the relay workers, and those of their processes; those of dead workers are none."""
    while True:
        pids = await wait_pids(run.site, RELAY)
        parents = {pid: _parent_of(pid) for pid in pids}
        workers = [pid for pid in pids if parents[pid] not in pids and _is_supervised(run, parents[pid])]
        if processes := [pid for pid in pids if parents[pid] in workers]:
            return workers, processes
        await asyncio.sleep(0.02)


def _is_supervised(run: Run, parent: int) -> bool:
    site = run.site
    return parent == (site.process.pid if site.process else os.getpid())


async def kill_tree(run: Run) -> None:
    """Kill everything at once, Redis too, and start it again."""
    async for _ in run.moments():
        await asyncio.to_thread(run.site.kill_tree)
        await asyncio.to_thread(run.site.start)


async def kill_redis(run: Run) -> None:
    """Kill Redis and start it again after a while; meanwhile no client may hear 250, nor wait for more than 5 s."""
    server = run.site.redis_server
    assert server is not None
    outages = []
    async for number in run.moments():
        # One is longer than ingress waits for Redis, whatever the seed.
        outage_s = run.random.uniform(0.2, run.load.outage_s) if number else run.load.outage_s
        await asyncio.to_thread(server.kill)
        began = time.monotonic()
        await asyncio.sleep(outage_s)
        if not number:
            await hear_refusal(run, began)
        outages.append((began, time.monotonic()))
        await asyncio.to_thread(server.start)
        await asyncio.sleep(run.random.uniform(0.5, 1 + run.load.life_s))
    note_outages(run, outages)


async def hear_refusal(run: Run, began: float) -> None:
    """Wait until a client whose dot came in an outage of Redis has its 451: it must not wait until Redis is back."""

    def is_heard() -> bool:
        return any(one.at - one.took_s > began and one.text.startswith("451") for one in run.sender.answers)

    await wait_until_async(is_heard, "a client hears 451 while Redis is away", _HEARD_WITHIN_S)


def note_outages(run: Run, outages: Sequence[tuple[float, float]]) -> None:
    """Check that no client heard 250 in an outage of Redis, and none waited for longer than 5 s for its 451.

    A 250 for a dot from before the outage may be on its way when Redis dies; if it is not true, its message is lost.
    """
    answers = run.sender.answers
    wrong = [
        answer.text
        for answer in answers
        for began, ended in outages
        if began < answer.at - answer.took_s and answer.at < ended and answer.text.startswith("250")
    ]
    run.note("no 250 without Redis", f"{len(wrong)} in {len(outages)} outages", holds=not wrong)
    slowest_s = max((answer.took_s for answer in answers if not answer.text.startswith("250")), default=0.0)
    refusals = sum(1 for answer in answers if answer.text.startswith("451"))
    run.note("451", f"{refusals}, after {slowest_s:.2f} s at most", holds=slowest_s < MAX_REFUSAL_S * run.patience)


async def flush_broker(run: Run) -> None:
    """Throw all wake-ups away."""
    async for _ in run.moments():
        with run.site.redis(0) as client:
            client.flushdb()


async def freeze(run: Run, role: str) -> None:
    """Stop a process of a role for longer than its lease, and let it go on."""
    lease_s = float(run.case.settings["PTT_QUEUE__LEASE_S"])
    async for _ in run.moments():
        pids = (await find_relays(run))[1] if role == RELAY else await wait_pids(run.site, role)
        pid = run.random.choice(pids)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(lease_s + run.random.uniform(0.5, 2.5))
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(lease_s)
    if role == RELAY:
        least_s = lease_s - LOOK_EVERY_S
        with contextlib.suppress(AssertionError):
            await wait_until_async(lambda: _find_longest_lag(run) >= least_s, "the lag is in the log")
        longest_s = _find_longest_lag(run)
        run.note("lag", f"{longest_s:.1f} s at most in the log", holds=longest_s >= least_s)


def _find_longest_lag(run: Run) -> float:
    return max((event["delay_s"] for event in run.site.list_events() if event["event"] == "loop.lagged"), default=0.0)


async def leave_alone(run: Run) -> None:
    """Do nothing: the fault is how the sink behaves."""
    async for _ in run.moments():
        pass


async def dispatch_twice(run: Run) -> None:
    """Push wake-ups that nobody needs: several relays work on each destination at once."""
    async for number in run.moments():
        with run.site.redis(0) as client:
            for domain in DESTINATIONS:
                for copy in range(2 * run.case.relays):
                    name = f"again-{number}-{copy}-{domain}".encode()
                    wakeup = RELAY_WAKEUP.replace(ID_PLACE.encode(), name)
                    client.lpush(RELAY_QUEUE, wakeup.replace(DESTINATION_PLACE.encode(), domain.encode()))


async def partition(run: Run, links: tuple[str, ...]) -> None:
    """Cut links between processes in each of three ways, for a while."""
    kinds = ("blackhole", "one-way", "reset")
    plan = [(link, kind) for link in links for kind in kinds]
    run.random.shuffle(plan)
    for link, kind in (plan * run.load.faults)[: run.load.faults]:
        await asyncio.sleep(run.random.uniform(0.5, 1.5))
        proxy = run.proxies[link]
        outage_s = run.load.outage_s
        if kind == "blackhole":
            proxy.hold(*Way)
        elif kind == "one-way":
            proxy.hold(Way.BACK)
        else:
            proxy.refuse()
            outage_s = min(outage_s, 2.0)
        await asyncio.sleep(outage_s)
        proxy.heal()
        run.faults += 1
        run.mark_fault()


async def cut_dialogue(run: Run, link: str) -> None:
    """Cut connections after the n-th octet of either direction, by FIN, RST and half-close."""
    proxy = run.proxies[link]
    arrived = run.site.folder / "arrived.ledger"
    await wait_until_async(lambda: arrived.stat().st_size, "a first arrival", 120)
    await asyncio.sleep(0.3)  # its dialogue is over
    lengths = {way: max(one.passed[way] for one in proxy.links[:3]) for way in Way}
    plans = [Cut(way, n, kind) for way in Way for n in range(1, lengths[way] + 1) for kind in Cutting]
    run.random.shuffle(plans)
    plans = plans[: run.load.faults or len(plans)]
    run.note("cuts", f"{len(plans)} of dialogues of {lengths[Way.OUT]} and {lengths[Way.BACK]} octets", holds=True)
    proxy.plans.extend(plans)
    proxy.reset_all()  # those that have no plan
    await wait_until_async(lambda: not proxy.plans, "each cut has had its connection", 120 + 3 * len(plans))
    run.faults += sum(1 for one in proxy.links if one.cut)
    run.mark_fault()


async def cut_submission(run: Run) -> None:
    """Speak the dialogue of a submission up to its n-th octet and cut it there; count what ingress keeps open."""
    pid = (await wait_pids(run.site, INGRESS))[0]
    await wait_until_async(lambda: len(run.sender.accepted) >= run.load.messages // 2, "the load runs", 120)
    await wait_until_async(lambda: len(run.sender.sessions) == run.load.connections, "all sessions are there")
    opened, redis = _count_files(pid)
    sample = run.sender.make(1_000_000)
    run.sender.incomplete.add(sample.identity)
    length = sum(len(part) for part, _ in _dialogue(run, sample))
    places = [(n, kind) for n in range(1, length + 1) for kind in (Cutting.FIN, Cutting.RST)]
    run.random.shuffle(places)
    places = places[: run.load.faults or len(places)]
    places[0] = (length, Cutting.FIN)
    gate = asyncio.Semaphore(_CUTS_AT_ONCE)
    await asyncio.gather(*(_submit_cut(run, gate, 1_000_001 + i, place) for i, place in enumerate(places)))
    run.faults += len(places)
    run.mark_fault()
    with contextlib.suppress(AssertionError):
        await wait_until_async(lambda: _count_files(pid)[0] <= opened, "sessions are closed", 60)
    left, more = _count_files(pid)[0] - opened, _count_files(pid)[1] - redis
    detail = f"{left:+d} after {len(places)} cuts of a dialogue of {length} octets"
    run.note("open files", detail, holds=left <= 0)
    # A connection to Redis is made when all that there are have work, and kept.
    run.note("connections to Redis", f"{more:+d}", holds=more <= _CUTS_AT_ONCE)


async def stop_gracefully(run: Run) -> None:
    """Stop everything by SIGTERM under load, and start it again."""
    slowest_s, codes = 0.0, []
    async for _ in run.moments():
        began = time.monotonic()
        codes.append(await asyncio.to_thread(run.site.stop))
        slowest_s = max(slowest_s, time.monotonic() - began)
        await asyncio.to_thread(run.site.start)
    run.note("stop", f"exit codes {sorted(set(codes))}, {slowest_s:.1f} s at most", holds=set(codes) == {0})
    run.note("stop within 30 s", f"{slowest_s:.1f} s", holds=slowest_s < MAX_STOP_S * run.patience)
    said = dict(run.sender.farewells)
    run.note("421", f"ends of sessions: {said}", holds=said.get("421", 0) > 0)


def partition_of(*links: str) -> Callable[[Run], Awaitable[None]]:
    """Give the fault that cuts these links."""
    return partial(partition, links=links)


def freeze_of(role: str) -> Callable[[Run], Awaitable[None]]:
    """Give the fault that freezes a process of this role."""
    return partial(freeze, role=role)


def cuts_of(link: str) -> Callable[[Run], Awaitable[None]]:
    """Give the fault that cuts the dialogues of this link."""
    return partial(cut_dialogue, link=link)


async def wait_delivered(run: Run) -> None:
    """Wait until all that was accepted so far has arrived, or its report has."""
    path = run.site.folder / "arrived.ledger"
    wanted = set(run.sender.accepted)
    await wait_until_async(lambda: wanted <= {line["id"] for line in read_lines(path)}, "all has arrived", 300)


async def _let_work(run: Run, event: str, starts: int) -> None:
    """Wait until all work again, and some time more: a program that only ever starts has nothing to lose."""
    await wait_started(run.site, event, starts)
    await asyncio.sleep(run.random.uniform(0, run.load.life_s))


def _dialogue(run: Run, offer: Offer) -> list[tuple[bytes, str]]:
    sender = run.sender.account.sender
    return [
        *login_dialogue(run.sender.account),
        (f"MAIL FROM:<{sender}>\r\n".encode(), "250"),
        (f"RCPT TO:<{offer.recipient}>\r\n".encode(), "250"),
        (b"DATA\r\n", "354"),
        (offer.content, "250"),
    ]


async def _submit_cut(run: Run, gate: asyncio.Semaphore, number: int, place: tuple[int, Cutting]) -> None:
    left, kind = place
    offer = run.sender.make(number)
    run.sender.incomplete.add(offer.identity)
    account = run.sender.account
    async with gate:
        reader, writer = await asyncio.open_connection(account.address, account.port, ssl=account.context)
        try:
            await expect(reader, "220")
            for part, code in _dialogue(run, offer):
                piece, left = part[:left], left - len(part)
                if piece is offer.content or piece == offer.content:
                    run.sender.incomplete.discard(offer.identity)
                    run.sender.unanswered.add(offer.identity)
                writer.write(piece)
                await writer.drain()
                if left <= 0:
                    break
                await expect(reader, code)
            if kind is Cutting.FIN:
                writer.close()
                await writer.wait_closed()
            else:
                reset(writer)
        except OSError:
            writer.transport.abort()


def _count_files(pid: int) -> tuple[int, int]:
    """Count the open files of a process, and apart from them its unix sockets: the way to the embedded Redis."""
    unix = {f"socket:[{line.split()[6]}]" for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    files = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            files.append(str(entry.readlink()))
    sockets = sum(name in unix for name in files)
    return len(files) - sockets, sockets


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def kill(pid: int) -> None:
    """Kill a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
