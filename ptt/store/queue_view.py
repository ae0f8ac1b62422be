"""Looking at the queue: what is there, in which state, why, until when. Changes nothing.

Synchronous, for commands. Reads in pages, by SCAN of the sorted sets, so that neither Redis nor this process is held up
by a queue of any length; a message that moves meanwhile may be seen in its old place, its new one, or not at all.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast

from ptt.core.address import Domain
from ptt.core.envelope import Envelope, QueueId, parse_envelope
from ptt.core.errors import MalformedInput
from ptt.store import keys
from ptt.store.connection import RedisAddress, connect
from ptt.store.keys import REPORT, Stage
from ptt.store.queue_entries import (
    BACKOFF_FIELDS,
    MESSAGE_FIELDS,
    Backoff,
    Place,
    QueueEntry,
    State,
    list_fields,
    parse_backoff,
    parse_entry,
    wait_for,
)
from ptt.store.scripts import translating

PAGE = 500
"""Entries asked for at once: Redis serves the mail between two pages."""
Item = TypeVar("Item")
_SET_ASIDE = frozenset({State.HELD, State.PARKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries are wanted; what is None lets all pass."""

    destination: Domain | None = None
    states: frozenset[State] = frozenset(State)
    sender: str | None = None
    """A reverse-path, ``<>`` or a domain."""
    recipient: str | None = None
    """An address or a domain."""

    @property
    def needs_entries(self) -> bool:
        """Tell whether the place of an entry does not say enough."""
        by_place = self.destination is None and self.states in (frozenset(State), _SET_ASIDE)
        return not by_place or self.sender is not None or self.recipient is not None

    def matches(self, entry: QueueEntry) -> bool:
        """Tell whether an entry is wanted."""
        if self.destination and self.destination not in (
            {entry.stage} if entry.stage else {recipient.domain for recipient in entry.recipients}
        ):
            return False
        if entry.state not in self.states:
            return False
        if self.sender is not None and not matches_address(self.sender, str(entry.reverse_path or "<>")):
            return False
        return self.recipient is None or any(matches_address(self.recipient, str(one)) for one in entry.recipients)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The oldest entries that are wanted, and how many there are."""

    entries: tuple[QueueEntry, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message that is in the spool."""

    queue_id: QueueId
    envelope: Envelope | None
    """None if nobody can read it."""
    accepted_ms: int
    size_bytes: int
    is_signed: bool
    """Not so of one that was given up before."""
    entries: tuple[QueueEntry, ...]


