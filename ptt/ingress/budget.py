"""How much content all sessions of a process together may hold in memory."""

from types import TracebackType
from typing import Self


class Budget:
    """Octets of memory that are shared; a hundred clients with attachments must not call the OOM killer."""

    def __init__(self, limit_bytes: int) -> None:
        """Allow so many octets at once."""
        self.held_bytes = 0
        self.limit_bytes = limit_bytes

    def open_share(self) -> "Share":
        """Start with nothing; the share ends with its ``with`` block."""
        return Share(self)


class Share:
    """The part of one message."""

    __slots__ = ("_budget", "_held_bytes")

    def __init__(self, budget: Budget) -> None:
        """Hold nothing yet."""
        self._budget = budget
        self._held_bytes = 0

    def hold(self, size_bytes: int) -> bool:
        """Hold so many octets in all, unless that is too much for the budget: then nothing changes."""
        total = self._budget.held_bytes + size_bytes - self._held_bytes
        if total > self._budget.limit_bytes and size_bytes > self._held_bytes:
            return False
        self._budget.held_bytes = total
        self._held_bytes = size_bytes
        return True

    def close(self) -> None:
        """Give everything back."""
        self._budget.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def __enter__(self) -> Self:
        """Give the share."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give everything back."""
        self.close()
