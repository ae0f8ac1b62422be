"""What the log, the history and the list of the queue say of an attempt."""

from collections.abc import Sequence

from ptt import maillog
from ptt.core.address import Address
from ptt.core.outcome import Deferred, Delivered, Failed, Outcome
from ptt.store.attempts import Attempt
from ptt.store.entries import RelayEntry

MAX_WHY = 200
"""Characters of the newest reason that stay with a waiting message: replies can be long, and messages many."""


def tell_uncertain(entry: RelayEntry, recipients: Sequence[Address], reason: str) -> None:
    """Say in the log whom a double may reach."""
    for recipient in recipients:
        maillog.emit(
            "recipient.uncertain",
            maillog.WARNING,
            queue_id=entry.queue_id,
            recipient=str(recipient),
            attempt=entry.attempts + 1,
            reason=reason,
        )


def tell(entry: RelayEntry, recipient: Address, outcome: Outcome, plan: Attempt) -> None:
    """Say in the log what became of one recipient."""
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
        delay_s=round(plan.delay_s) if isinstance(outcome, Deferred) and not plan.hold else None,
    )


def _event_of(outcome: Outcome) -> tuple[str, int]:
    if isinstance(outcome, Delivered):
        return "delivered", maillog.INFO
    if isinstance(outcome, Failed):
        return "failed", maillog.WARNING
    return ("uncertain" if outcome.uncertain else "deferred"), maillog.WARNING


def describe(recipient: Address, outcome: Outcome) -> dict[str, object]:
    """Give what the history keeps of the outcome of one recipient."""
    described: dict[str, object] = {"recipient": str(recipient), "event": _event_of(outcome)[0]}
    if outcome.reply:
        described["reply"] = str(outcome.reply)
    if not isinstance(outcome, Delivered):
        described["reason"] = outcome.reason
    if outcome.peer.mx_host:
        described["mx_host"] = outcome.peer.mx_host
    if outcome.peer.address:
        described["mx_address"] = outcome.peer.address
    if outcome.peer.tls:
        described["tls"] = outcome.peer.tls
    return described


def shorten(deferred: Deferred) -> str:
    """Give the reason for the list of the queue."""
    text = f"{deferred.reply} ({deferred.reason})" if deferred.reply else deferred.reason
    return text if len(text) <= MAX_WHY else text[: MAX_WHY - 1] + "…"
