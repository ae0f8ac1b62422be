"""One attempt at one message: send, decide about each recipient, record, and say so in the log."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ptt import maillog
from ptt.core.address import Address
from ptt.core.envelope import parse_envelope
from ptt.core.errors import LeaseLost
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Deferred, Delivered, Failed, Outcome, Scope
from ptt.core.ports import Courier
from ptt.core.reply import Reply
from ptt.core.retry import decide_delay, is_expired
from ptt.store.entries import RelayEntry
from ptt.store.relay_queue import Attempt, RelayQueue

EXPIRED = Reply(550, "5.4.7", "Delivery time expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicy:
    """When to try again, and what to do when the remote server may have the message already."""

    retry_schedule_s: Sequence[float]
    max_age_s: float
    holds_uncertain: bool
    jitter: Callable[[], float]
    """Gives a random number between -1 and 1."""


async def attempt(queue: RelayQueue, courier: Courier, policy: AttemptPolicy, entry: RelayEntry) -> None:
    """Try to deliver a claimed message to the recipients of its destination, and record what came of it.

    Raises:
        LeaseLost: another worker owns the entry; nothing was recorded.
    """
    if entry.uncertain:
        _tell_uncertain(entry, "a worker ended between the final dot and its record")
        if policy.holds_uncertain:
            await _hold(queue, entry, entry.recipients)
            return
    committed = asyncio.Event()
    try:
        outcomes = await courier.deliver(entry.destination, _outbound(queue, entry, committed))
    except asyncio.CancelledError:
        # The worker stops: what has not reached its final dot goes back at once, uncounted.
        if not committed.is_set():
            await asyncio.shield(queue.record(entry, _give_back(entry)))
        raise
    final = [(recipient, _expire(outcome, entry, policy)) for recipient, outcome in outcomes]
    await _record(queue, policy, entry, final)


def _give_back(entry: RelayEntry) -> Attempt:
    return Attempt(remaining=entry.recipients, delay_s=0, counts=False, history=b"")


def _outbound(queue: RelayQueue, entry: RelayEntry, committed: asyncio.Event) -> OutboundMessage:
    async def commit() -> None:
        committed.set()
        await queue.commit(entry)

    envelope = parse_envelope(entry.envelope_json)
    return OutboundMessage(
        queue_id=entry.queue_id,
        reverse_path=envelope.reverse_path,
        recipients=entry.recipients,
        size_bytes=entry.size_bytes,
        body=envelope.body,
        smtputf8=envelope.smtputf8,
        read=lambda: queue.read(entry),
        commit=commit,
    )


def _expire(outcome: Outcome, entry: RelayEntry, policy: AttemptPolicy) -> Outcome:
    # RFC 5321 section 4.5.4.1: give up after days; the age counts from acceptance.
    expired = is_expired(timedelta(seconds=entry.age_s), timedelta(seconds=policy.max_age_s))
    if not isinstance(outcome, Deferred) or outcome.uncertain or not expired:
        return outcome
    reply = outcome.reply or EXPIRED
    reason = f"tried for {entry.age_s:.0f} s; last: {outcome.reason or reply}"
    return Failed(reason=reason, scope=Scope.RECIPIENT, reply=EXPIRED, peer=outcome.peer)


async def _record(
    queue: RelayQueue, policy: AttemptPolicy, entry: RelayEntry, outcomes: Sequence[tuple[Address, Outcome]]
) -> None:
    remaining = [recipient for recipient, outcome in outcomes if isinstance(outcome, Deferred)]
    uncertain = [recipient for recipient, outcome in outcomes if isinstance(outcome, Deferred) and outcome.uncertain]
    delay_s = decide_delay(policy.retry_schedule_s, entry.attempts + 1, policy.jitter()).total_seconds()
    history = json.dumps([_describe(recipient, outcome) for recipient, outcome in outcomes], separators=(",", ":"))
    hold = "the remote server may have it already" if uncertain and policy.holds_uncertain else ""
    try:
        done = await queue.record(
            entry,
            Attempt(remaining=remaining, delay_s=delay_s, counts=True, history=history.encode(), hold=hold),
        )
    except LeaseLost:
        # Another worker took over while this one was sending: the list of possible doubles must be complete.
        _tell_uncertain(entry, "the lease was lost while the message was being sent")
        raise
    for recipient, outcome in outcomes:
        _tell(entry, recipient, outcome, delay_s)
    if done:
        maillog.emit("message.done", queue_id=entry.queue_id, age_s=round(entry.age_s, 3))


async def _hold(queue: RelayQueue, entry: RelayEntry, recipients: Sequence[Address]) -> None:
    reason = "the remote server may have it already"
    await queue.record(entry, Attempt(remaining=recipients, delay_s=0, counts=False, history=b"", hold=reason))
    for recipient in recipients:
        maillog.emit("recipient.held", maillog.WARNING, recipient=str(recipient), reason=reason)


def _tell_uncertain(entry: RelayEntry, reason: str) -> None:
    for recipient in entry.recipients:
        maillog.emit(
            "recipient.uncertain",
            maillog.WARNING,
            queue_id=entry.queue_id,
            recipient=str(recipient),
            attempt=entry.attempts + 1,
            reason=reason,
        )


def _tell(entry: RelayEntry, recipient: Address, outcome: Outcome, delay_s: float) -> None:
    event, level = _event_of(outcome)
    reply = outcome.reply
    maillog.emit(
        f"recipient.{event}",
        level,
        queue_id=entry.queue_id,
        recipient=str(recipient),
        attempt=entry.attempts + 1,
        mx_host=outcome.peer.mx_host,
        mx_address=outcome.peer.address,
        tls=outcome.peer.tls,
        reply_code=reply.code if reply else None,
        enhanced_status=reply.enhanced_status if reply else None,
        reply_text=reply.text if reply else None,
        reason=None if isinstance(outcome, Delivered) else outcome.reason,
        delay_s=round(delay_s) if isinstance(outcome, Deferred) else None,
    )


def _event_of(outcome: Outcome) -> tuple[str, int]:
    if isinstance(outcome, Delivered):
        return "delivered", maillog.INFO
    if isinstance(outcome, Failed):
        return "failed", maillog.WARNING
    return ("uncertain" if outcome.uncertain else "deferred"), maillog.WARNING


def _describe(recipient: Address, outcome: Outcome) -> dict[str, object]:
    described: dict[str, object] = {"recipient": str(recipient), "event": _event_of(outcome)[0]}
    if outcome.reply:
        described["reply"] = str(outcome.reply)
    if not isinstance(outcome, Delivered):
        described["reason"] = outcome.reason
    if outcome.peer.mx_host:
        described["mx_host"] = outcome.peer.mx_host
    if outcome.peer.tls:
        described["tls"] = outcome.peer.tls
    return described
