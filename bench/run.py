"""The benchmark: ptt's whole path and Postfix with OpenDKIM under the same load, in turn, in one run.

See README.md for the method. It asserts no times: it prints what it measured and under which conditions. It starts its
own servers on the loopback, ends those and nothing else, and removes its folder.
"""

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import micro
import postfix
from accounting import ProcessGroup, open_ledger
from cases import POSTFIX_KEPT, POSTFIX_NEW, PTT, Case, Plan, make_plan
from conditions import describe_machine
from measurement import Bench, Measurement
from postfix import PostfixSide
from ptt_side import PttSide
from report import HEADER, NOISY_SHARE, CaseResult, Row, print_facts, save
from rig import BenchError, Rig
from side import Side

ROOT = Path(__file__).parent.parent
IDLE_S = 2.0
SAMPLE = 20
TAIL_LINES = 5
MAX_REPEATS = 15  # a machine that is never quiet must not double the time


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_const", const="quick", dest="extent", help="about 90 s")
    extent.add_argument("--full", action="store_const", const="full", dest="extent", help="half an hour: all, 5 rounds")
    parser.set_defaults(extent="default")
    parser.add_argument("--only", choices=["postfix", "ptt"], help="measure one side")
    parser.add_argument("--tls", choices=["starttls", "implicit"], default="starttls", help="into both sides")
    parser.add_argument("--postfix-kept", type=int, default=POSTFIX_KEPT, help="clients of Postfix, kept connections")
    parser.add_argument("--postfix-new", type=int, default=POSTFIX_NEW, help="clients of Postfix, new connections")
    parser.add_argument("--ptt-clients", type=int, default=PTT, help="clients of ptt")
    parser.add_argument("--domains", type=int, default=1, help="destination domains")
    parser.add_argument("--rounds", type=int, help="instead of the plan's")
    parser.add_argument("--seconds", type=float, help="of load in one run, instead of the plan's")
    parser.add_argument("--cases", help='only those whose name has this in it, e.g. "10 KB" or "kept"')
    parser.add_argument("--postfix-set", action="append", default=[], metavar="NAME=VALUE", help="line for main.cf")
    parser.add_argument("--ptt-set", action="append", default=[], metavar="PTT_SECTION__KEY=VALUE", help="for ptt")
    parser.add_argument("--password-scheme", default="PLAIN", help="Dovecot's, e.g. ARGON2ID; ptt's is argon2id")
    parser.add_argument("--dir", type=Path, help="where queues and data go [the system's temporary folder]")
    parser.add_argument("--keep", action="store_true", help="do not remove the folder with logs and queues")
    parser.add_argument("--json", type=Path, help="result file [var/bench-<time>.json]")
    parser.add_argument("--no-micro", action="store_true", help="leave out the two measurements of the signer")
    parser.add_argument("--install", action="store_true", help="install the peer with apt-get if it is missing")
    return parser.parse_args()


def check_peer(options: argparse.Namespace) -> None:
    """Make sure that the peer can run, or say what to do and exit."""
    if options.only != "ptt" and (missing := postfix.find_missing()):
        if not options.install:
            sys.exit(f"missing: {', '.join(missing)}. Install with: {postfix.APT_COMMAND}")
        postfix.install()
    if options.only != "ptt" and not _is_root():
        sys.exit("Postfix's master must be started as root: run as root, or with --only ptt")


def _is_root() -> bool:
    return Path("/proc/self").stat().st_uid == 0


def build_sides(rig: Rig, options: argparse.Namespace) -> dict[str, Side]:
    """Prepare the sides that are wanted; nothing is started yet."""
    sides: dict[str, Side] = {}
    if options.only != "ptt":
        group = ProcessGroup("postfix", open_ledger("postfix"))
        lines = tuple(options.postfix_set)
        sides["postfix"] = PostfixSide(rig.place("postfix"), group, options.password_scheme, lines)
    if options.only != "postfix":
        group = ProcessGroup("ptt", open_ledger("ptt"))
        environment = dict(setting.split("=", 1) for setting in options.ptt_set)
        sides["ptt"] = PttSide(rig.place("ptt"), group, rig.tools, environment)
    return sides


def choose_plan(options: argparse.Namespace) -> Plan:
    """Apply the options to the plan."""
    clients = (options.postfix_kept, options.postfix_new, options.ptt_clients)
    plan = make_plan(options.extent, clients)
    cases = tuple(case for case in plan.cases if (options.cases or "") in case.label)
    if not cases:
        sys.exit(f"no case is named so; there are: {', '.join(case.label for case in plan.cases)}")
    rounds, seconds = options.rounds or plan.rounds, options.seconds or plan.seconds
    return Plan(cases, rounds, seconds, plan.warmup_s, repeat_noisy=plan.repeat_noisy)


