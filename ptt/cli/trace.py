"""``ptt trace``: what happened to a message, or to mail for or from an address, also after it is done."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ptt.cli.exits import NOT_FOUND, Exit
from ptt.cli.queue_text import (
    clean,
    describe_event,
    describe_message,
    format_event,
    format_stage,
    format_state,
    format_time,
)
from ptt.cli.spool import open_spool
from ptt.core.address import parse_address
from ptt.core.envelope import QueueId, parse_queue_id, parse_time_ms
from ptt.domain_names import to_a_labels
from ptt.store.connection import RedisAddress
from ptt.store.event_log import Event, EventLog, is_about, is_of
from ptt.store.queue_view import Filter, Message, QueueView

CLOCK_SKEW_MS = 3_600_000
"""Queue-ids tell the time of the ingress host, events that of Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is known of one message."""

    queue_id: QueueId
    message: Message | None
    """None when it is done, or never was."""
    events: Sequence[Event]


@click.command()
@click.argument("subject", metavar="ID|ADDRESS")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most messages; newest.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_obj
def trace(obj: dict[str, Path | None], subject: str, limit: int, output: str) -> None:
    """Tell what happened to a message, or to mail for or from an address.

    Knows the messages that are in the spool, and of those that are done the attempts in the history, which keeps the
    newest 50,000 events.

    Example: ptt trace bob@example.net
    """
    address = open_spool(obj)
    view = QueueView(address)
    if "@" in subject:
        queue_ids = _find_messages(address, str(parse_address(subject, smtputf8=True, to_ascii=to_a_labels)), limit)
    else:
        queue_ids = frozenset({parse_queue_id(subject)})
    stories = [story for story in _tell(address, queue_ids) if story.message or story.events]
    if not stories:
        raise Exit(f"{clean(subject)}: neither in the queue nor in the history", NOT_FOUND)
    now_ms = view.read_time_ms()
    if output == "json":
        click.echo(json.dumps([_describe(story, now_ms) for story in stories], indent=2))
        return
    for story in stories:
        for line in _format(story):
            click.echo(line)


def _find_messages(address: RedisAddress, wanted: str, limit: int) -> frozenset[QueueId]:
    """Give the newest messages about an address: in the queue, or in the history."""
    view = QueueView(address)
    found: set[QueueId] = set()
    for event in EventLog(address).read(0, is_about(wanted)):
        found = _keep_newest(found, event.queue_id, limit)
    for one in (Filter(sender=wanted), Filter(recipient=wanted)):
        for queue_id in view.find_messages(one):
            found = _keep_newest(found, queue_id, limit)
    return frozenset(sorted(found)[-limit:])


def _keep_newest(found: set[QueueId], queue_id: QueueId, limit: int) -> set[QueueId]:
    found.add(queue_id)
    return found if len(found) < 2 * limit else set(sorted(found)[-limit:])


def _tell(address: RedisAddress, queue_ids: frozenset[QueueId]) -> Iterator[Story]:
    events: dict[QueueId, list[Event]] = {queue_id: [] for queue_id in sorted(queue_ids)}
    since_ms = min(map(parse_time_ms, queue_ids), default=0) - CLOCK_SKEW_MS
    for event in EventLog(address).read(since_ms, is_of(queue_ids)):
        events[event.queue_id].append(event)
    view = QueueView(address)
    for queue_id, known in events.items():
        yield Story(queue_id=queue_id, message=view.read_message(queue_id), events=known)


def _format(story: Story) -> Iterator[str]:
    message = story.message
    yield f"{story.queue_id}"
    at_ms = message.accepted_ms if message else parse_time_ms(story.queue_id)
    sender = next((event.reverse_path for event in story.events if event.reverse_path), "")
    if message and message.envelope:
        sender = f"{message.envelope.reverse_path or '<>'}, user {message.envelope.user}, {message.size_bytes} octets"
    yield clean(f"  {format_time(at_ms)}  accepted{' from ' if sender else ''}{sender}")
    for event in story.events:
        yield from (f"  {line}" for line in format_event(event))
    for entry in message.entries if message else ():
        yield clean(f"  now: {format_stage(entry.stage)}: {format_state(entry)}: {len(entry.recipients)} left")
    if message is None:
        yield "  now: not in the queue any more"


def _describe(story: Story, now_ms: int) -> Mapping[str, object]:
    if story.message:
        return {"in_queue": True, **describe_message(story.message, story.events, now_ms)}
    return {
        "in_queue": False,
        "queue_id": story.queue_id,
        "accepted_at": format_time(parse_time_ms(story.queue_id)),
        "events": [describe_event(event) for event in story.events],
    }
