"""One run: a site under load, a fault from a case, the drain, and the evidence. All choices come from one seed."""

import asyncio
import contextlib
import random
import shutil
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests.chaos.ledger import Ledger, read_lines
from tests.chaos.proxy import Proxy
from tests.chaos.sender import Mail, Sender
from tests.chaos.site import ChaosSite, Workshop, make_redis
from tests.chaos.verdict import MAX_RECOVERY_S, Arrival, Check, Evidence, Figures, check, count
from tests.e2e.site import DESTINATIONS, MX_ADDRESS
from tests.servers.ports import free_port
from tests.servers.verifiers import MailDkim, verify_by_dkimpy
from tests.waiting import wait_until_async

SETTLE_S = 15.0
"""How long evidence against us is read again: a process that was frozen may still have a line to write."""
DRAIN_S = 120.0
"""Longest wait for what was accepted; more than I8 allows, so that a slow drain is told apart from a loss."""
MAX_VERIFIED = 300
"""Signatures that dkimpy verifies in one run, drawn by the seed; Mail::DKIM verifies a tenth of them."""
ROLES = ("ingress", "sign", "relay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is sent, how fast, and how many faults meet it."""

    messages: int
    rate: float
    faults: int
    outage_s: float = 5.0
    """How long a partition or an outage of Redis lasts at most."""
    life_s: float = 1.0
    """How long a role or Redis works at most before the next fault."""
    connections: int = 20
    size_bytes: int = 2_000


def choose_plain(load: Load, number: int) -> Mail:
    """Take the two destinations in turn; the sink takes everything."""
    return Mail(domain=DESTINATIONS[number % 2], size_bytes=load.size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One experiment."""

    name: str
    title: str
    inject: Callable[["Run"], Awaitable[None]]
    small: Load
    full: Load
    may_double: bool = False
    """Whether a listed double is within the promise; a double that is not listed never is."""
    may_refuse_late: bool = False
    """Whether a message may be delivered whose 451 our log lists as unsure: the answer of Redis was cut off."""
    max_wait_s: float = 120.0
    """Longest time from a 250 to the arrival."""
    load_goes_on: bool = True
    """Whether mail is sent until the faults are over, however long they take."""
    drain_s: float = DRAIN_S
    """Longest wait for what was accepted."""
    max_recovery_s: float = MAX_RECOVERY_S
    """I8: how long the backlog may last; only a case that makes a long one on purpose gives it more."""
    layout: str = "up"
    """``up``, or ``apart`` with proxies to Redis and to the sink."""
    relays: int = 1
    sink_options: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[ChaosSite, Load, random.Random], None] | None = None
    """Called before the site starts."""
    attend: Callable[["Run"], None] | None = None
    """What a person does again and again while the backlog drains; None: nobody is there."""
    choose: Callable[[Load, int], Mail] = choose_plain
    """What kind of message the n-th is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a run."""

    case: Case
    seed: int
    load: Load
    figures: Figures
    checks: list[Check]
    faults: int
    elapsed_s: float
    folder: Path | None
    """Where the logs are; None when all held and they were removed."""

    @property
    def holds(self) -> bool:
        """Tell whether everything held."""
        return all(one.holds for one in self.checks)


@dataclass
class Run:
    """What a fault works with."""

    case: Case
    load: Load
    random: random.Random
    site: ChaosSite
    sender: Sender
    proxies: dict[str, Proxy]
    """By role: between it and Redis; ``mx``: between relay and sink; ``client``: before ingress."""
    notes: list[Check] = field(default_factory=list)
    faults: int = 0
    last_fault_at: float = 0.0
    patience: float = 1.0
    """How many times longer than promised things may take; more than 1 where the machine has other work to do."""

    def note(self, name: str, detail: str, *, holds: bool) -> None:
        """Add a check of the case's own."""
        self.notes.append(Check(name, holds, detail))

    def mark_fault(self) -> None:
        """Count a fault or its repair."""
        self.last_fault_at = time.monotonic()

    async def moments(self) -> AsyncIterator[int]:
        """Give control at as many random moments of the load as there are to be faults."""
        length_s = self.load.messages / self.load.rate
        moments = sorted(self.random.uniform(0.3, max(0.6, length_s)) for _ in range(self.load.faults))
        began = time.monotonic()
        for number, moment in enumerate(moments):
            await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
            yield number
            self.faults += 1
            self.mark_fault()


async def run_case(case: Case, workshop: Workshop, seed: int, *, is_full: bool, patience: float = 1.0) -> Result:
    """Run one case and judge it; the folder is kept if anything did not hold."""
    load = case.full if is_full else case.small
    folder = Path(tempfile.mkdtemp(prefix=f"ptt-{case.name.lower()}-"))
    began = time.monotonic()
    try:
        async with AsyncExitStack() as stack:
            run = await _set_up(stack, case, load, workshop, (folder, seed))
            run.patience = patience
            evidence = await _perform(run)
    except BaseException as error:
        error.add_note(f"chaos {case.name}, seed {seed}: see {folder}")
        raise
    checks = [*_judge(run, evidence), *run.notes]
    holds = all(one.holds for one in checks)
    if holds:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(
        case=case,
        seed=seed,
        load=load,
        figures=count(evidence),
        checks=checks,
        faults=run.faults,
        elapsed_s=time.monotonic() - began,
        folder=None if holds else folder,
    )


def _judge(run: Run, evidence: Evidence) -> list[Check]:
    case, figures = run.case, count(evidence)
    checks = check(evidence, case.max_recovery_s * run.patience)
    in_time = figures.slowest_s <= case.max_wait_s * run.patience
    checks.append(Check("wait", in_time, f"longest {figures.slowest_s:.1f} s"))
    if not case.may_double:
        checks.append(Check("no double", figures.doubled == 0, f"doubled {figures.doubled}"))
    return [_excuse_listed(one, figures) for one in checks] if case.may_refuse_late else checks


def _excuse_listed(one: Check, figures: Figures) -> Check:
    if one.name != "I2":
        return one
    return replace(one, name="I2 (listed)", holds=figures.refused_delivered == figures.refused_listed)


async def _set_up(stack: AsyncExitStack, case: Case, load: Load, workshop: Workshop, place: tuple[Path, int]) -> Run:
    folder, seed = place
    site = ChaosSite(
        folder,
        workshop.bind,
        settings=dict(case.settings),
        template=workshop.template,
        sink_port=free_port(MX_ADDRESS),
        sink_options=case.sink_options,
        relays=case.relays,
    )
    stack.callback(site.close)
    proxies: dict[str, Proxy] = {}
    if case.layout == "apart":
        await _put_proxies(stack, site, proxies)
    choice = random.Random(seed)
    if case.prepare is not None:
        case.prepare(site, load, choice)
    await asyncio.to_thread(site.prepare)
    site.start_sink()
    await asyncio.to_thread(site.start)
    account = site.account()
    if proxies:
        account = replace(account, port=await _put_proxy(stack, proxies, "client", (account.address, account.port)))
    ledger = Ledger(folder / "accepted.ledger")
    stack.callback(ledger.close)
    sender = Sender(account, ledger, folder, partial(case.choose, load))
    return Run(case, load, choice, site, sender, proxies)


async def _put_proxies(stack: AsyncExitStack, site: ChaosSite, proxies: dict[str, Proxy]) -> None:
    server = make_redis(site.folder / "redis")
    site.redis_server = server
    await asyncio.to_thread(server.start)
    port = int(server.options["port"])
    urls = {}
    for role in ROLES:
        urls[role] = f"redis://127.0.0.1:{await _put_proxy(stack, proxies, role, ('127.0.0.1', port))}/1"
    site.redis_urls = urls
    site.smtp_port = await _put_proxy(stack, proxies, "mx", (MX_ADDRESS, site.sink_port), MX_ADDRESS)


async def _put_proxy(
    stack: AsyncExitStack,
    proxies: dict[str, Proxy],
    name: str,
    target: tuple[str, int],
    address: str = "127.0.0.1",
) -> int:
    port = free_port(address)
    proxies[name] = await stack.enter_async_context(Proxy.running(target, address, port))
    return port


async def _perform(run: Run) -> Evidence:
    is_over = asyncio.Event()
    if not run.case.load_goes_on:
        is_over.set()
    load = run.load
    sending = asyncio.create_task(run.sender.run(load.messages, load.rate, load.connections, is_over))
    run.mark_fault()
    try:
        await run.case.inject(run)
        is_over.set()
        async with asyncio.timeout(run.case.drain_s * run.patience):
            await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    drained_s = await _drain(run)
    deadline = time.monotonic() + SETTLE_S
    while True:
        evidence = await asyncio.to_thread(_gather, run, drained_s)
        if all(one.holds for one in _judge(run, evidence)) or time.monotonic() > deadline:
            return evidence
        await asyncio.sleep(1)


async def _drain(run: Run) -> float | None:
    """Wait until everything accepted has arrived and the spool is empty; tell how long after the last repair."""
    path = run.site.folder / "arrived.ledger"

    def is_drained() -> bool:
        arrived = {line["id"] for line in read_lines(path)}
        return run.sender.accepted.keys() <= arrived and not run.site.list_left()[0]

    deadline = time.monotonic() + run.case.drain_s * run.patience
    while not await asyncio.to_thread(is_drained):
        if time.monotonic() > deadline:
            return None
        if run.case.attend is not None:
            await asyncio.to_thread(run.case.attend, run)
        await asyncio.sleep(0.3)
    return time.monotonic() - run.last_fault_at


def _gather(run: Run, drained_s: float | None) -> Evidence:
    site, sender = run.site, run.sender
    arrivals: dict[bool, list[Arrival]] = {False: [], True: []}
    for line in read_lines(site.folder / "arrived.ledger"):
        arrival = Arrival(line["id"], line["queue_id"], tuple(line["recipients"]), line["sha256"], line["at"])
        arrivals[line["is_report"]].append(arrival)
    left, parked = site.list_left()
    checked, bad = _verify(run)
    uncertain, final, unsure = site.count_events()
    return Evidence(
        offers={name: (offer.recipient, offer.sha256) for name, offer in sender.offers.items()},
        accepted={line["id"]: line["queue_id"] for line in read_lines(site.folder / "accepted.ledger")},
        accepted_at=sender.accepted_at,
        incomplete=frozenset(sender.incomplete),
        refused=frozenset(sender.refused),
        withdrawn_late=frozenset(unsure),
        arrivals=arrivals[False],
        reports=arrivals[True],
        refused_there=frozenset(name for name, offer in sender.offers.items() if offer.recipient.startswith("never-")),
        uncertain=uncertain,
        final=final,
        left=frozenset(left),
        parked=parked,
        signatures_checked=checked,
        signatures_bad=bad,
        drained_s=drained_s,
    )


def _verify(run: Run) -> tuple[int, int]:
    """Verify a sample of the signatures and give how many were verified and how many are bad."""
    site = run.site
    selectors = [path.stem for path in (site.folder / "keys/example.test").glob("*.pem")]
    texts = {name: site.bind.get_texts(name) for name in (f"{one}._domainkey.example.test" for one in selectors)}
    # The newest key may not be published yet; what it has signed all the same does not verify.
    records = {name: found[0] for name, found in texts.items() if found}
    contents = read_contents(site.folder / "arrived.contents")
    sample = run.random.sample(contents, min(MAX_VERIFIED, len(contents)))
    good = {"rsa-sha256=pass"}  # two of them while one key takes the place of another
    bad = sum(set(verify_by_dkimpy(content, records)) != good for content in sample)
    with MailDkim.running(records, site.folder) as verifier:
        bad += sum(set(verifier.verify(content)) != good for content in sample[::10])
    return len(sample), bad


def read_contents(path: Path) -> list[bytes]:
    """Read what the sink kept."""
    return split_contents(path.read_bytes() if path.exists() else b"")


def split_contents(kept: bytes) -> list[bytes]:
    """Split what the sink kept into messages; one that is not whole yet is left out."""
    octets, contents, position = memoryview(kept), [], 0
    while position + 4 <= len(octets):
        (size,) = struct.unpack("!I", octets[position : position + 4])
        if position + 4 + size > len(octets):
            break
        contents.append(bytes(octets[position + 4 : position + 4 + size]))
        position += 4 + size
    return contents


async def wait_port(port: int, timeout_s: float = 30.0) -> float:
    """Wait until a port takes connections and give the seconds that it took."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    return timeout_s


async def wait_pids(site: ChaosSite, name: str) -> list[int]:
    """Wait until a role has processes and give their pids."""
    while not (pids := await asyncio.to_thread(site.find_pids, name)):  # noqa: ASYNC110 - /proc tells nobody
        await asyncio.sleep(0.02)
    return pids


async def wait_started(site: ChaosSite, event: str, times: int) -> None:
    """Wait until the log has so often that something has begun to work."""
    await wait_until_async(lambda: site.count_started(event) >= times, f"{times} times {event}", 240)
