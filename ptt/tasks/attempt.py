"""One attempt at one message: send, decide about each recipient, record, and say so in the log."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from ptt import maillog
from ptt.core.address import Address
from ptt.core.envelope import Envelope, decide_hold_s, decide_left_s, parse_envelope
from ptt.core.errors import LeaseLost, MalformedInput, Unavailable
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Deferred, Delivered, Failed, Outcome, Scope
from ptt.core.ports import Courier
from ptt.core.reply import Reply
from ptt.core.retry import decide_backoff, decide_delay, is_expired, is_overdue, shorten_delay
from ptt.store.attempts import Attempt, Recorded
from ptt.store.entries import RelayEntry, check_version
from ptt.store.relay_queue import RelayQueue
from ptt.tasks.records import select_records
from ptt.tasks.telling import describe, shorten, tell, tell_uncertain

EXPIRED = Reply(550, "5.4.7", "Delivery time expired")
OVERDUE = Failed(
    reason="not delivered by the time that its sender set (DELIVERBY)",
    scope=Scope.RECIPIENT,
    reply=EXPIRED,
    is_remote=False,
)
HOLD_REASON = "the remote server may have it already"
SPOOL_WAIT_S = 2.0
"""How long a message waits whose attempt was given up because Redis was away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicy:
    """When to try again, and what to do when the remote server may have the message already."""

    retry_schedule_s: Sequence[float]
    max_age_s: float
    delay_notice_after_s: float
    """When the sender is told that a message is late."""
    holds_uncertain: bool
    jitter: Callable[[], float]
    """Gives a random number between -1 and 1."""


async def attempt(queue: RelayQueue, courier: Courier, policy: AttemptPolicy, entry: RelayEntry) -> Deferred | None:
    """Try to deliver a claimed message to the recipients of its destination, and record what came of it.

    Returns:
        Why none of its hosts could be reached, if the destination backs off from now on.

    Raises:
        LeaseLost: another worker owns the entry; nothing was recorded.
    """
    envelope = await _read_envelope(queue, entry)
    if envelope is None or (entry.in_doubt and await _hold_doubt(queue, policy, entry)):
        return None
    left_s = decide_left_s(entry.queue_id, envelope.options, entry.age_s)
    entry = _count_from_release(entry, envelope)
    if is_overdue(envelope.options, left_s):
        await _return_overdue(queue, entry, envelope)
        return None
    progress = _Progress(queue, entry, envelope)
    began_s = time.monotonic()
    try:
        outcomes = await courier.deliver(entry.destination, progress.message())
    except asyncio.CancelledError:
        # The worker stops: what has not reached its final dot goes back at once, uncounted.
        if not progress.in_doubt:
            await _finish(queue.record(entry, _give_back(entry, 0)))
        raise
    if progress.is_spool_away:
        # Redis was away in the midst of it: no fault of the destination, so the schedule does not count it.
        records = select_records(envelope, outcomes, is_late=False)
        plan = _give_back(entry, SPOOL_WAIT_S)
        await _record(queue, entry, outcomes, replace(plan, reverse_path=progress.reverse_path, records=records))
        return None
    duration_ms = round((time.monotonic() - began_s) * 1000)
    unreached = find_unreached(outcomes)
    backoff_s = _decide_backoff_s(policy, entry, outcomes)
    final = [(recipient, expire(outcome, entry, policy)) for recipient, outcome in outcomes]
    doubtful = [r for (r, was), (_, now) in zip(outcomes, final, strict=True) if _is_uncertain(was) and was is not now]
    tell_uncertain(entry, doubtful, "no reply to the final dot, and too old to be tried again")
    delay_s = decide_delay(policy.retry_schedule_s, entry.attempts + 1, policy.jitter()).total_seconds()
    hold = HOLD_REASON if policy.holds_uncertain and any(_is_uncertain(outcome) for _, outcome in final) else ""
    is_late = _is_late(policy, entry, left_s) and not hold
    plan = Attempt(
        remaining=(),
        delay_s=shorten_delay(delay_s, left_s),
        counts=True,
        history=b"",
        hold=hold,
        number=entry.attempts + 1,
        duration_ms=duration_ms,
        reverse_path=progress.reverse_path,
        records=select_records(envelope, final, is_late=is_late),
        is_late=is_late,
        backoff_s=shorten_delay(backoff_s, left_s) if backoff_s else backoff_s,
        is_step=backoff_s is not None and shorten_delay(backoff_s, left_s) == backoff_s,
    )
    recorded = await _record(queue, entry, final, plan)
    return unreached if recorded in {Recorded.BACKED_OFF, Recorded.DONE_BACKED_OFF} else None