@dataclass(slots=True)
class Runner:
    """Carries out a plan."""

    bench: Bench
    plan: Plan
    measurements: list[dict[str, Any]]
    repeats_left: int = MAX_REPEATS

    def warm_up(self) -> None:
        """Let each side start its processes and open its connections, off the record."""
        for side in self.bench.sides.values():
            self.bench.measure(side, Case(10_240, "kept", ()), 10, self.plan.warmup_s)

    def run_case(self, case: Case) -> CaseResult:
        """Measure one case: in each round every side and client count once, sides in turn."""
        runs = case.list_runs(tuple(self.bench.sides))
        rounds: dict[tuple[str, int], list[Measurement]] = {run: [] for run in runs}
        for _ in range(self.plan.rounds):
            for name, clients in runs:
                rounds[name, clients].append(self._measure(self.bench.sides[name], case, clients))
        return CaseResult(case, tuple(Row.summarise(rounds[run]) for run in runs))

    def _measure(self, side: Side, case: Case, clients: int) -> Measurement:
        """Measure once; when others used the machine too much, once more, and keep the cleaner one."""
        one = self._record(side, case, clients)
        if not self.plan.repeat_noisy or one.foreign_share <= NOISY_SHARE or not self.repeats_left:
            return one
        self.repeats_left -= 1
        return min(one, self._record(side, case, clients), key=lambda measured: measured.foreign_share)

    def _record(self, side: Side, case: Case, clients: int) -> Measurement:
        one = self.bench.measure(side, case, clients, self.plan.seconds)
        self.measurements.append({"case": case.label, **asdict(one)})
        return one


def measure_idle(sides: dict[str, Side]) -> dict[str, str]:
    """Tell what each side uses while nothing is to be done."""
    before, began = {name: side.group.cpu_s() for name, side in sides.items()}, time.monotonic()
    time.sleep(IDLE_S)
    elapsed_s = time.monotonic() - began
    return {
        name: f"{(side.group.cpu_s() - before[name]) / elapsed_s * 1e3:.1f} ms of CPU per second when idle"
        for name, side in sides.items()
    }


def run_all(rig: Rig, sides: dict[str, Side], options: argparse.Namespace) -> dict[str, Any]:
    """Run the plan and print as it goes."""
    plan = choose_plan(options)
    facts = {"machine": describe_machine(rig.folder)}
    for name, side in sides.items():
        side.start()
        facts[name] = {**side.describe(), "CPU counted by": side.group.ledger.method}
    runner = Runner(Bench(rig, sides, options.tls), plan, [])
    runner.warm_up()
    for name, idle in measure_idle(sides).items():
        facts[name]["idle"] = idle
    facts["load"] = {
        "TLS in": options.tls,
        "AUTH": "PLAIN",
        "rounds": f"{plan.rounds}, of {plan.seconds} s of submission each; medians",
        "destinations": f"{len(rig.domains)} domain(s), one MX, TLS",
    }
    for title, block in facts.items():
        print_facts(title, block)
    print("\n" + HEADER, flush=True)
    results = []
    for case in plan.cases:
        results.append(runner.run_case(case))
        print(results[-1].format(), flush=True)
    verified = sum(row.verified for result in results for row in result.rows)
    print(f"\nDKIM signatures verified with dkimpy, of all runs above: {verified}; any failure is in the notes.")
    measured = {"conditions": facts, "cases": [result.describe() for result in results]}
    return measured | {"measurements": runner.measurements}


def run_micro(options: argparse.Namespace) -> dict[str, float]:
    """Measure the signer alone."""
    figures = micro.run(*((1.0, 2) if options.extent == "quick" else (2.0, 5)))
    print("\nsigner, one core:")
    for name, value in figures.items():
        print(f"  {name}: {value:.2f}")
    return figures


def tail_logs(folder: Path) -> str:
    """Give the ends of all logs."""
    blocks = []
    for log in sorted(folder.rglob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        blocks.append("\n".join([f"== {log}", *lines]))
    return "\n".join(blocks)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave through all the finally clauses."""
    sys.exit(128 + number)


def main() -> None:
    """Run."""
    options = parse_options()
    check_peer(options)
    signal.signal(signal.SIGTERM, _stop)
    began = datetime.now(UTC)
    rig = Rig.build(options.dir, options.domains, SAMPLE)
    sides: dict[str, Side] = {}
    try:
        sides = build_sides(rig, options)
        result = run_all(rig, sides, options)
    except (BenchError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"bench: {error}\n{tail_logs(rig.folder)}\nwith --keep the folder with all logs stays")
    finally:
        for side in sides.values():
            side.stop()
        rig.close(keep=options.keep)
    if not options.no_micro and options.only != "postfix":
        result["signer"] = run_micro(options)
    path = options.json or ROOT / "var" / f"bench-{began:%Y%m%d-%H%M%S}.json"
    save(path, result)
    print(f"\nall figures: {path}; took {(datetime.now(UTC) - began).total_seconds():.0f} s")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # for ptt, where it is not installed
    main()
