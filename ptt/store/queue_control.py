"""Acting on the queue for a person: hold, release, retry, give up. One script for one message at one destination.

What a worker owns at the moment is not pulled from under it: it may be between a final dot and its reply. Each action
leaves an event with the name of who did it.
"""

import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import islice

from ptt.core.address import Address, Domain
from ptt.core.dsn import Action, is_wanted, make_reported, split_reported
from ptt.core.envelope import QueueId
from ptt.core.notify import NO_REQUEST
from ptt.core.outcome import Failed, Scope
from ptt.core.reply import Reply
from ptt.core.wakeup import RELAY_QUEUE, RELAY_WAKEUP, SIGN_QUEUE, SIGN_WAKEUP
from ptt.store import keys
from ptt.store.connection import RedisAddress, connect
from ptt.store.entries import format_recipients
from ptt.store.keys import Stage
from ptt.store.queue_entries import Place, QueueEntry, State
from ptt.store.runner import Runner
from ptt.store.scripts import SCRIPTS, Call

GIVEN_UP = Reply(550, "5.7.0", "given up by the administrator")
"""RFC 3463 section 3.8: 5.7.0, other or undefined security status, is what a decision of ours comes nearest to."""
PAGE = 128
"""Scripts in one transaction: it must not hold up the other clients of Redis."""


class Result(StrEnum):
    """What came of an action, by the word that its script returns."""

    HELD = "held"
    RELEASED = "released"
    DUE = "due"
    FAILED = "failed"
    DONE = "done"
    """Failed, and with it the whole message is done and gone."""
    WANTED = "wanted"
    """A worker owns it: held as soon as it gives it back, if anybody is left then."""
    UNWANTED = "unwanted"
    """A worker owns it, and will not hold it."""
    ALREADY = "already"
    """It is held or parked already."""
    FREE = "free"
    """It is neither held nor parked."""
    ASIDE = "aside"
    """It is held or parked: release it instead."""
    BUSY = "busy"
    """A worker owns it."""
    CHANGED = "changed"
    """Something became of it since it was read."""
    GONE = "gone"
    """It is not there any more."""