async def settle_untried(queue: RelayQueue, policy: AttemptPolicy, entry: RelayEntry, unreached: Deferred) -> None:
    """Record of a message whose destination cannot be reached that it is late or too old, without an attempt.

    Raises:
        LeaseLost: another worker owns the entry; nothing was recorded.
    """
    envelope = await _read_envelope(queue, entry)
    if envelope is None or (entry.in_doubt and await _hold_doubt(queue, policy, entry)):
        return
    left_s = decide_left_s(entry.queue_id, envelope.options, entry.age_s)
    entry = _count_from_release(entry, envelope)
    if is_overdue(envelope.options, left_s):
        await _return_overdue(queue, entry, envelope)
        return
    outcomes = [(recipient, expire(unreached, entry, policy)) for recipient in entry.recipients]
    is_late = _is_late(policy, entry, left_s)
    plan = replace(
        _give_back(entry, entry.due_in_s),
        reverse_path=str(envelope.reverse_path or "<>"),
        records=select_records(envelope, outcomes, is_late=is_late),
        is_late=is_late,
    )
    if any(isinstance(outcome, Failed) for _, outcome in outcomes):
        await _record(queue, entry, outcomes, plan)
    else:
        await queue.record(entry, replace(plan, why=shorten(unreached)))


async def _return_overdue(queue: RelayQueue, entry: RelayEntry, envelope: Envelope) -> None:
    """Fail who is left of a message whose deadline has passed, without an attempt (RFC 2852 section 4)."""
    outcomes = [(recipient, OVERDUE) for recipient in entry.recipients]
    plan = replace(
        _give_back(entry, 0),
        reverse_path=str(envelope.reverse_path or "<>"),
        records=select_records(envelope, outcomes, is_late=False),
    )
    await _record(queue, entry, outcomes, plan)


def _is_late(policy: AttemptPolicy, entry: RelayEntry, left_s: float | None) -> bool:
    # RFC 2852 section 4: with a deadline for a notice, that is when the sender wants to hear.
    return entry.age_s >= policy.delay_notice_after_s or (left_s is not None and left_s <= 0)


def find_unreached(outcomes: Sequence[tuple[Address, Outcome]]) -> Deferred | None:
    """Tell why none of the destination's hosts could be reached, if so."""
    deferred = [one for _, one in outcomes if isinstance(one, Deferred) and one.scope is Scope.DOMAIN]
    return deferred[0] if deferred and len(deferred) == len(outcomes) else None


def _decide_backoff_s(
    policy: AttemptPolicy, entry: RelayEntry, outcomes: Sequence[tuple[Address, Outcome]]
) -> float | None:
    """Decide how long to leave the destination alone; 0 if it was reached, None if nothing was found out about it."""
    if find_unreached(outcomes):
        return decide_backoff(policy.retry_schedule_s, entry.failures + 1, policy.jitter()).total_seconds()
    is_known = any(isinstance(outcome, Delivered) or outcome.scope is not Scope.ATTEMPT for _, outcome in outcomes)
    return 0 if is_known else None


def _count_from_release(entry: RelayEntry, envelope: Envelope) -> RelayEntry:
    # RFC 4865: what was held on purpose is not late.
    held_s = decide_hold_s(entry.queue_id, envelope.options)
    return replace(entry, age_s=entry.age_s - held_s) if held_s else entry


async def _hold_doubt(queue: RelayQueue, policy: AttemptPolicy, entry: RelayEntry) -> bool:
    """Tell that an earlier worker may have sent the message; hold it if the policy says so, and tell whether."""
    tell_uncertain(entry, entry.in_doubt, "a worker ended between the final dot and its record")
    if policy.holds_uncertain:
        await _hold(queue, entry)
    return policy.holds_uncertain


async def _read_envelope(queue: RelayQueue, entry: RelayEntry) -> Envelope | None:
    """Read the envelope; None when it cannot be read: then the message is parked, and the others flow on."""
    try:
        check_version(entry.version)
        return parse_envelope(entry.envelope_json)
    except MalformedInput as error:
        await queue.park(entry, str(error))
        maillog.emit(
            "recipient.parked",
            maillog.ERROR,
            queue_id=entry.queue_id,
            destination=entry.destination,
            reason=str(error),
        )
        return None


