"""What is compared: sizes, connections kept or new, clients; and how long."""

from dataclasses import dataclass

KB = 1024
POSTFIX_KEPT = 10
POSTFIX_NEW = 50
PTT = 50


@dataclass(frozen=True, slots=True)
class Case:
    """One size and mode, and the client counts at which the sides are compared.

    Attributes:
        size: octets of one message.
        mode: ``kept`` or ``new``, see loadgen.py.
        pairs: (clients of Postfix, clients of ptt); the first pair is each side at its own good value.
    """

    size: int
    mode: str
    pairs: tuple[tuple[int, int], ...]

    @property
    def label(self) -> str:
        """Name the case for people."""
        size = f"{self.size // (KB * KB)} MB" if self.size >= KB * KB else f"{self.size // KB} KB"
        return f"{size} {self.mode}"

    def list_runs(self, sides: tuple[str, ...]) -> list[tuple[str, int]]:
        """Give each (side, clients) that the pairs need once, sides in turn."""
        runs = [run for pair in self.pairs for run in zip(("postfix", "ptt"), pair, strict=True)]
        return [run for run in dict.fromkeys(runs) if run[0] in sides]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole benchmark."""

    cases: tuple[Case, ...]
    rounds: int
    seconds: float
    warmup_s: float
    repeat_noisy: bool


def make_plan(extent: str, clients: tuple[int, int, int]) -> Plan:
    """Give the plan for ``quick`` (about 90 s), ``default`` (about 10 minutes) or ``full`` (about half an hour).

    Args:
        extent: one of the three names.
        clients: of Postfix with kept connections, of Postfix with new ones, of ptt with either.
    """
    kept_at, new_at, ptt_at = clients
    kept, new = ((kept_at, ptt_at),), ((new_at, ptt_at),)
    both_kept = (*kept, (kept_at, kept_at), (ptt_at, ptt_at))
    both_new = (*new, (kept_at, kept_at), (ptt_at, ptt_at))
    if extent == "quick":
        return Plan((Case(10 * KB, "kept", kept), Case(10 * KB, "new", new)), 2, 4, 2, repeat_noisy=False)
    if extent == "default":
        chosen = (
            Case(10 * KB, "kept", both_kept),
            Case(10 * KB, "new", both_new),
            Case(2 * KB, "kept", kept),
            Case(100 * KB, "kept", kept),
            Case(1024 * KB, "kept", kept),
        )
        return Plan(chosen, 3, 5, 3, repeat_noisy=True)
    sizes = (2 * KB, 10 * KB, 100 * KB, 1024 * KB)
    cases = tuple(Case(size, mode, pairs) for size in sizes for mode, pairs in (("kept", both_kept), ("new", both_new)))
    return Plan(cases, 5, 6, 3, repeat_noisy=True)