class QueueControl:
    """Acts on the queue in the name of a person."""

    def __init__(self, address: RedisAddress, by: str) -> None:
        """Make a client; it connects when it is used. ``by`` is the name that the events tell."""
        self._runner = Runner(connect(address))
        self._broker_db = address.broker_db
        self._by = by

    def hold(self, queue_id: QueueId, stage: Stage, reason: str) -> Result:
        """Set a message aside at one destination.

        Raises:
            Unavailable: Redis is away; so do all methods here.
        """
        names = keys.Fields(stage)
        fields = (names.owner, names.reason, names.held, names.wanted)
        places = (keys.state(queue_id, stage), keys.queue(stage), keys.PARKED, keys.EVENTS)
        arguments = (queue_id, stage, *fields, reason, self._by, keys.MAX_EVENTS)
        return self._run(Call(SCRIPTS["hold"], places, arguments))

    def release(self, queue_id: QueueId, stage: Stage) -> Result:
        """Make a message due now that is held or parked at one destination."""
        names = keys.Fields(stage)
        fields = (names.reason, names.held, names.wanted, names.claims)
        places = (keys.state(queue_id, stage), keys.queue(stage), keys.PARKED, keys.EVENTS, keys.DESTINATIONS)
        arguments = (queue_id, stage, *fields, self._by, keys.MAX_EVENTS, *self._wakeup(stage))
        return self._run(Call(SCRIPTS["release"], places, arguments))

    def retry(self, queue_id: QueueId, stage: Stage) -> Result:
        """Make a message due now that waits at one destination."""
        return self._run(self._retry_call(queue_id, stage, self._by))

    def retry_all(self, places: Iterator[Place]) -> Iterator[Result]:
        """Make all these due now; without an event for each, which would push the history out of the stream."""
        while page := list(islice(places, PAGE)):
            calls = [self._retry_call(place.queue_id, place.stage, "") for place in page]
            yield from map(_read_result, self._runner.run(calls))

    def end_backoff(self, destination: Domain) -> bool:
        """Have a destination tried now that could not be reached; tell whether it was left alone."""
        places = (keys.backoff(destination), keys.DESTINATIONS)
        call = Call(SCRIPTS["end_backoff"], places, (destination, *self._wakeup(destination)))
        (result,) = self._runner.run([call])
        return result == 1

    def give_up(self, entry: QueueEntry) -> Result:
        """Record who is left of a message at one destination as failed; of a report, send none."""
        if entry.stage == keys.REPORT:
            return self._drop_report(entry.queue_id)
        queue_id, stage = entry.queue_id, entry.stage
        places = (
            keys.state(queue_id, stage),
            keys.queue(stage),
            keys.PARKED,
            keys.EVENTS,
            keys.DESTINATIONS,
            keys.REPORTS,
        )
        records = _record_given_up(entry)
        names = keys.Fields(stage)
        state = (names.reason, names.held, names.wanted, names.claims, names.in_doubt, names.newest)
        arguments: tuple[str | bytes | int, ...] = (
            queue_id,
            stage,
            names.owner,
            format_recipients(entry.recipients),
            format_given_up(entry.recipients, self._by),
            str(entry.reverse_path or "<>"),
            self._by,
            keys.MAX_EVENTS,
            keys.REPORT_WAIT_MS,
            len(records),
            *records,
            *(names.recipients, names.attempts, *state),
        )
        return self._run(Call(SCRIPTS["give_up"], places, arguments))

    def _drop_report(self, queue_id: QueueId) -> Result:
        places = (keys.delivery(queue_id), keys.REPORTS, keys.PARKED, keys.EVENTS)
        return self._run(Call(SCRIPTS["drop_report"], places, (queue_id, self._by, keys.MAX_EVENTS)))

    def _retry_call(self, queue_id: QueueId, stage: Stage, by: str) -> Call:
        names = keys.Fields(stage)
        places = (keys.state(queue_id, stage), keys.queue(stage), keys.EVENTS, keys.DESTINATIONS)
        arguments = (queue_id, stage, names.owner, names.reason, by, keys.MAX_EVENTS, *self._wakeup(stage))
        return Call(SCRIPTS["retry"], places, arguments)

    def _wakeup(self, stage: Stage) -> tuple[int | str | bytes, ...]:
        flag, queue, wakeup = (
            (SIGN_QUEUE, SIGN_QUEUE, SIGN_WAKEUP)
            if stage in {"", keys.REPORT}
            else (f"relay:{stage}", RELAY_QUEUE, RELAY_WAKEUP)
        )
        return (self._broker_db, keys.WAKE_TTL_MS, flag, queue, wakeup)

    def _run(self, call: Call) -> Result:
        (result,) = self._runner.run([call])
        return _read_result(result)


def format_given_up(recipients: Sequence[Address], by: str) -> bytes:
    """Write the outcomes of recipients that were given up, in the form of the history of attempts."""
    reason = f"given up by {by}"
    outcomes = [
        {"recipient": str(recipient), "event": "failed", "reply": str(GIVEN_UP), "reason": reason}
        for recipient in recipients
    ]
    return json.dumps(outcomes, separators=(",", ":")).encode()


def _record_given_up(entry: QueueEntry) -> tuple[bytes, ...]:
    """Write down what the sender is to be told; nothing of what is parked unsigned, for it may be forged."""
    if entry.reverse_path is None or (entry.state is State.PARKED and not entry.stage):
        return ()
    outcome = Failed(reason=GIVEN_UP.text, scope=Scope.RECIPIENT, reply=GIVEN_UP, is_remote=False)
    wanted = [one for one in entry.recipients if is_wanted(Action.FAILED, entry.requests.get(one, NO_REQUEST))]
    return split_reported([make_reported(one, outcome, Action.FAILED) for one in wanted])


def _read_result(result: object) -> Result:
    assert isinstance(result, bytes)  # noqa: S101 - the scripts return words
    return Result(result.decode())
