"""What is recorded of one attempt at one destination, and what came of the record."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from ptt.core.address import Address


class Recorded(IntEnum):
    """What came of a record, by the numbers of record.lua."""

    BEFORE = -1
    """It was recorded before: the answer to it was lost."""
    OPEN = 1
    """The message waits for others, or for its next attempt."""
    DONE = 2
    """The whole message is done and forgotten."""
    BACKED_OFF = 3
    """It waits, and its destination backs off from now on."""
    DONE_BACKED_OFF = 4
    """Both: it was too old to be tried again."""


@dataclass(frozen=True, slots=True)
class Records:
    """What the sender is to be told, each a record as `ptt.core.dsn.format_reported` writes it."""

    delayed: Sequence[bytes] = ()
    """Dropped if the sender was told of the delay at this destination before."""
    final: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is to be recorded of one attempt: who is left, when to try again, and the history in JSON."""

    remaining: Sequence[Address]
    delay_s: float
    counts: bool
    """Whether it was an attempt by the retry schedule; False gives the message back unattempted."""
    history: bytes
    hold: str = ""
    """Why the rest is parked for a person instead of tried again."""
    number: int = 0
    """Which attempt it was, from 1; the following three tell the history about it."""
    duration_ms: int = 0
    reverse_path: str = ""
    why: str = ""
    """The newest reason why somebody is left, for the list of the queue."""
    is_late: bool = False
    """Whether it waits for so long that its sender is told, if that is wanted."""
    backoff_s: float | None = None
    """How long to leave the destination alone as none of its hosts could be reached; 0: one was; None: unknown."""
    is_step: bool = True
    """Whether that is a whole step of the back-off; else it was cut short, and the next is as long."""
    records: Records = Records()
