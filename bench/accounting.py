"""Processes of one side: starts them, counts the CPU of all of them, ends them and nothing else.

Best is a control group: the kernel itself charges every process of the group, also those that lived for a millisecond
between two readings (Postfix forks all the time). Version 1 has it in ``cpuacct.usage``, version 2 in ``cpu.stat``.
Where no group can be made (not root, read-only /sys/fs/cgroup) the figures of /proc/<pid>/stat are summed over the
process tree: ``utime + stime`` of the living and ``cutime + cstime``, what their reaped children had used. That is
exact as long as no process of the tree ignores SIGCHLD or leaves the tree, so nothing here is started as a daemon.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TERM_GRACE_S = 15.0
KILL_GRACE_S = 5.0


class Ledger(Protocol):
    """How the processes of one side are found and charged."""

    method: str

    def adopt(self) -> None:
        """Put the calling process into this side; runs in the child between fork and exec."""

    def cpu_s(self, roots: Sequence[int]) -> float:
        """Give the CPU seconds, user and system, of all processes that this side ever had."""

    def pids(self, roots: Sequence[int]) -> list[int]:
        """Give the processes of this side that live now."""

    def close(self) -> None:
        """Remove what was made for the accounting."""


@dataclass(slots=True)
class CgroupLedger:
    """A control group of our own, below the group that we run in."""

    folder: Path
    method: str

    def adopt(self) -> None:
        """Enter the group; children are born in it."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def cpu_s(self, roots: Sequence[int]) -> float:
        """Read what the kernel charged to the group."""
        del roots
        if (usage := self.folder / "cpuacct.usage").exists():
            return int(usage.read_text()) / 1e9
        fields = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return int(fields["usage_usec"]) / 1e6

    def pids(self, roots: Sequence[int]) -> list[int]:
        """Read the members of the group."""
        del roots
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def close(self) -> None:
        """Remove the group; the kernel refuses while it has members, and lets go of dead ones a little late."""
        for _ in range(50):
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.05)


@dataclass(slots=True)
class ProcLedger:
    """The process tree below the processes that were started, read from /proc."""

    method: str = "/proc/<pid>/stat over the process tree, with reaped children"

    def adopt(self) -> None:
        """Do nothing: the tree itself is the account."""

    def cpu_s(self, roots: Sequence[int]) -> float:
        """Sum user and system time of the living and of their reaped children."""
        stats = read_stats()
        return sum(sum(stats[pid].ticks) for pid in _descend(stats, roots)) / TICKS_PER_S

    def pids(self, roots: Sequence[int]) -> list[int]:
        """Walk the tree."""
        return _descend(read_stats(), roots)

    def close(self) -> None:
        """Do nothing: there is nothing to remove."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/<pid>/stat says about one process."""

    name: str
    parent: int
    ticks: tuple[int, int, int, int]

    @property
    def own_s(self) -> float:
        """CPU seconds of the process itself, without its children."""
        return sum(self.ticks[:2]) / TICKS_PER_S


def read_stats() -> dict[int, Stat]:
    """Read all processes of the machine."""
    stats = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended while we looked
            # The name in parentheses may itself hold blanks and parentheses: split after the last one.
            head, _, tail = (folder / "stat").read_text().rpartition(")")
            fields = tail.split()
            user, system, child_user, child_system = map(int, fields[11:15])
            stats[int(folder.name)] = Stat(
                head.partition("(")[2], int(fields[1]), (user, system, child_user, child_system)
            )
    return stats


def _descend(stats: dict[int, Stat], roots: Sequence[int]) -> list[int]:
    found = [pid for pid in roots if pid in stats]
    for pid in found:  # grows while it is walked
        found += [child for child, stat in stats.items() if stat.parent == pid]
    return found


def open_ledger(name: str) -> Ledger:
    """Make the best account that this machine allows."""
    for base, reading in _cgroup_bases():
        folder = base / f"ptt-bench-{os.getpid()}-{name}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / reading).exists():
                return CgroupLedger(folder, f"cgroup {reading}")
            folder.rmdir()
    return ProcLedger()


def _cgroup_bases() -> list[tuple[Path, str]]:
    """Give (folder of the group we run in, file to read) of each hierarchy that counts CPU, version 1 first."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    bases: list[tuple[Path, str]] = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options = line.split()[:4]
        if kind == "cgroup" and "cpuacct" in options.split(","):
            bases.insert(0, (Path(mount + own.get("cpuacct", "/")), "cpuacct.usage"))
        if kind == "cgroup2":
            bases.append((Path(mount + own.get("", "/")), "cpu.stat"))
    return bases


@dataclass(slots=True)
class ProcessGroup:
    """All processes of one side."""

    name: str
    ledger: Ledger
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, argv: Sequence[str | Path], log: Path, **popen: object) -> subprocess.Popen[bytes]:
        """Start one server of this side in the foreground, in a session of its own.

        Args:
            argv: program and arguments.
            log: file that takes stderr, and stdout unless ``popen`` says otherwise.
            popen: more arguments of `subprocess.Popen`.
        """
        with log.open("ab") as stream:
            streams: dict[str, IO[bytes] | int | object] = {"stdin": subprocess.DEVNULL, "stdout": stream}
            process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
                [str(part) for part in argv],
                stderr=stream,
                start_new_session=True,  # Postfix's master signals its whole process group
                preexec_fn=self.ledger.adopt,  # noqa: PLW1509 - we have one thread
                **(streams | popen),
            )
        self.started.append(process)
        return process

    @property
    def roots(self) -> list[int]:
        """The processes that we started ourselves."""
        return [process.pid for process in self.started]

    def cpu_s(self) -> float:
        """Give the CPU seconds of all processes of this side until now."""
        return self.ledger.cpu_s(self.roots)

    def check_alive(self) -> None:
        """Raise if a server that we started has ended."""
        for process in self.started:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name}: {process.args!r} ended with {process.returncode}")

    def end(self) -> None:
        """End the processes of this side: the ones we started first, with SIGTERM, then what is left, with SIGKILL."""
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + TERM_GRACE_S
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self._kill_rest()
        self.ledger.close()

    def _kill_rest(self) -> None:
        deadline = time.monotonic() + KILL_GRACE_S
        while (left := self.ledger.pids(self.roots)) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.started:
                process.poll()
            time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class MachineCpu:
    """Jiffies of the whole machine from /proc/stat."""

    busy_s: float
    at: float

    @classmethod
    def read(cls) -> "MachineCpu":
        """Read the counters now; stolen time counts as busy, waiting for the disk does not."""
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
        return cls((user + nice + system + irq + softirq + steal) / TICKS_PER_S, time.monotonic())
