"""CPU time of a piece of work, for tests of what it grows with; no figure here is a promise of speed."""

import time
from collections.abc import Callable


def measure_cpu_s(work: Callable[[], object], times: int = 3) -> float:
    """Give the least seconds of CPU that some work took: a collection of garbage does not hit it every time."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)
