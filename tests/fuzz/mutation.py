"""Inputs for the test suite: changed seeds, the same for the same number. ``make fuzz`` has a better engine."""

import random
from collections.abc import Callable

from tests.fuzz.target import Target

_OCTETS = b'\x00\t\n\r "().,:;<=>@[\\]az09\x7f\x80\xc3\xa4\xff'
MAX_CHANGES = 4


class Mutator:
    """Makes inputs of a target out of its seeds."""

    def __init__(self, target: Target, seed: int) -> None:
        """Begin a series that follows from the seed."""
        self._target = target
        self._random = random.Random(f"{target.name} {seed}")
        self._changes: tuple[Callable[[bytes, int], bytes], ...] = (
            self._put_octet,
            self._put_word,
            self._drop,
            self._repeat,
            self._flip,
            self._splice,
        )

    def make(self) -> bytes:
        """Give the next input."""
        octets = self._random.choice(self._target.seeds)
        for _ in range(self._random.randint(1, MAX_CHANGES)):
            change = self._random.choice(self._changes)
            octets = change(octets, self._random.randint(0, len(octets)))
        return octets[: self._target.max_bytes]

    def _put_octet(self, octets: bytes, place: int) -> bytes:
        return octets[:place] + bytes([self._random.choice(_OCTETS)]) + octets[place:]

    def _put_word(self, octets: bytes, place: int) -> bytes:
        return octets[:place] + self._random.choice(self._target.words or (b"\r\n",)) + octets[place:]

    def _drop(self, octets: bytes, place: int) -> bytes:
        return octets[:place] + octets[place + self._random.randint(1, 8) :]

    def _repeat(self, octets: bytes, place: int) -> bytes:
        piece = octets[place : place + self._random.randint(1, 16)]
        return octets[:place] + piece * self._random.choice((2, 3, 20)) + octets[place:]

    def _flip(self, octets: bytes, place: int) -> bytes:
        return (
            octets[:place]
            + bytes(octet ^ self._random.randint(1, 255) for octet in octets[place : place + 1])
            + octets[place + 1 :]
        )

    def _splice(self, octets: bytes, place: int) -> bytes:
        other = self._random.choice(self._target.seeds)
        return octets[:place] + other[self._random.randint(0, len(other)) :]
