"""From what both ledgers, the event log and the spool say to figures and invariants; pure, so that it can be tested.

I1 nothing accepted is lost: it is delivered, or its sender is told; after the drain nothing is left. I2 nothing refused
is delivered. I3 each double is listed by our own log. I4 content arrives whole and signed. I5 one final state for each
recipient, one report of each failure. I6 nobody gets another's message. I8 it recovers without a person.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_RECOVERY_S = 60.0
"""I8: so long after the last repair the backlog may last."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One copy of a message that a destination has taken."""

    identity: str
    queue_id: str
    recipients: tuple[str, ...]
    sha256: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that one run left behind."""

    offers: Mapping[str, tuple[str, str]]
    """By id: recipient and SHA-256 of the body."""
    accepted: Mapping[str, str]
    """By id: the queue-id of the 250."""
    accepted_at: Mapping[str, float] = field(default_factory=dict)
    incomplete: frozenset[str] = frozenset()
    """Ids that were cut or refused before their final dot."""
    refused: frozenset[str] = frozenset()
    """Ids whose final dot was answered with another reply than 250."""
    withdrawn_late: frozenset[str] = frozenset()
    """Queue-ids that our log calls unsure: 451 was said because Redis did not answer in time."""
    arrivals: Sequence[Arrival] = ()
    refused_there: frozenset[str] = frozenset()
    """Ids whose recipient the destination refuses for good."""
    reports: Sequence[Arrival] = ()
    """Reports that arrived: the id is that of the message they tell of, the queue-id their own."""
    uncertain: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How often our log calls a queue-id and recipient uncertain."""
    final: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How often our log gives a final state to a queue-id and recipient."""
    left: frozenset[str] = frozenset()
    """Queue-ids in the spool after the drain."""
    parked: int = 0
    signatures_checked: int = 0
    signatures_bad: int = 0
    drained_s: float | None = None
    """From the last repair until everything accepted had arrived; None if it never did."""


@dataclass(frozen=True, slots=True)
class Check:
    """One statement and whether it held."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is counted in a run."""

    offered: int
    accepted: int
    delivered: int
    lost: int
    doubled: int
    """Copies beyond the first."""
    unlisted: int
    """Doubled copies that our log does not call uncertain."""
    refused_delivered: int
    refused_listed: int
    """Of these, how many our log calls unsure."""
    left: int
    parked: int
    reported: int
    """Messages whose sender was told of a failure."""
    slowest_s: float
    """The longest way from our 250 to the first arrival."""


def count(evidence: Evidence) -> Figures:
    """Count."""
    copies = Counter(arrival.identity for arrival in evidence.arrivals)
    told = {report.identity for report in evidence.reports}
    doubled = count_doubles(evidence)
    first: dict[str, float] = {}
    for arrival in evidence.arrivals:
        first[arrival.identity] = min(first.get(arrival.identity, arrival.at), arrival.at)
    settled = copies.keys() | (told & evidence.refused_there)
    lost = [i for i, queue_id in evidence.accepted.items() if i not in settled and queue_id not in evidence.left]
    forbidden = list_forbidden(evidence)
    return Figures(
        offered=len(evidence.offers),
        accepted=len(evidence.accepted),
        delivered=sum(1 for identity in evidence.accepted if copies[identity]),
        lost=len(lost),
        doubled=sum(doubled.values()),
        unlisted=sum(max(0, extra - evidence.uncertain.get(name, 0)) for name, extra in doubled.items()),
        refused_delivered=len(forbidden),
        refused_listed=sum(1 for arrival in forbidden if arrival.queue_id in evidence.withdrawn_late),
        left=len(evidence.left),
        parked=evidence.parked,
        reported=len(told),
        slowest_s=max((first[i] - at for i, at in evidence.accepted_at.items() if i in first), default=0.0),
    )


def count_doubles(evidence: Evidence) -> dict[tuple[str, str], int]:
    """Give, by queue-id and recipient, how many copies beyond the first arrived, of messages and of reports."""
    arrivals = [*evidence.arrivals, *evidence.reports]
    copies = Counter((arrival.queue_id, recipient) for arrival in arrivals for recipient in arrival.recipients)
    return {name: number - 1 for name, number in copies.items() if number > 1}


def list_forbidden(evidence: Evidence) -> list[Arrival]:
    """Give what was delivered although it was refused, or cut before its final dot."""
    never = evidence.incomplete | evidence.refused
    return list({arrival.identity: arrival for arrival in evidence.arrivals if arrival.identity in never}.values())


def check(evidence: Evidence, max_recovery_s: float = MAX_RECOVERY_S) -> list[Check]:
    """Check all invariants."""
    figures = count(evidence)
    damaged = [a.identity for a in evidence.arrivals if evidence.offers.get(a.identity, ("", ""))[1] != a.sha256]
    strayed = [a.identity for a in evidence.arrivals if a.recipients != (evidence.offers.get(a.identity, ("", ""))[0],)]
    renamed = [a.identity for a in evidence.arrivals if evidence.accepted.get(a.identity, a.queue_id) != a.queue_id]
    reports = Counter(identity for identity, _ in {(report.identity, report.queue_id) for report in evidence.reports})
    repeated = [identity for identity, number in reports.items() if number > 1]
    wrong = [identity for identity in reports if identity not in evidence.refused_there]
    taken = [a.identity for a in evidence.arrivals if a.identity in evidence.refused_there]
    many = [name for name, number in evidence.final.items() if number > 1]
    drained_s = evidence.drained_s
    in_time = drained_s is not None and drained_s <= max_recovery_s
    return [
        Check("I1", figures.lost == 0 and figures.left == 0, f"lost {figures.lost}, left {figures.left}"),
        Check(
            "I2",
            figures.refused_delivered == 0,
            f"refused and delivered {figures.refused_delivered}, of these unsure by our log {figures.refused_listed}",
        ),
        Check("I3", figures.unlisted == 0, f"doubled {figures.doubled}, not listed {figures.unlisted}"),
        Check(
            "I4",
            not damaged and not evidence.signatures_bad,
            f"damaged {damaged[:3]}, bad signatures {evidence.signatures_bad} of {evidence.signatures_checked}",
        ),
        Check(
            "I5",
            not (many or renamed or repeated or wrong or taken),
            f"two final states {many[:3]}, two queue-ids {renamed[:3]}, two reports {repeated[:3]}, "
            f"told of no failure {wrong[:3]}, refused and delivered {taken[:3]}",
        ),
        Check("I6", not strayed, f"to the wrong recipient {strayed[:3]}"),
        Check(
            "I8", in_time, "never drained" if drained_s is None else f"drained {drained_s:.1f} s after the last fault"
        ),
    ]
