"""``ptt queue``: look at the mail that waits, and act on it."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from ptt import maillog
from ptt.cli.exits import FAILED, NOT_FOUND, Exit
from ptt.cli.queue_text import (
    clean,
    describe_entry,
    describe_message,
    format_age,
    format_message,
    format_stage,
    format_table,
    format_time,
)
from ptt.cli.spool import find_user, open_spool
from ptt.core.address import Domain, parse_domain
from ptt.core.envelope import QueueId, parse_queue_id
from ptt.core.errors import MalformedInput
from ptt.domain_names import to_a_labels
from ptt.store.event_log import EventLog, is_of
from ptt.store.keys import REPORT
from ptt.store.queue_control import QueueControl, Result
from ptt.store.queue_entries import QueueEntry, State
from ptt.store.queue_view import Filter, QueueView

MISSED = frozenset({Result.BUSY, Result.CHANGED, Result.GONE})
"""Results that leave undone what was asked for: exit 1 even if another destination went well."""
EXPLANATIONS = {
    Result.HELD: (True, "held"),
    Result.RELEASED: (True, "released: due now"),
    Result.DUE: (True, "due now"),
    Result.FAILED: (True, "given up"),
    Result.DONE: (True, "given up; the message is done"),
    Result.WANTED: (True, "a worker has it: it is held as soon as the worker gives it back, if anybody is left then"),
    Result.UNWANTED: (True, "a worker has it, and will not hold it any more"),
    Result.ALREADY: (False, "held or parked already"),
    Result.FREE: (False, "neither held nor parked"),
    Result.ASIDE: (False, "held or parked: use `ptt queue release`"),
    Result.BUSY: (False, "a worker has it now: try again when it is done"),
    Result.CHANGED: (False, "changed in this moment: look again"),
    Result.GONE: (False, "moved on in this moment: look again"),
}
"""Whether the result is what was asked for, and what to tell."""


def _parse_domain(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Domain | None:
    try:
        return None if value is None else parse_domain(value, to_a_labels)
    except MalformedInput as error:
        raise click.BadParameter(str(error)) from error


def _parse_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> QueueId | None:
    return None if value is None else parse_queue_id(value)


_id = click.argument("queue_id", metavar="ID", callback=_parse_id)
_destination = click.option("--destination", callback=_parse_domain, help="This destination alone.")
_output = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


@click.group()
def queue() -> None:
    """Mail that waits: list, show, retry, hold, release, fail."""


@queue.command(name="list")
@_destination
@click.option("--state", type=click.Choice([state.value for state in State]), multiple=True, help="Can be repeated.")
@click.option("--sender", help="Reverse-path, <> for none, or its domain.")
@click.option("--recipient", help="A recipient that is left, or a domain.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Most lines; oldest first."
)
@_output
@click.pass_obj
def list_(  # noqa: PLR0913, PLR0917 - one for each option
    obj: dict[str, Path | None],
    destination: Domain | None,
    state: tuple[str, ...],
    sender: str | None,
    recipient: str | None,
    limit: int,
    output: str,
) -> None:
    """List what waits, a line for each message and destination, oldest first.

    Before a message is signed it has one line without a destination. What its sender is to be told of it has a line of
    its own, until the report is made: then that is a message like others.

    Example: ptt queue list --state waiting --destination example.net -o json
    """
    view = QueueView(open_spool(obj))
    states = frozenset(map(State, state)) or frozenset(State)
    wanted = Filter(destination=destination, states=states, sender=sender, recipient=recipient)
    listing = view.list_entries(wanted, limit)
    now_ms = view.read_time_ms()
    oldest_ms = listing.entries[0].accepted_ms if listing.entries else None
    if output == "json":
        entries = [describe_entry(entry, now_ms) for entry in listing.entries]
        oldest = format_time(oldest_ms) if oldest_ms else None
        click.echo(json.dumps({"total": listing.total, "oldest_at": oldest, "entries": entries}, indent=2))
        return
    if oldest_ms is None:
        click.echo("nothing")
        return
    for line in format_table(listing.entries, now_ms):
        click.echo(line)
    age = format_age((now_ms - oldest_ms) / 1000)
    click.echo(f"{listing.total} in all, {len(listing.entries)} shown, the oldest is {age} old")


@queue.command()
@_id
@_output
@click.pass_obj
def show(obj: dict[str, Path | None], queue_id: QueueId, output: str) -> None:
    """Show one message: envelope, and for each destination who is left, why, until when, and every attempt.

    Example: ptt queue show 1H3ZTG2A5Q0M7XJ4VB8C
    """
    address = open_spool(obj)
    view = QueueView(address)
    message = view.read_message(queue_id)
    if message is None:
        raise Exit(f"{queue_id} is not in the queue; `ptt trace {queue_id}` tells what became of it", NOT_FOUND)
    events = list(EventLog(address).read(message.accepted_ms, is_of(frozenset({queue_id}))))
    now_ms = view.read_time_ms()
    if output == "table":
        for line in format_message(message, events, now_ms):
            click.echo(line)
        return
    click.echo(json.dumps(describe_message(message, events, now_ms), indent=2))


@queue.command()
@_id
@_destination
@click.option("--reason", default="held by the administrator", show_default=True, help="What `list` and `show` tell.")
@click.pass_obj
def hold(obj: dict[str, Path | None], queue_id: QueueId, destination: Domain | None, reason: str) -> None:
    """Set a message aside until `release`.

    What a worker has in hand is held when the worker gives it back.

    Example: ptt queue hold 1H3ZTG2A5Q0M7XJ4VB8C --reason 'phishing?'
    """
    control = _control(obj)
    _act(obj, queue_id, destination, "hold", lambda entry: control.hold(queue_id, entry.stage, clean(reason)))


@queue.command()
@_id
@_destination
@click.pass_obj
def release(obj: dict[str, Path | None], queue_id: QueueId, destination: Domain | None) -> None:
    """Make a message due now that is held or parked.

    Example: ptt queue release 1H3ZTG2A5Q0M7XJ4VB8C
    """
    control = _control(obj)
    _act(obj, queue_id, destination, "release", lambda entry: control.release(queue_id, entry.stage))


@queue.command()
@click.argument("queue_id", metavar="[ID]", required=False, callback=_parse_id)
@_destination
@click.option("--all", "every", is_flag=True, help="All that waits.")
@click.pass_obj
def retry(obj: dict[str, Path | None], queue_id: QueueId | None, destination: Domain | None, *, every: bool) -> None:
    """Make due now what waits: one message, all for one destination, or all.

    Example: ptt queue retry --destination example.net
    """
    if every and (queue_id or destination):
        raise click.UsageError("--all excludes ID and --destination")
    if not (queue_id or destination or every):
        raise click.UsageError("ID, --destination or --all is needed")
    control = _control(obj)
    if queue_id:
        _act(obj, queue_id, destination, "retry", lambda entry: control.retry(queue_id, entry.stage))
        return
    view = QueueView(open_spool(obj))
    now_ms = view.read_time_ms()
    places = view.walk(Filter(destination=destination, states=frozenset({State.WAITING})))
    waiting = (place for place in places if place.at_ms > now_ms and (place.stage or every))
    destinations = [destination] if destination else list(view.list_destinations())
    ended = sum(map(control.end_backoff, destinations))
    results = Counter(control.retry_all(waiting))
    maillog.emit("queue.retried", by=find_user(), destination=destination, messages=results[Result.DUE])
    click.echo(f"{results[Result.DUE]} due now, {results[Result.BUSY]} in the hands of a worker")
    if ended:
        click.echo(f"tried at once: {ended} of the destinations that could not be reached")


@queue.command()
@_id
@_destination
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def fail(obj: dict[str, Path | None], queue_id: QueueId, destination: Domain | None, *, yes: bool) -> None:
    """Give up on a message: who is left is recorded as failed, and nothing is tried any more.

    The sender is told. Where nobody is left and only that report still waits, it is the report that is given up.

    Example: ptt queue fail 1H3ZTG2A5Q0M7XJ4VB8C --yes
    """
    control = _control(obj)
    entries = _find_entries(obj, queue_id, destination)
    if all(entry.is_collecting for entry in entries):
        # The threat: who says it twice would silence the report that the first time has made.
        raise Exit(f"{queue_id} has nobody left; the report to its sender is made in a moment: look again", FAILED)
    if not yes:
        click.confirm(_ask_fail(queue_id, entries), abort=True)
    _act(obj, queue_id, destination, "fail", control.give_up)


def _ask_fail(queue_id: QueueId, entries: Sequence[QueueEntry]) -> str:
    if all(entry.stage == REPORT for entry in entries):
        return f"Give up on the report on {queue_id}, so that its sender is told nothing more?"
    left = sum(len(entry.recipients) for entry in entries if entry.stage != REPORT)
    return f"Give up on {queue_id} for the {left} recipients that are left?"


def _act(
    obj: dict[str, Path | None],
    queue_id: QueueId,
    destination: Domain | None,
    action: str,
    run: Callable[[QueueEntry], Result],
) -> None:
    """Act on a message at its destinations, and tell each result."""
    results = []
    for entry in _find_entries(obj, queue_id, destination):
        results.append(result := run(entry))
        is_success, explanation = EXPLANATIONS[result]
        place = format_stage(entry.stage)
        click.echo(clean(f"{queue_id} {place}: {explanation}"), err=not is_success)
        is_report = entry.stage == REPORT
        maillog.emit(
            f"queue.{action}",
            by=find_user(),
            queue_id=queue_id,
            destination=None if is_report else entry.stage or None,
            stage="report" if is_report else None,
            result=result.value,
        )
    if MISSED.intersection(results) or not any(EXPLANATIONS[result][0] for result in results):
        raise SystemExit(FAILED)


def _find_entries(obj: dict[str, Path | None], queue_id: QueueId, destination: Domain | None) -> Sequence[QueueEntry]:
    message = QueueView(open_spool(obj)).read_message(queue_id)
    if message is None:
        raise Exit(f"{queue_id} is not in the queue; `ptt trace {queue_id}` tells what became of it", NOT_FOUND)
    entries = _leave_reports([entry for entry in message.entries if destination in (None, entry.stage)])
    if not entries and any(not entry.stage for entry in message.entries):
        raise Exit(f"{queue_id} is not signed yet, so it is not split by destination: leave --destination out", FAILED)
    if not entries:
        raise Exit(f"{queue_id} has nobody left at {destination or 'any destination'}", NOT_FOUND)
    return entries


def _leave_reports(entries: Sequence[QueueEntry]) -> Sequence[QueueEntry]:
    # A report that is on its way tells the sender what people do: it is not itself given up or held with the rest.
    rest = [entry for entry in entries if entry.stage != REPORT or entry.state in {State.HELD, State.PARKED}]
    return rest or entries


def _control(obj: dict[str, Path | None]) -> QueueControl:
    return QueueControl(open_spool(obj), by=find_user())
