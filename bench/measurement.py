"""One measurement: a run of the load generator against one side, the CPU around it, and the check of what arrived."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dkim
from accounting import MachineCpu
from breakdown import read_own_cpu, share_out
from cases import Case
from corpus import expect_hash
from rig import LOGIN, PASSWORD, BenchError, Rig
from side import Side

LOADGEN = Path(__file__).with_name("loadgen.py")
STALL_TIMEOUT_S = 15.0  # both sides try again after minutes only what the destination did not take at once
DRAIN_TIMEOUT_S = 10.0
SETTLE_S = 0.2
POLL_S = 0.02
WANTED_TAGS = (b"a=rsa-sha256;", b"c=relaxed/relaxed;", b"d=%s;" % LOGIN.partition("@")[2].encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run of one side.

    Attributes:
        rate: messages/s from the start to the last arrival at the sink.
        submit_rate: messages/s from the start to the last 250 of the side.
        cpu_ms: of all processes of the side, user and system, per message.
        p50_ms: how long half of the clients waited at most for the final 250.
        generator_ms: CPU of the load generator per message.
        tools_ms: CPU of sink and name server per message.
        foreign_share: of the machine's CPU: what belongs to neither side, nor to the rig.
        problems: counts of what must not be; empty when all is well.
        cpu_by_process_ms: see breakdown.py.
    """

    side: str
    clients: int
    messages: int
    rate: float
    submit_rate: float
    cpu_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    generator_ms: float
    tools_ms: float
    idle_share: float
    foreign_share: float
    connections_out: int
    signatures_verified: int
    problems: dict[str, int] = field(default_factory=dict)
    cpu_by_process_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counters:
    """All CPU counters at one instant, in seconds."""

    machine: MachineCpu
    sides: dict[str, float]
    tools_s: float
    runner_s: float

    @classmethod
    def read(cls, rig: Rig, sides: Mapping[str, Side]) -> "Counters":
        """Read them now."""
        own = os.times()
        used = {name: side.group.cpu_s() for name, side in sides.items()}
        return cls(MachineCpu.read(), used, rig.tools.cpu_s(), own.user + own.system)

    def __sub__(self, before: "Counters") -> "Counters":
        """Give what was used since."""
        machine = MachineCpu(self.machine.busy_s - before.machine.busy_s, self.machine.at - before.machine.at)
        sides = {name: used - before.sides[name] for name, used in self.sides.items()}
        return Counters(machine, sides, self.tools_s - before.tools_s, self.runner_s - before.runner_s)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came of the messages of one run."""

    last_at: float
    drained: bool
    taken: dict[str, Any]


@dataclass(slots=True)
class Bench:
    """Runs the load against one side at a time."""

    rig: Rig
    sides: dict[str, Side]
    tls: str
    runs: int = 0

    def measure(self, side: Side, case: Case, clients: int, seconds: float) -> Measurement:
        """Put the load of one case on one side and wait until all of it has arrived."""
        self.runs += 1
        run = f"r{self.runs}"
        self.rig.sink.ask(do="reset", run=run)
        generator = self._start_generator(side, case, clients, ["--run", run, "--seconds", str(seconds)])
        time.sleep(SETTLE_S)
        names = side.get_process_names()
        own, before = read_own_cpu(side.group, names), Counters.read(self.rig, self.sides)
        load = json.loads(generator.communicate(b"go\n")[0])
        last_at = self._await_arrival(side, len(load["accepted"]))
        drained = self._await_empty(side)
        used = Counters.read(self.rig, self.sides) - before
        by_process = share_out(own, read_own_cpu(side.group, names), used.sides[side.name], len(load["accepted"]))
        arrivals = Arrivals(last_at, drained, self.rig.sink.ask(do="take"))
        figures = calculate(side.name, load, last_at, used)
        return Measurement(
            side=side.name,
            clients=clients,
            **figures,
            **check(side, case.size, load, arrivals),
            cpu_by_process_ms=by_process,
        )

    def _start_generator(self, side: Side, case: Case, clients: int, options: list[str]) -> subprocess.Popen[bytes]:
        """Start the generator and wait until its clients are connected."""
        place = ["--port", str(side.port(self.tls)), "--tls", self.tls, "--mode", case.mode, "--clients", str(clients)]
        who = ["--login", LOGIN, "--password", PASSWORD, "--sender", LOGIN, "--domains", *self.rig.domains]
        argv: list[str | Path] = [sys.executable, LOADGEN, *place, "--size", str(case.size), *who, *options]
        with (self.rig.folder / "loadgen.log").open("ab") as log:
            generator = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert generator.stdout
        if not generator.stdout.readline():
            generator.wait()
            raise BenchError(f"the load generator could not log in to {side.name}")
        return generator

    def _await_arrival(self, side: Side, count: int) -> float:
        """Wait until all that was accepted is at the sink; give the instant of the last arrival."""
        arrived, last_at, moved_at = -1, 0.0, time.monotonic()
        while arrived < count and time.monotonic() - moved_at < STALL_TIMEOUT_S:
            time.sleep(POLL_S)
            side.group.check_alive()
            status = self.rig.sink.ask(do="status")
            if status["count"] > arrived:
                arrived, last_at, moved_at = status["count"], status["last_at"], time.monotonic()
        return last_at

    def _await_empty(self, side: Side) -> bool:
        """Wait until the side has forgotten the messages: that is part of its work."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while not (drained := side.is_drained()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return drained


