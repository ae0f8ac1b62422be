"""How the queue and its history look: lines for people, plain types for JSON.

Nothing that came from outside may move the cursor: control characters are replaced.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from ptt.core.options import ByMode, Options
from ptt.store.event_log import Event, RecipientOutcome
from ptt.store.keys import REPORT, Stage
from ptt.store.queue_entries import QueueEntry, State
from ptt.store.queue_view import Message

COLUMNS = ("QUEUE-ID", "AGE", "SIZE", "FROM", "LEFT", "DESTINATION", "STATE", "REASON")
_REPORT_WORDS = "report to the sender"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


def clean(text: str) -> str:
    """Replace what a terminal could obey."""
    return _CONTROL.sub("?", text)


def format_time(at_ms: int) -> str:
    """Write an instant as UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_age(seconds: float) -> str:
    """Write a duration in its largest unit but one, such as ``2d5h``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size or parts:
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join([*parts, f"{left}s"][:2])


def format_stage(stage: Stage) -> str:
    """Write where a message is."""
    return _REPORT_WORDS if stage == REPORT else stage or "not signed yet"


def format_size(octets: int) -> str:
    """Write a size in octets, kB or MB."""
    if octets < 1000:  # noqa: PLR2004 - the prefix k
        return f"{octets}B"
    return f"{octets / 1000:.0f}kB" if octets < 1_000_000 else f"{octets / 1_000_000:.1f}MB"  # noqa: PLR2004 - M


def format_state(entry: QueueEntry) -> str:
    """Write the state, and until or since when."""
    words = [entry.state.value]
    if entry.state is State.WAITING and entry.until_ms is not None:
        words.append(f"until {format_time(entry.until_ms)}")
    elif entry.state is not State.DELIVERING and entry.since_ms is not None:
        words.append(f"since {format_time(entry.since_ms)}")
    return " ".join([*words, *(["(to be held)"] if entry.is_hold_wanted else [])])


def format_table(entries: Sequence[QueueEntry], now_ms: int) -> Iterator[str]:
    """Write entries as a table with a heading."""
    rows = [COLUMNS, *(_cells(entry, now_ms) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def format_message(message: Message, events: Sequence[Event], now_ms: int) -> Iterator[str]:
    """Write one message with all its destinations and attempts."""
    envelope = message.envelope
    yield f"queue-id:  {message.queue_id}"
    age = format_age((now_ms - message.accepted_ms) / 1000)
    yield f"accepted:  {format_time(message.accepted_ms)}, {age} ago"
    if envelope:
        yield clean(f"user:      {envelope.user}")
        yield clean(f"from:      {envelope.reverse_path or '<>'}")
        yield f"body:      {envelope.body}{' SMTPUTF8' if envelope.smtputf8 else ''}, {message.size_bytes} octets"
        yield clean(f"to:        {', '.join(map(str, envelope.recipients))}")
        if asked := list(_describe_options(envelope.options)):
            yield f"asked:     {', '.join(asked)}"
    yield f"signed:    {'yes' if message.is_signed else 'no'}"
    for entry in message.entries:
        yield ""
        yield from _format_entry(entry, events)


def format_event(event: Event) -> Iterator[str]:
    """Write one event, a line for itself and one for each recipient."""
    head = [format_time(event.at_ms), event.event]
    if event.attempt is not None:
        head = [format_time(event.at_ms), f"attempt {event.attempt}"]
    head += [_REPORT_WORDS if event.destination == REPORT else f"at {event.destination}"] if event.destination else []
    head += [f"took {event.duration_ms} ms"] if event.duration_ms is not None else []
    head += [f"by {event.by}"] if event.by else []
    yield clean("  ".join([*head, *([event.reason] if event.reason else [])]))
    for outcome in event.outcomes:
        yield clean(f"    {_format_outcome(outcome)}")


def describe_entry(entry: QueueEntry, now_ms: int) -> dict[str, object]:
    """Give an entry in plain types."""
    return {
        "queue_id": entry.queue_id,
        "destination": entry.stage if entry.stage not in {"", REPORT} else None,
        "is_report": entry.stage == REPORT,
        "state": entry.state.value,
        "until": format_time(entry.until_ms) if entry.until_ms is not None else None,
        "since": format_time(entry.since_ms) if entry.since_ms is not None else None,
        "reason": entry.reason,
        "hold_wanted": entry.is_hold_wanted,
        "accepted_at": format_time(entry.accepted_ms),
        "age_s": round((now_ms - entry.accepted_ms) / 1000),
        "size_bytes": entry.size_bytes,
        "reverse_path": str(entry.reverse_path or "<>"),
        "recipients": [str(recipient) for recipient in entry.recipients],
        "attempts": entry.attempts,
    }


def describe_message(message: Message, events: Sequence[Event], now_ms: int) -> dict[str, object]:
    """Give one message with all its destinations and events in plain types."""
    envelope = message.envelope
    return {
        "queue_id": message.queue_id,
        "accepted_at": format_time(message.accepted_ms),
        "size_bytes": message.size_bytes,
        "user": envelope and envelope.user,
        "reverse_path": envelope and str(envelope.reverse_path or "<>"),
        "recipients": [str(recipient) for recipient in envelope.recipients] if envelope else [],
        "body": envelope and envelope.body,
        "smtputf8": envelope and envelope.smtputf8,
        "asked": list(_describe_options(envelope.options)) if envelope else [],
        "signed": message.is_signed,
        "entries": [describe_entry(entry, now_ms) for entry in message.entries],
        "events": [describe_event(event) for event in events],
    }


def describe_event(event: Event) -> dict[str, object]:
    """Give an event in plain types, without what it does not tell."""
    plain = {
        "at": datetime.fromtimestamp(event.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "queue_id": event.queue_id,
        "event": event.event,
        "destination": event.destination if event.destination != REPORT else None,
        "is_report": event.destination == REPORT or None,
        "attempt": event.attempt,
        "duration_ms": event.duration_ms,
        "reverse_path": event.reverse_path,
        "by": event.by,
        "reason": event.reason,
        "outcomes": [
            {name: value for name in outcome.__slots__ if (value := getattr(outcome, name))}
            for outcome in event.outcomes
        ],
    }
    return {name: value for name, value in plain.items() if value not in ("", None, [])}


def _describe_options(options: Options) -> Iterator[str]:
    if options.tls:
        yield f"TLS {options.tls}"
    if options.release_at:
        yield f"released at {format_time(options.release_at * 1000)}"
    if options.deadline:
        what = "returned" if options.deadline.mode is ByMode.RETURN else "reported"
        yield f"{what} unless delivered by {format_time(options.deadline.at * 1000)}"
    if options.priority:
        yield f"priority {options.priority}"


def _name_stage(stage: Stage) -> str:
    return _REPORT_WORDS if stage == REPORT else stage or "-"


def _cells(entry: QueueEntry, now_ms: int) -> tuple[str, ...]:
    age = format_age((now_ms - entry.accepted_ms) / 1000)
    sender, destination = str(entry.reverse_path or "<>"), _name_stage(entry.stage)
    size, left = format_size(entry.size_bytes), str(len(entry.recipients))
    cells = (entry.queue_id, age, size, sender, left, destination, format_state(entry), entry.reason)
    return tuple(map(clean, cells))


def _format_entry(entry: QueueEntry, events: Iterable[Event]) -> Iterator[str]:
    why = f": {entry.reason}" if entry.reason else ""
    yield clean(f"{format_stage(entry.stage)}: {format_state(entry)}{why}")
    yield clean(f"  left: {', '.join(map(str, entry.recipients))}")
    seen = [event for event in events if event.destination == entry.stage]
    attempts = sum(event.event == "attempt" for event in seen)
    if entry.stage != REPORT:
        yield f"  attempts: {entry.attempts}"
    if attempts < entry.attempts:
        yield f"  (the history has lost the first {entry.attempts - attempts} of them)"
    for event in seen:
        yield from (f"  {line}" for line in format_event(event))


def _format_outcome(outcome: RecipientOutcome) -> str:
    host = f"{outcome.mx_host} [{outcome.mx_address}]" if outcome.mx_address else outcome.mx_host
    words = [f"{outcome.recipient} {outcome.event}"]
    words += [f"by {host}"] if host else []
    words += [outcome.tls or "in clear"] if outcome.mx_address else []
    told = [text for text in (outcome.reply, outcome.reason) if text]
    return ", ".join(words) + (f": {'; '.join(told)}" if told else "")
