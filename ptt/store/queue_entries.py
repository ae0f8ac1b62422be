"""What the queue says of one message at one destination: values, and how they are read from the message's hash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ptt.core.address import Address, Domain, ReversePath
from ptt.core.envelope import Envelope, QueueId, parse_envelope
from ptt.core.errors import MalformedInput
from ptt.core.notify import RecipientRequest
from ptt.store.entries import parse_recipients
from ptt.store.keys import REPORT, Fields, Stage

HOLD_REASON = b"its sender asked for this time (FUTURERELEASE)"


class State(StrEnum):
    """Where a message is at one destination."""

    QUEUED = "queued"
    """Due: the next free worker takes it."""
    SIGNING = "signing"
    WAITING = "waiting"
    """Until a time."""
    DELIVERING = "delivering"
    HELD = "held"
    """Set aside by a person, or by the policy for uncertain outcomes."""
    PARKED = "parked"
    """Set aside by ptt: its seal is wrong, or its workers died."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One entry of a queue, or of the list of what is set aside."""

    queue_id: QueueId
    stage: Stage
    at_ms: int
    """When to look, or since when it is set aside."""
    is_set_aside: bool


BACKOFF_FIELDS = ("until", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A destination of which no host could be reached."""

    until_ms: int
    """When one message finds out if that has changed."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """One message at one destination, as a person wants to know it."""

    queue_id: QueueId
    stage: Stage
    state: State
    accepted_ms: int
    size_bytes: int
    reverse_path: ReversePath
    recipients: tuple[Address, ...]
    """Who is left."""
    attempts: int
    until_ms: int | None
    """When it is looked at next; in the hands of a worker: when its lease ends; set aside: None."""
    since_ms: int | None
    """Since when it is set aside."""
    reason: str
    """Why it is set aside or waits; else the newest reason why somebody is left."""
    is_hold_wanted: bool
    """Whether it is held as soon as its worker gives it back."""
    requests: Mapping[Address, RecipientRequest] = field(default_factory=dict)
    """What was asked of reports on recipients."""

    @property
    def is_collecting(self) -> bool:
        """Tell whether it is a report that nobody has tried to make yet: outcomes are collected for a moment."""
        return self.stage == REPORT and self.state is State.WAITING and not self.reason


MESSAGE_FIELDS = ("envelope", "size", "accepted")
"""What `parse_entry` reads of the message, in its order."""


def list_fields(stage: Stage) -> tuple[str, ...]:
    """Name the fields that `parse_entry` reads of the state, in its order."""
    names = Fields(stage)
    state = (names.owner, names.reason, names.held, names.wanted, names.newest)
    return (names.recipients, names.attempts, *state)


def parse_backoff(values: Sequence[bytes | None]) -> Backoff | None:
    """Read what `BACKOFF_FIELDS` names; None if the destination does not back off."""
    until, reason = values
    return Backoff(until_ms=int(until), reason=(reason or b"").decode(errors="replace")) if until else None


def wait_for(entry: QueueEntry, backoff: Backoff, now_ms: int) -> QueueEntry:
    """Say of an entry that its destination backs off, if that is what it waits for."""
    waits = entry.state in {State.QUEUED, State.WAITING} and backoff.until_ms > max(now_ms, entry.until_ms or 0)
    if not waits:
        return entry
    return replace(entry, state=State.WAITING, until_ms=backoff.until_ms, reason=entry.reason or backoff.reason)


def parse_entry(place: Place, values: Sequence[bytes | None], now_ms: int) -> QueueEntry | None:
    """Read one entry.

    Args:
        place: where it was found.
        values: what `MESSAGE_FIELDS` and `list_fields` name.
        now_ms: the time by the clock of Redis.

    Returns:
        The entry; None if it is not there any more.
    """
    envelope_json, size, accepted, recipients, attempts, owner, reason, held, wanted, newest = values
    if envelope_json is None or (place.stage not in {"", REPORT} and recipients is None):
        return None
    envelope = _parse_envelope(envelope_json)
    state = _decide_state(place, now_ms, is_owned=owner is not None, is_held=held is not None)
    return QueueEntry(
        queue_id=place.queue_id,
        stage=place.stage,
        state=state,
        accepted_ms=int(accepted or 0),
        size_bytes=int(size or 0),
        reverse_path=envelope.reverse_path if envelope else None,
        recipients=_read_recipients(place.stage, recipients, envelope),
        attempts=int(attempts or 0),
        until_ms=None if place.is_set_aside or state is State.QUEUED else place.at_ms,
        since_ms=place.at_ms if place.is_set_aside else None,
        reason=(reason or wanted or newest or _explain_hold(place, envelope)).decode(errors="replace"),
        is_hold_wanted=wanted is not None,
        requests=envelope.requests if envelope else {},
    )


def _decide_state(place: Place, now_ms: int, *, is_owned: bool, is_held: bool) -> State:
    if place.is_set_aside:
        return State.HELD if is_held else State.PARKED
    if place.at_ms <= now_ms:
        return State.QUEUED
    if is_owned:
        return State.SIGNING if place.stage in {"", REPORT} else State.DELIVERING
    return State.WAITING


def _explain_hold(place: Place, envelope: Envelope | None) -> bytes:
    # Only the time before signing can be a hold: it is the first place of a message, and the hold its first score.
    is_held = not place.stage and envelope is not None and envelope.options.release_at * 1000 == place.at_ms
    return HOLD_REASON if is_held else b""


def _parse_envelope(envelope_json: bytes) -> Envelope | None:
    # What is parked may be parked because nobody can read it: it must be listed all the same.
    try:
        return parse_envelope(envelope_json)
    except MalformedInput:
        return None


def _read_recipients(stage: Stage, recipients: bytes | None, envelope: Envelope | None) -> tuple[Address, ...]:
    if stage == REPORT:
        return (envelope.reverse_path,) if envelope and envelope.reverse_path else ()
    if stage and recipients is not None:
        return parse_recipients(recipients, Domain(stage))
    return envelope.recipients if envelope else ()
