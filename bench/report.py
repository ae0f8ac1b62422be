"""Medians over the rounds, the table, and the same as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cases import Case
from measurement import Measurement

NOISY_SHARE = 0.15
MEDIANS = ("rate", "submit_rate", "cpu_ms", "p50_ms", "p95_ms", "p99_ms", "generator_ms", "tools_ms")
MORE_MEDIANS = ("idle_share", "foreign_share")
HEADER = (
    f"{'':9}{'clients':>8}{'msgs/s':>9}{'spread':>8}{'CPU ms':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
    f"{'gen+sink':>10}{'idle':>7}{'foreign':>9}  notes"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One side of one case at one client count, over all rounds."""

    side: str
    clients: int
    medians: dict[str, float]
    spread: float
    messages: int
    verified: int
    connections_out: int
    problems: dict[str, int]
    cpu_by_process_ms: dict[str, float]

    @classmethod
    def summarise(cls, rounds: list[Measurement]) -> "Row":
        """Take the medians of each figure."""
        figures = {name: median(getattr(one, name) for one in rounds) for name in (*MEDIANS, *MORE_MEDIANS)}
        rates = [one.rate for one in rounds]
        problems: dict[str, int] = {}
        for one in rounds:
            for name, count in one.problems.items():
                problems[name] = problems.get(name, 0) + count
        return cls(
            side=rounds[0].side,
            clients=rounds[0].clients,
            medians=figures,
            spread=(max(rates) - min(rates)) / max(figures["rate"], 1e-9),
            messages=sum(one.messages for one in rounds),
            verified=sum(one.signatures_verified for one in rounds),
            connections_out=sum(one.connections_out for one in rounds),
            problems=problems,
            cpu_by_process_ms=_take_medians([one.cpu_by_process_ms for one in rounds]),
        )

    @property
    def is_noisy(self) -> bool:
        """Tell whether others used so much of the machine that rates and latencies say little."""
        return self.medians["foreign_share"] > NOISY_SHARE

    def format(self) -> str:
        """Write the line of the table."""
        figures = self.medians
        notes = [f"{name}: {count}" for name, count in self.problems.items()]
        notes += ["noisy"] if self.is_noisy else []
        shares = ", ".join(f"{name} {share:.2f}" for name, share in self.cpu_by_process_ms.items())
        return (
            f"{self.side:9}{self.clients:>8}{figures['rate']:>9.1f}{self.spread:>8.0%}{figures['cpu_ms']:>9.2f}"
            f"{figures['p50_ms']:>9.1f}{figures['p95_ms']:>9.1f}{figures['p99_ms']:>9.1f}"
            f"{figures['generator_ms'] + figures['tools_ms']:>10.2f}{figures['idle_share']:>7.0%}"
            f"{figures['foreign_share']:>9.0%}  {', '.join(notes)}\n"
            f"            CPU ms by process: {shares}"
        )


@dataclass(frozen=True, slots=True)
class CaseResult:
    """All rows of one case."""

    case: Case
    rows: tuple[Row, ...]

    def find(self, side: str, clients: int) -> Row | None:
        """Give the row of one side at one client count."""
        return next((row for row in self.rows if (row.side, row.clients) == (side, clients)), None)

    def format(self) -> str:
        """Write the block of the table: the rows, then the ratios."""
        lines = [f"-- {self.case.label}", *(row.format() for row in self.rows)]
        for number, pair in enumerate(dict.fromkeys(self.case.pairs)):
            lines += self._format_ratio(pair, "each at its own count" if number == 0 else "both at the same count")
        return "\n".join(lines)

    def _format_ratio(self, pair: tuple[int, int], meaning: str) -> list[str]:
        ratios = self.ratio(pair)
        if not ratios:
            return []
        names = {"rate": "the messages/s", "cpu_ms": "the CPU", "p50_ms": "p50", "p99_ms": "p99"}
        figures = ", ".join(f"{ratios[name]:.2f} x {text}" for name, text in names.items())
        rows = (self.find("postfix", pair[0]), self.find("ptt", pair[1]))
        warning = "; noisy: read the CPU only" if any(row and row.is_noisy for row in rows) else ""
        return [f"   ptt@{pair[1]} / postfix@{pair[0]} ({meaning}{warning}): {figures}"]

    def ratio(self, pair: tuple[int, int]) -> dict[str, float]:
        """Divide ptt's medians by Postfix's; empty when one of them was not run."""
        postfix, ptt = self.find("postfix", pair[0]), self.find("ptt", pair[1])
        if not postfix or not ptt:
            return {}
        names = ("rate", "cpu_ms", "p50_ms", "p95_ms", "p99_ms")
        return {name: ptt.medians[name] / max(postfix.medians[name], 1e-9) for name in names}

    def describe(self) -> dict[str, Any]:
        """Give everything, JSON-ready."""
        pairs = dict.fromkeys(self.case.pairs)
        ratios = [{"postfix": pair[0], "ptt": pair[1], **self.ratio(pair)} for pair in pairs]
        return {"case": self.case.label, "rows": [asdict(row) for row in self.rows], "ratios": ratios}


def _take_medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in rounds for name in one)
    medians = {name: median(one.get(name, 0.0) for one in rounds) for name in names}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))


def print_facts(title: str, facts: dict[str, str], say: Callable[[str], None] = print) -> None:
    """Print one block of conditions."""
    say(f"{title}:")
    for name, value in facts.items():
        say(f"  {name}: {value}")


def save(path: Path, result: dict[str, Any]) -> None:
    """Write the JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
