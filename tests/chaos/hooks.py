"""The hooks in a process of the rig: each point of its role is wrapped, and the one that is due kills the process.

Started by ``tests/chaos/inject/sitecustomize.py`` in each Python process that has ``CHAOS_POINTS`` in its environment.
The plan is a file; what is done, a file for each step, so that all processes of a role, and those that come after
them, know where they are.
"""

import functools
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.points import POINTS, Point, find

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Step:
    """One kill of the plan."""

    role: str
    index: int
    name: str
    nth: int
    """At which call."""
    life_s: float
    """How long the process works first: one that only ever starts has nothing to lose."""

    def done(self, folder: Path) -> Path:
        """Give the file that says that it is done."""
        return folder / f"{self.role}.{self.index}"


@dataclass
class Hooks:
    """What one process knows of the plan."""

    folder: Path
    steps: Sequence[Step]
    points: Mapping[str, Point]
    calls: int = 0
    begins: dict[int, float] = field(default_factory=dict)
    """By pid, when it first took a step: the plan is inherited by forked children."""
    _at: int = 0

    def pass_by(self, point: Point) -> None:
        """Take note of one call, and die of it if it is the one."""
        began = self.begins.setdefault(os.getpid(), time.monotonic())
        step = self._find_step()
        if step is None or step.name != point.name or time.monotonic() - began < step.life_s:
            return
        if not self._is_triggered(point):
            return
        self.calls += 1
        if self.calls >= step.nth:
            self._die(step)

    def _find_step(self) -> Step | None:
        while self._at < len(self.steps) and self.steps[self._at].done(self.folder).exists():
            self._at += 1
            self.calls = 0
        return self.steps[self._at] if self._at < len(self.steps) else None

    def _is_triggered(self, point: Point) -> bool:
        return not point.trigger or (self.folder / point.trigger).exists()

    def _die(self, step: Step) -> None:
        try:
            os.close(os.open(step.done(self.folder), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return  # another process of the role was faster
        os.kill(os.getpid(), signal.SIGKILL)


def install(folder: Path) -> None:
    """Wrap the points of this process's role."""
    steps = read_plan(folder).get(find_role(sys.orig_argv), ())
    wanted = {step.name for step in steps}
    points = {point.name: point for point in POINTS if point.name in wanted}
    hooks = Hooks(folder, steps, points)
    for point in points.values():
        owner, name, function = find(point.place)
        setattr(owner, name, _wrap(function, point, hooks))


def find_role(argv: Sequence[str]) -> str:
    """Tell the role from the command line; empty for all other programs."""
    if "-Q" in argv:
        return argv[argv.index("-Q") + 1]
    return "ingress" if "ptt.workers.ingress" in argv else "up" if argv[-1] == "up" else ""


def read_plan(folder: Path) -> Mapping[str, Sequence[Step]]:
    """Read the plan, by role."""
    plan: dict[str, list[Step]] = {}
    for fields in json.loads((folder / PLAN).read_text()):
        step = Step(*fields)
        plan.setdefault(step.role, []).append(step)
    return plan


def _wrap(function: Callable[..., Any], point: Point, hooks: Hooks) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped_async(*arguments: Any, **keywords: Any) -> Any:
            counts = point.when(*arguments, **keywords)
            if counts and not point.after:
                hooks.pass_by(point)
            result = await function(*arguments, **keywords)
            if counts and point.after:
                hooks.pass_by(point)
            return result

        return wrapped_async

    @functools.wraps(function)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        counts = point.when(*arguments, **keywords)
        if counts and not point.after:
            hooks.pass_by(point)
        result = function(*arguments, **keywords)
        if counts and point.after:
            hooks.pass_by(point)
        return result

    return wrapped
