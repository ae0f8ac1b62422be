"""Memory that a piece of work takes in Python objects."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Measure = Callable[[], tuple[int, int]]
"""Gives the octets that are held now and the most so far, of what was allocated since tracing began."""


@contextmanager
def tracing_memory() -> Iterator[Measure]:
    """Trace what is allocated, and no longer than that: also if the test fails, for all that follows is slower."""
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()
