"""Where the CPU of a side goes: by process for ptt, by program for Postfix.

Read from /proc/<pid>/stat of the processes that live before and after a run, in steps of 10 ms: good enough to see who
spends it. What the account of the side has beyond that (short-lived processes, rounding) is shown as ``other``.
"""

from collections.abc import Mapping

from accounting import ProcessGroup, Stat, read_stats


def read_own_cpu(group: ProcessGroup, names: Mapping[int, str]) -> dict[str, float]:
    """Sum the CPU seconds of the living processes by name.

    Args:
        group: whose processes.
        names: of some processes; their children go by the same name, all others by the name of their program.
    """
    stats = read_stats()
    sums: dict[str, float] = {}
    for pid in group.ledger.pids(group.roots):
        if pid in stats:
            name = _find_name(pid, stats, names)
            sums[name] = sums.get(name, 0.0) + stats[pid].own_s
    return sums


def _find_name(pid: int, stats: Mapping[int, Stat], names: Mapping[int, str]) -> str:
    ancestor = pid
    while ancestor in stats:
        if ancestor in names:
            return names[ancestor]
        ancestor = stats[ancestor].parent
    return stats[pid].name


def share_out(before: Mapping[str, float], after: Mapping[str, float], total_s: float, count: int) -> dict[str, float]:
    """Give CPU milliseconds per message by name, the largest first."""
    used = {name: max(0.0, after[name] - before.get(name, 0.0)) for name in after}
    used["other"] = max(0.0, total_s - sum(used.values()))
    shares = {name: seconds * 1e3 / max(count, 1) for name, seconds in used.items()}
    return dict(sorted(((name, share) for name, share in shares.items() if share >= 0.005), key=lambda item: -item[1]))
