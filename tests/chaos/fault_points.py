"""B5: kills at every named step of a message's life, in the order of a plan that the seed shuffles."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

from tests.chaos.faults import INGRESS, RELAY, SIGN
from tests.chaos.hooks import PLAN, Step, read_plan
from tests.chaos.points import POINTS, ROLES, Point, find
from tests.chaos.rig import Load, Run
from tests.chaos.sender import Mail
from tests.chaos.site import ROOT, ChaosSite
from tests.e2e.site import DESTINATIONS

MAX_NTH = 3
"""The call at which a process dies is the first, second or third."""
MAX_STUCK_S = 45.0
"""A step that is not taken for so long is never reached: its point is at a wrong place."""
UNLUCKY = "each worker that claimed it died"
"""Why good mail may be parked here; there is no other reason."""
_HANGUP_EVERY_S = 2.0
_WORK_S = 1.5
"""So long a site works before it is stopped, so that there is something in hand."""
_COMMANDS = {"ingress": INGRESS, "sign": SIGN, "relay": RELAY}
_FOLDER = "points"


def plan_kills(site: ChaosSite, load: Load, choice: random.Random) -> None:
    """Write the plan, each point as often as the load says, and let the processes of the site follow it."""
    for point in POINTS:
        find(point.place)
    folder = site.folder / _FOLDER
    folder.mkdir()
    steps = [step for role in ROLES for step in _plan_role(role, load, choice)]
    (folder / PLAN).write_text(json.dumps([astuple(step) for step in steps]))
    hook(site, CHAOS_POINTS=str(folder))


def hook(site: ChaosSite, **variables: str) -> None:
    """Let the processes of the site begin with ``inject/sitecustomize.py`` and these variables."""
    paths = [str(Path(__file__).parent / "inject"), str(ROOT)]
    site.settings |= {"PYTHONPATH": os.pathsep.join(paths), **variables}


def choose_mail(load: Load, number: int) -> Mail:
    """Mix mail that is taken, put off and refused, and some that is large."""
    fate = {3: "later-", 7: "never-"}.get(number % 10, "")
    size_bytes = 300_000 if number % 25 == 0 else load.size_bytes
    return Mail(domain=DESTINATIONS[number % 2], size_bytes=size_bytes, fate=fate)


async def kill_at_points(run: Run) -> None:
    """Do what the plan needs until each of its steps is taken."""
    folder = run.site.folder / _FOLDER
    plan = read_plan(folder)
    steps = [step for of_role in plan.values() for step in of_role]
    triggers = {point.name: point.trigger for point in POINTS}
    began = moved = time.monotonic()
    while left := [step for step in steps if not step.done(folder).exists()]:
        if len(steps) - len(left) > run.faults:
            run.faults, moved = len(steps) - len(left), time.monotonic()
            run.mark_fault()
        if time.monotonic() - moved > MAX_STUCK_S * run.patience:
            break
        firsts = {step.role: step for step in reversed(left)}
        await _trigger(run.site, folder, {role: triggers[step.name] for role, step in firsts.items()})
        if run.site.process is not None and run.site.process.poll() is not None:
            await asyncio.to_thread(_start_again, run.site)
        await asyncio.sleep(0.2)
    run.faults = len(steps) - len(left)
    run.mark_fault()
    missed = sorted({step.name for step in left})
    detail = f"{run.faults} kills at {len(triggers)} points in {time.monotonic() - began:.0f} s"
    run.note("every point is reached", f"{detail}, not reached: {missed}", holds=not left)


def release_unlucky(run: Run) -> None:
    """Release what is parked: with a kill each second, good mail too may be in the hands of three that are killed."""
    if not run.site.list_left()[1]:
        return
    listing = json.loads(run.site.ptt("queue", "list", "--state", "parked", "-o", "json").stdout)
    for entry in listing["entries"]:
        told = f"{entry['queue_id']}: {entry['reason']}"
        run.note("parked and released", told, holds=entry["reason"] == UNLUCKY)
        run.site.ptt("queue", "release", entry["queue_id"])
        run.mark_fault()


def _plan_role(role: str, load: Load, choice: random.Random) -> Sequence[Step]:
    points = [point for point in POINTS if point.role == role]
    order: list[Point] = []
    # First what restarts Redis: for half a minute after it, no lease is taken over.
    for trigger in ("stop", "start", "hangup", ""):
        for _ in range(load.faults):
            some = [point for point in points if point.trigger == trigger]
            choice.shuffle(some)
            order += some
    return [
        Step(
            role,
            index,
            point.name,
            1 if point.trigger or point.is_early or role == "up" else choice.randint(1, MAX_NTH),
            0 if point.trigger or point.is_early else load.life_s,
        )
        for index, point in enumerate(order)
    ]


async def _trigger(site: ChaosSite, folder: Path, due: Mapping[str, str]) -> None:
    """Do what the next steps wait for."""
    if "hangup" in due.values():
        (folder / "hangup").touch()
        for role in (role for role, trigger in due.items() if trigger == "hangup"):
            for pid in site.find_pids(_COMMANDS[role])[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGHUP)
        await asyncio.sleep(_HANGUP_EVERY_S)
    if "stop" in due.values():
        (folder / "stop").touch()
        await asyncio.sleep(_WORK_S)
        await asyncio.to_thread(site.stop)
    elif "start" in due.values():
        (folder / "start").touch()
        await asyncio.to_thread(site.stop)


def _start_again(site: ChaosSite) -> None:
    """Start a site whose supervisor may be killed while it starts."""
    for _ in range(10):
        site.starts = site.count_ready()
        with suppress(AssertionError):
            site.start()
            return
        assert site.process is not None
        assert site.process.poll() is not None, "ptt up does not become ready"
    raise AssertionError("ptt up does not start")
