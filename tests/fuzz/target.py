"""What a fuzz target is: octets in, and an exception out when a rule does not hold."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing to throw octets at."""

    name: str
    check: Callable[[bytes], None]
    """Raises whatever it likes if a rule does not hold; its docstring states the rules."""
    seeds: tuple[bytes, ...]
    """Inputs to begin with; the first octets often choose between cases."""
    words: tuple[bytes, ...] = ()
    """What inputs are often made of."""
    max_bytes: int = 400
    suite_executions: int = 15_000
    """How many inputs the test suite tries: a second or two."""


def split_choice(octets: bytes) -> tuple[int, bytes]:
    """Take the first octet, which chooses between cases, off an input."""
    return (octets[0], octets[1:]) if octets else (0, b"")


def cut(octets: bytes, choice: int) -> list[bytes]:
    """Cut octets into segments, in a way that the choice decides: as they are, one by one, or at irregular places."""
    if choice == 0 or not octets:
        return [octets]
    pieces: list[bytes] = []
    start, state = 0, choice
    while start < len(octets):
        # A linear congruence gives lengths from 1 to 8 that follow from the choice alone.
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        length = 1 if choice == 1 else 1 + (state >> 16) % 8
        pieces.append(octets[start : start + length])
        start += length
    return pieces