class QueueView:
    """Reads the queue."""

    def __init__(self, address: RedisAddress) -> None:
        """Make a client; it connects when it is used."""
        self._client = connect(address)

    def read_time_ms(self) -> int:
        """Give the time by the clock of Redis.

        Raises:
            Unavailable: Redis is away; so do all methods here.
        """
        with translating():
            seconds, microseconds = self._client.time()
        return seconds * 1000 + microseconds // 1000

    def list_entries(self, wanted: Filter, limit: int) -> Listing:
        """Give the oldest entries that are wanted, at most ``limit``, and count all of them."""
        counted = _Counted()
        now_ms = self.read_time_ms()
        places = self.walk(wanted)
        if wanted.needs_entries:
            found = counted.count(entry for entry in self._read(places, now_ms) if wanted.matches(entry))
            kept = _keep_oldest(found, limit, _get_order)
        else:
            oldest = _keep_oldest(counted.count(places), limit, _get_place)
            kept = list(self._read(iter(oldest), now_ms))
        return Listing(entries=tuple(kept), total=counted.total)

    def find_messages(self, wanted: Filter) -> Iterator[QueueId]:
        """Give the queue-ids of all messages that are wanted, in no order; one for each entry."""
        entries = self._read(self.walk(wanted), self.read_time_ms())
        return (entry.queue_id for entry in entries if wanted.matches(entry))

    def list_destinations(self) -> Iterator[Domain]:
        """Give all destinations that have mail, in no order; rarely one twice."""
        return map(Domain, self._scan_names(keys.DESTINATIONS))

    def walk(self, wanted: Filter) -> Iterator[Place]:
        """Give the places of all entries that may be wanted, in no order; rarely one twice."""
        if wanted.states - _SET_ASIDE:
            yield from self._walk_queue("")
            if wanted.destination is None:
                yield from self._walk_queue(REPORT)
            named = iter([str(wanted.destination)]) if wanted.destination else self._scan_names(keys.DESTINATIONS)
            for destination in named:
                yield from self._walk_queue(Domain(destination))
        if wanted.states & _SET_ASIDE:
            for name, since_ms in self._scan(keys.PARKED):
                queue_id, _, stage = name.partition(" ")
                if not stage or wanted.destination in (None, stage):
                    yield Place(QueueId(queue_id), _parse_stage(stage), since_ms, is_set_aside=True)

    def read_message(self, queue_id: QueueId) -> Message | None:
        """Give one message with all its entries, or None if it is not in the spool."""
        name = keys.message(queue_id)
        with translating():
            found = cast("list[bytes | None]", self._client.hmget(name, (*MESSAGE_FIELDS, "signature")))
            fields = [field.decode() for field in cast("list[bytes]", self._client.hkeys(keys.delivery(queue_id)))]
        envelope_json, size, accepted, signature = found
        if envelope_json is None:
            return None
        stages: list[Stage] = [Domain(field[2:]) for field in fields if field.startswith("r:")]
        stages += [REPORT] if "recorded" in fields else []
        places = self._find_places(queue_id, stages if signature is not None else [""])
        entries = sorted(self._read(iter(places), self.read_time_ms()), key=_get_order)
        try:
            envelope = parse_envelope(envelope_json)
        except MalformedInput:
            envelope = None
        return Message(
            queue_id=queue_id,
            envelope=envelope,
            accepted_ms=int(accepted or 0),
            size_bytes=int(size or 0),
            is_signed=bool(signature),
            entries=tuple(entries),
        )

    def _find_places(self, queue_id: QueueId, stages: Iterable[Stage]) -> list[Place]:
        stages = list(stages)
        with translating(), self._client.pipeline(transaction=True) as pipeline:
            for stage in stages:
                pipeline.zscore(keys.queue(stage), queue_id)
                pipeline.zscore(keys.PARKED, f"{queue_id} {stage}")
            scores = cast("list[float | None]", pipeline.execute())
        places = []
        for stage, due, since in zip(stages, scores[::2], scores[1::2], strict=True):
            at = since if since is not None else due
            if at is not None:
                places.append(Place(queue_id, stage, int(at), is_set_aside=since is not None))
        return places

    def _walk_queue(self, stage: Stage) -> Iterator[Place]:
        for queue_id, due_ms in self._scan(keys.queue(stage)):
            yield Place(QueueId(queue_id), stage, due_ms, is_set_aside=False)

    def _scan_names(self, name: str) -> Iterator[str]:
        return (member for member, _ in self._scan(name))

    def _scan(self, name: str) -> Iterator[tuple[str, int]]:
        cursor = 0
        while True:
            with translating():
                cursor, page = cast("Any", self._client.zscan(name, cursor, count=PAGE))
            for member, score in page:
                yield member.decode(), int(score)
            if not cursor:
                return

    def _read(self, places: Iterator[Place], now_ms: int) -> Iterator[QueueEntry]:
        while page := list(islice(places, PAGE)):
            with translating(), self._client.pipeline(transaction=False) as pipeline:
                for place in page:
                    pipeline.hmget(keys.message(place.queue_id), MESSAGE_FIELDS)
                    pipeline.hmget(keys.state(place.queue_id, place.stage), list_fields(place.stage))
                rows = pipeline.execute()
            backoffs = self._read_backoffs({place.stage for place in page})
            for place, message, state in zip(page, rows[::2], rows[1::2], strict=True):
                if (entry := parse_entry(place, [*message, *state], now_ms)) is not None:
                    backoff = backoffs.get(place.stage)
                    yield wait_for(entry, backoff, now_ms) if backoff else entry

    def _read_backoffs(self, stages: Collection[Stage]) -> dict[Stage, Backoff]:
        destinations = [Domain(stage) for stage in stages if stage not in {"", REPORT}]
        with translating(), self._client.pipeline(transaction=False) as pipeline:
            for destination in destinations:
                pipeline.hmget(keys.backoff(destination), BACKOFF_FIELDS)
            rows = pipeline.execute()
        return {
            destination: backoff
            for destination, values in zip(destinations, rows, strict=True)
            if (backoff := parse_backoff(values))
        }


def _parse_stage(text: str) -> Stage:
    if text == REPORT:
        return REPORT
    return Domain(text) if text else ""


class _Counted:
    def __init__(self) -> None:
        self.total = 0

    def count(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self.total += 1
            yield item


def _keep_oldest(items: Iterable[Item], limit: int, key: Callable[[Item], tuple[str, str]]) -> list[Item]:
    """Keep the first ones in order, never many more at once; SCAN may give one twice."""
    kept: dict[tuple[str, str], Item] = {}
    for item in items:
        kept[key(item)] = item
        if len(kept) >= 2 * limit:
            kept = dict(sorted(kept.items(), key=lambda pair: pair[0])[:limit])
    return [item for _, item in sorted(kept.items(), key=lambda pair: pair[0])][:limit]


def _get_order(entry: QueueEntry) -> tuple[str, str]:
    return entry.queue_id, entry.stage


def _get_place(place: Place) -> tuple[str, str]:
    return place.queue_id, place.stage


def matches_address(wanted: str, address: str) -> bool:
    """Tell whether an address is the wanted one, or of the wanted domain; the case of letters does not matter."""
    wanted, address = wanted.lower(), address.lower()
    return address == wanted or ("@" not in wanted[1:] and address.endswith("@" + wanted.removeprefix("@")))
