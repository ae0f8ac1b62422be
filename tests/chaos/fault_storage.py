"""Faults of Redis itself: stalled, out of disk, and started again with a long queue."""

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.chaos.faults import hear_refusal, note_outages
from tests.chaos.ledger import read_lines
from tests.chaos.rig import Load, Run
from tests.chaos.site import ChaosSite
from tests.waiting import wait_until_async

DISK = "96m"
"""Size of the disk that runs full: enough for what a run writes, little enough to fill it in a moment."""
MAX_RECOVERY_S = 30.0
"""B11: so soon after there is room again mail must be taken."""
MAX_FIRST_S = 10.0
"""B6: so soon after a start with a long queue the first message must arrive."""


def put_on_small_disk(site: ChaosSite, _load: Load, _choice: random.Random) -> None:
    """Let the folder of the embedded server be a small disk of its own, which only the processes of the site see."""
    folder = site.folder / "valkey"
    folder.mkdir(mode=0o700)
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
    mount = f'mount -t tmpfs -o size={DISK},mode=700 none "$0" && exec "$@"'
    site.prefix = ("unshare", *namespace, "sh", "-c", mount, str(folder))


async def fill_disk(run: Run) -> None:
    """Fill the disk of Redis, and make room again after a while."""
    site = run.site
    outages, slowest_s = [], 0.0
    async for _ in run.moments():
        ends = _count_ends(site)
        began = time.monotonic()
        ballast = site.valkey_folder / "ballast"
        await asyncio.to_thread(_fill, ballast)
        await wait_until_async(lambda ends=ends: _count_ends(site) > ends, "Redis ends", 120)  # type: ignore[misc]
        ended = time.monotonic()
        await asyncio.sleep(run.load.outage_s)
        await hear_refusal(run, ended)
        outages.append((ended, time.monotonic()))
        ballast.unlink()
        freed = time.monotonic()
        await wait_until_async(
            lambda freed=freed: _is_taken_after(run, freed),  # type: ignore[misc]
            "mail is taken again",
            60 * run.patience,
        )
        slowest_s = max(slowest_s, time.monotonic() - freed)
        await asyncio.sleep(run.load.life_s)
        run.note("full", f"Redis ended {ended - began:.1f} s after the disk was full", holds=True)
    note_outages(run, outages)
    run.note(
        "room", f"mail was taken {slowest_s:.1f} s after at most", holds=slowest_s <= MAX_RECOVERY_S * run.patience
    )


async def stall_redis(run: Run) -> None:
    """Freeze Redis for a while: it answers nothing, and then everything."""
    server = run.site.redis_server
    assert server is not None
    assert server.process is not None
    outages = []
    async for _ in run.moments():
        server.process.send_signal(signal.SIGSTOP)
        await wait_until_async(partial(_is_frozen, server.process.pid), "Redis is frozen")
        began = time.monotonic()
        await asyncio.sleep(run.load.outage_s)
        await hear_refusal(run, began)
        outages.append((began, time.monotonic()))
        server.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(2)
    note_outages(run, outages)


async def start_with_backlog(run: Run) -> None:
    """Let mail pile up before a destination that is away, kill everything, and start again with all of it queued."""
    site = run.site
    assert site.sink is not None
    site.sink.kill()
    await asyncio.to_thread(site.sink.wait)
    count = run.load.messages
    await wait_until_async(
        lambda: len(run.sender.accepted) >= count, "all is accepted", 240 + 2 * count / run.load.rate
    )
    await asyncio.to_thread(site.kill_tree)
    queued = len(run.sender.accepted)
    began = time.monotonic()
    await asyncio.to_thread(site.start_sink)
    await asyncio.to_thread(site.start)
    ready_s = time.monotonic() - began
    arrived = site.folder / "arrived.ledger"
    await wait_until_async(lambda: next(read_lines(arrived), None), "a first arrival", 60 * run.patience)
    first_s = time.monotonic() - began
    run.faults += 1
    run.mark_fault()
    detail = f"{queued} queued: ready {ready_s:.1f} s, first delivery {first_s:.1f} s after the start"
    run.note("first", detail, holds=first_s <= MAX_FIRST_S * run.patience)


def _fill(path: Path) -> None:
    piece = bytes(65_536)
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(piece) == len(piece):
            pass


def _is_frozen(pid: int) -> bool:
    # proc(5): the state comes first after the name in parentheses.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")


def _count_ends(site: ChaosSite) -> int:
    return sum(1 for event in site.list_events() if event["event"] == "process.exited" and event["process"] == "valkey")


def _is_taken_after(run: Run, moment: float) -> bool:
    return any(answer.at > moment and answer.text.startswith("250") for answer in run.sender.answers[-50:])
