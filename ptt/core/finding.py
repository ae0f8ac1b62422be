"""What a check found: the result of each part of ``ptt key check`` and ``ptt doctor``."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a thing that was checked is."""

    OK = "ok"
    PROBLEM = "problem"
    UNKNOWN = "unknown"
    """It could not be asked: that is not taken for fine."""
    SKIPPED = "skipped"
    """It is not used here, or nobody asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result."""

    check: str
    """Name of the check, ``thing.property``."""
    subject: str
    """Which of several things."""
    health: Health
    detail: str
    advice: str = ""
    """What to do, or the exact text to paste."""
