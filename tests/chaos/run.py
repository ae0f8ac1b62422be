"""`make chaos`: runs the experiments and prints their figures.

``python -m tests.chaos.run [--full] [--seed N] [--case NAME ...] [--rounds N]``; the figures can be overridden by
``--messages``, ``--rate`` and ``--faults``, settings by ``--set PTT_RELAY__CONNECTIONS_PER_HOST=1``. Exit code 1 if
anything did not hold.
"""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

from tests.chaos.cases import CASES
from tests.chaos.rig import Case, Result, run_case
from tests.chaos.site import Workshop


def main() -> int:
    """Run what was asked for and give the exit code."""
    options = _parse_arguments()
    seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    print(f"seed {seed}")
    results = []
    with Workshop.open() as workshop:
        for number in range(options.rounds):
            for case in _choose(options):
                result = asyncio.run(run_case(case, workshop, seed + number, is_full=options.full))
                print(format_result(result), flush=True)
                results.append(result)
    print(format_table(results))
    return int(not all(result.holds for result in results))


def format_result(result: Result) -> str:
    """Write one result in lines."""
    title = f"{result.case.name} {result.case.title}: {'holds' if result.holds else 'BROKEN'}"
    figures = ", ".join(f"{name} {value:g}" for name, value in asdict(result.figures).items())
    lines = [
        title,
        f"  seed {result.seed}, {result.load.rate:g}/s, {result.faults} faults, {result.elapsed_s:.0f} s",
        f"  {figures}",
        f"  {result.figures.doubled / max(1, result.faults):.2f} doubled for each fault",
        *(f"  {'pass' if one.holds else 'FAIL'} {one.name}: {one.detail}" for one in result.checks),
    ]
    if result.folder:
        lines.append(f"  logs and ledgers: {result.folder}")
    return "\n".join(lines)


def format_table(results: Sequence[Result]) -> str:
    """Write all results as a Markdown table."""
    rows = ["| case | seed | faults | accepted | delivered | lost | doubled | not listed | refused, delivered | left |"]
    rows.append("|---|---|---|---|---|---|---|---|---|---|")
    for result in results:
        f = result.figures
        cells = (result.case.name, result.seed, result.faults, f.accepted, f.delivered, f.lost, f.doubled)
        more = (f.unlisted, f.refused_delivered, f.left)
        rows.append("| " + " | ".join(str(cell) for cell in (*cells, *more)) + " |")
    return "\n".join(rows)


def _choose(options: argparse.Namespace) -> list[Case]:
    names = {case.name for case in CASES}
    if unknown := set(options.case) - names:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(case.name for case in CASES)}")
    changes = {name: getattr(options, name) for name in ("messages", "rate", "faults", "outage_s", "life_s")}
    changes = {name: value for name, value in changes.items() if value is not None}
    return [
        replace(
            case,
            small=replace(case.small, **changes),
            full=replace(case.full, **changes),
            relays=options.relays or case.relays,
            settings={**case.settings, **dict(_split_setting(one) for one in options.set)},
        )
        for case in CASES
        if not options.case or case.name in options.case
    ]


def _split_setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.startswith("PTT_"):
        sys.exit(f"--set wants PTT_NAME=VALUE, not {text!r}")
    return name, value


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--full", action="store_true", help="the full figures; hours, not minutes")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rounds", type=int, default=1, help="how often, each with the next seed")
    parser.add_argument("--case", action="append", default=[], metavar="NAME")
    parser.add_argument("--messages", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--faults", type=int)
    parser.add_argument("--outage-s", type=float)
    parser.add_argument("--life-s", type=float)
    parser.add_argument("--relays", type=int, help="relay processes")
    parser.add_argument("--set", action="append", default=[], metavar="PTT_NAME=VALUE", help="a setting of the site")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