def calculate(side: str, load: dict[str, Any], last_at: float, used: Counters) -> dict[str, Any]:
    """Turn counters into figures per second and per message."""
    count = len(load["accepted"])
    per_message = 1e3 / max(count, 1)
    capacity_s = used.machine.at * (os.cpu_count() or 1)
    known_s = sum(used.sides.values()) + used.tools_s + used.runner_s + load["cpu_s"]
    return {
        "messages": count,
        "rate": count / max(last_at - load["started_at"], 1e-9),
        "submit_rate": count / max(load["last_accepted_at"] - load["started_at"], 1e-9),
        "cpu_ms": used.sides[side] * per_message,
        **{f"{name}_ms": value for name, value in load["latency_ms"].items()},
        "generator_ms": load["cpu_s"] * per_message,
        "tools_ms": used.tools_s * per_message,
        "idle_share": max(0.0, 1 - used.machine.busy_s / capacity_s),
        "foreign_share": max(0.0, used.machine.busy_s - known_s) / capacity_s,
    }


def check(side: Side, size: int, load: dict[str, Any], arrivals: Arrivals) -> dict[str, Any]:
    """Compare what arrived with what was accepted, and verify the sample's signatures."""
    taken = arrivals.taken
    hashes: dict[str, str] = taken["hashes"]
    verified = count_verified(side, [base64.b64decode(content) for content in taken["sample"]])
    problems = {
        "refused": sum(load["errors"].values()),
        "lost": len(set(load["accepted"]) - set(hashes)),
        "duplicates": len(taken["duplicates"]),
        "altered": sum(digest != expect_hash(name, size) for name, digest in hashes.items()),
        "strays": taken["strays"],
        "in clear": taken["in_clear"],
        "left in queue": int(not arrivals.drained),
        "not signed": len(taken["sample"]) - verified,
    }
    return {
        "connections_out": taken["connections"],
        "signatures_verified": verified,
        "problems": {name: number for name, number in problems.items() if number},
    }


def count_verified(side: Side, contents: list[bytes]) -> int:
    """Verify DKIM signatures with dkimpy and the key that the side published."""

    def look_up(name: bytes, timeout: float = 5) -> bytes | None:
        del timeout
        return side.get_public_key(name.decode())

    return sum(_has_wanted_tags(content) and dkim.verify(content, dnsfunc=look_up) for content in contents)


def _has_wanted_tags(content: bytes) -> bool:
    header = b"".join(content.partition(b"\r\n\r\n")[0].split())
    return all(tag in header for tag in WANTED_TAGS)
