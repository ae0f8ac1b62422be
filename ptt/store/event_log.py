"""Reading the stream of events: every attempt with its outcomes, and what people did.

The stream is capped (`keys.MAX_EVENTS`), so what happened long ago may be gone. It is read in pages; Redis serves the
mail between two of them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ptt.core.envelope import QueueId
from ptt.store import keys
from ptt.store.connection import RedisAddress, connect
from ptt.store.scripts import translating

PAGE = 1000
"""Events asked for at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientOutcome:
    """What became of one recipient in one attempt."""

    recipient: str
    event: str
    """delivered, deferred, failed or uncertain."""
    reply: str = ""
    """The whole reply of the remote server."""
    reason: str = ""
    mx_host: str = ""
    mx_address: str = ""
    tls: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of the stream; what an event does not tell is empty."""

    at_ms: int
    queue_id: QueueId
    event: str
    destination: str
    attempt: int | None
    duration_ms: int | None
    reverse_path: str
    by: str
    """Who did it, if it was a person."""
    reason: str
    outcomes: tuple[RecipientOutcome, ...]


class EventLog:
    """Reads events."""

    def __init__(self, address: RedisAddress) -> None:
        """Make a client; it connects when it is used."""
        self._client = connect(address)

    def read(self, since_ms: int, matches: Callable[[Mapping[bytes, bytes]], bool]) -> Iterator[Event]:
        """Give the events that match, oldest first.

        Args:
            since_ms: from when on, by the clock of Redis.
            matches: told the fields as they are stored; called for each event.

        Raises:
            Unavailable: Redis is away.
        """
        start = str(max(since_ms, 0))
        while True:
            with translating():
                answer = self._client.xrange(keys.EVENTS, start, "+", PAGE)
            page = cast("Sequence[tuple[bytes, Mapping[bytes, bytes]]]", answer)
            for name, fields in page:
                if matches(fields):
                    yield _parse_event(name, fields)
            if len(page) < PAGE:
                return
            start = "(" + page[-1][0].decode()


def is_of(queue_ids: frozenset[QueueId]) -> Callable[[Mapping[bytes, bytes]], bool]:
    """Make a test for events of some messages."""
    names = frozenset(queue_id.encode() for queue_id in queue_ids)
    return lambda fields: fields.get(b"queue_id") in names


def is_about(address: str) -> Callable[[Mapping[bytes, bytes]], bool]:
    """Make a test for events that name an address as reverse-path or recipient; the case of letters does not matter."""
    plain = address.lower().encode()
    # Quotes in front and behind: bob@example.org must not be found in jacob@example.org.
    quoted = json.dumps(address.lower()).encode()

    def matches(fields: Mapping[bytes, bytes]) -> bool:
        return fields.get(b"reverse_path", b"").lower() == plain or quoted in fields.get(b"outcomes", b"").lower()

    return matches


def _parse_event(name: bytes, fields: Mapping[bytes, bytes]) -> Event:
    text = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in fields.items()}
    return Event(
        at_ms=int(name.partition(b"-")[0]),
        queue_id=QueueId(text.get("queue_id", "")),
        event=text.get("event", ""),
        destination=text.get("destination", ""),
        attempt=_number(text.get("attempt")),
        duration_ms=_number(text.get("duration_ms")),
        reverse_path=text.get("reverse_path", ""),
        by=text.get("by", ""),
        reason=text.get("reason", ""),
        outcomes=_parse_outcomes(text.get("outcomes", "[]")),
    )


def _parse_outcomes(text: str) -> tuple[RecipientOutcome, ...]:
    try:
        rows = json.loads(text)
    except ValueError:
        return ()  # what cannot be read must not hide the rest of the history
    names = RecipientOutcome.__dataclass_fields__.keys()
    return tuple(RecipientOutcome(**{name: str(row.get(name, "")) for name in names}) for row in rows)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
