"""What a sender may ask of the way that a message takes: TLS, release, deadline, priority; and how it is written down.

Instants are absolute, in seconds since 1970: they hold in each process on the way, whenever it looks. RFC 8689
(REQUIRETLS), RFC 4865 (FUTURERELEASE), RFC 2852 (DELIVERBY), RFC 6710 (MT-PRIORITY).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_PRIORITY = 9  # RFC 6710 section 4: -9 to 9


class TlsDemand(StrEnum):
    """Which TLS a message asks of each hop."""

    POLICY = ""
    """What the policy for the destination says."""
    REQUIRED = "required"
    """Verified TLS and REQUIRETLS at the next hop, or a report (RFC 8689 section 4.2.1)."""
    OPTIONAL = "optional"
    """Delivery even where the destination's policy asks for TLS: ``TLS-Required: No`` (RFC 8689 section 5)."""


class ByMode(StrEnum):
    """What happens to a message that missed its deadline (RFC 2852 section 4)."""

    RETURN = "R"
    NOTIFY = "N"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """By when a message is to be delivered."""

    at: int
    mode: ByMode
    is_traced: bool = False
    """Whether the sender wants to hear when the message leaves those who know the deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked; the default is nothing."""

    tls: TlsDemand = TlsDemand.POLICY
    release_at: int = 0
    """When the message may go out; 0: at once."""
    deadline: Deadline | None = None
    priority: int = 0
    """From -9 to 9; 9 is the most urgent."""

    @property
    def requires_tls(self) -> bool:
        """Tell whether the message must not go where TLS cannot be trusted."""
        return self.tls is TlsDemand.REQUIRED


NO_OPTIONS = Options()


def wants_trace(deadline: Deadline | None) -> bool:
    """Tell whether the sender hears of the way also where he did not ask for it by NOTIFY (RFC 2852 section 4)."""
    return deadline is not None and (deadline.mode is ByMode.NOTIFY or deadline.is_traced)


def describe_options(options: Options) -> Mapping[str, object]:
    """Give options in the plain types of JSON, without what was not asked."""
    deadline = options.deadline
    fields: dict[str, object] = {
        "tls": options.tls.value,
        "release_at": options.release_at,
        "deadline": deadline and [deadline.at, deadline.mode.value, deadline.is_traced],
        "priority": options.priority,
    }
    return {name: value for name, value in fields.items() if value}


def parse_options(fields: Mapping[str, object]) -> Options:
    """Read what `describe_options` gave.

    Raises:
        ValueError, TypeError: if it is not such a value.
    """
    deadline = fields.get("deadline")
    priority = _number(fields.get("priority", 0))
    if abs(priority) > MAX_PRIORITY:
        raise ValueError("priority out of range")
    return Options(
        tls=TlsDemand(str(fields.get("tls", ""))),
        release_at=_number(fields.get("release_at", 0)),
        deadline=None if deadline is None else _parse_deadline(deadline),
        priority=priority,
    )


def _parse_deadline(value: object) -> Deadline:
    if not isinstance(value, list):
        raise TypeError("list expected")
    at, mode, is_traced = value
    return Deadline(at=_number(at), mode=ByMode(mode), is_traced=is_traced is True)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("whole number expected")
    return value
