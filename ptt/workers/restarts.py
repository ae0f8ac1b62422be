"""When a process that ended is started again: one of `ptt up`, or of the relay's pool."""

from dataclasses import dataclass

from ptt.core.errors import CONFIGURATION

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 10.0
"""A program that ends at once, for ever, must not take the processor from the others."""
MAX_READY_DELAY_S = 0.5
"""One that had begun to work is missed: its port is to be back within 2 s, also when it is killed again and again."""
STABLE_AFTER_S = 30.0
"""Who lived that long gets the first delay again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one life of a child ended; ``exit_code`` is negative for a signal, as in the subprocess module."""

    exit_code: int
    lived_s: float
    was_ready: bool
    """Whether it worked in this life."""
    had_worked: bool
    """Whether it worked in this or an earlier life."""


def decide_restart(ending: Ending, previous_delay_s: float) -> float | None:
    """Decide when to start again a child that ended on its own.

    Args:
        ending: how it ended.
        previous_delay_s: what was decided the last time, 0 for the first.

    Returns:
        Seconds to wait, or None if it refuses its settings and never worked with them: then everything has to stop.
    """
    if ending.exit_code == CONFIGURATION and not ending.had_worked:
        return None
    if ending.lived_s >= STABLE_AFTER_S or not previous_delay_s:
        return FIRST_DELAY_S
    return min(2 * previous_delay_s, MAX_READY_DELAY_S if ending.was_ready else MAX_DELAY_S)