class _Progress:
    """What the spool knows of an attempt under way: whom a dot was sent for, and whether Redis answered."""

    def __init__(self, queue: RelayQueue, entry: RelayEntry, envelope: Envelope) -> None:
        self._queue = queue
        self._entry = entry
        self._envelope = envelope
        self.in_doubt: Sequence[Address] = ()
        self.is_spool_away = False
        self.reverse_path = str(envelope.reverse_path or "<>")

    def message(self) -> OutboundMessage:
        entry, envelope = self._entry, self._envelope
        return OutboundMessage(
            queue_id=entry.queue_id,
            reverse_path=envelope.reverse_path,
            recipients=entry.recipients,
            size_bytes=entry.size_bytes,
            body=envelope.body,
            smtputf8=envelope.smtputf8,
            ret=envelope.ret,
            envid=envelope.envid,
            requests=envelope.requests,
            options=envelope.options,
            read=self._read,
            commit=self._commit,
        )

    async def _read(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._queue.read(self._entry):
                yield part
        except Unavailable:
            self.is_spool_away = True
            raise

    async def _commit(self, in_doubt: Sequence[Address], delivered: Sequence[Address]) -> None:
        left = [recipient for recipient in self._entry.recipients if recipient not in delivered]
        self.in_doubt = in_doubt
        try:
            await self._queue.commit(self._entry, in_doubt, left)
        except Unavailable:
            self.is_spool_away = True
            raise


async def _finish(recording: Coroutine[None, None, Recorded]) -> Recorded:
    """Await a record to its end, also when the worker stops meanwhile: what was delivered must not stay unrecorded."""
    task = asyncio.ensure_future(recording)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # Redis is away: the lease ends by itself, and the stop goes on
        raise


def _give_back(entry: RelayEntry, delay_s: float) -> Attempt:
    return Attempt(remaining=entry.recipients, delay_s=delay_s, counts=False, history=b"", number=entry.attempts + 1)


def _is_uncertain(outcome: Outcome) -> bool:
    return isinstance(outcome, Deferred) and outcome.uncertain


def expire(outcome: Outcome, entry: RelayEntry, policy: AttemptPolicy) -> Outcome:
    """Make a deferral final after the queue lifetime (RFC 5321 section 4.5.4.1); the age counts from acceptance."""
    expired = is_expired(timedelta(seconds=entry.age_s), timedelta(seconds=policy.max_age_s))
    if not isinstance(outcome, Deferred) or not expired:
        return outcome
    reply = outcome.reply or EXPIRED
    reason = f"tried for {entry.age_s:.0f} s; last: {outcome.reason or reply}"
    return Failed(
        reason=reason,
        scope=Scope.RECIPIENT,
        reply=EXPIRED,
        peer=outcome.peer,
        is_remote=False,
        last_reply=outcome.reply,
    )


async def _record(
    queue: RelayQueue, entry: RelayEntry, outcomes: Sequence[tuple[Address, Outcome]], plan: Attempt
) -> Recorded:
    history = json.dumps([describe(recipient, outcome) for recipient, outcome in outcomes], separators=(",", ":"))
    left = [(recipient, outcome) for recipient, outcome in outcomes if isinstance(outcome, Deferred)]
    plan = replace(
        plan,
        remaining=[recipient for recipient, _ in left],
        history=history.encode(),
        why=shorten(left[0][1]) if left else "",
    )
    # The record takes the mark of doubt away: a worker that dies right after it must have told of the doubt before.
    for recipient, outcome in outcomes:
        if _is_uncertain(outcome):
            tell(entry, recipient, outcome, plan)
    try:
        recorded = await _finish(queue.record(entry, plan))
    except LeaseLost:
        # Another worker took over while this one was sending: the list of possible doubles must be complete.
        sent = [recipient for recipient, outcome in outcomes if isinstance(outcome, Delivered)]
        tell_uncertain(entry, sent, "the lease was lost while the message was being sent")
        raise
    for recipient, outcome in outcomes:
        if not _is_uncertain(outcome):
            tell(entry, recipient, outcome, plan)
    if recorded in {Recorded.DONE, Recorded.DONE_BACKED_OFF}:
        maillog.emit("message.done", queue_id=entry.queue_id, age_s=round(entry.age_s, 3))
    return recorded


async def _hold(queue: RelayQueue, entry: RelayEntry) -> None:
    plan = replace(_give_back(entry, 0), hold=HOLD_REASON)
    await queue.record(entry, plan)
    for recipient in entry.recipients:
        maillog.emit(
            "recipient.held", maillog.WARNING, queue_id=entry.queue_id, recipient=str(recipient), reason=HOLD_REASON
        )
