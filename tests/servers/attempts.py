"""An attempt to log in that nobody limits, and that keeps what was said about it."""

import hashlib
from dataclasses import dataclass, field

from ptt.core.errors import Refused
from ptt.core.guessing import Trust


@dataclass
class FreeAttempt:
    """Implements `ptt.core.ports.Attempt`; ``refusal`` is raised when it is asked."""

    login: str = "alice"
    trust: Trust = Trust.FRESH
    refusal: Refused | None = None
    settled: list[bool] = field(default_factory=list)
    asked: int = 0

    @property
    def seed(self) -> bytes:
        """Give octets that depend on the login."""
        return hashlib.sha256(self.login.encode()).digest()

    async def ask(self) -> Trust:
        """Give leave, or not."""
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return self.trust

    def settle(self, *, is_good: bool) -> None:
        """Take note."""
        self.settled.append(is_good)
