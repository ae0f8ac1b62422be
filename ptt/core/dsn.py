"""What a report says of each recipient: which outcomes are reported, and how they are written down until it is made.

The relay writes them down, the sign role reads them: what is read is cleaned and capped again, whoever wrote it.
RFC 3464 section 2.3, RFC 3461 sections 5.2 and 6.3.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ptt.core.address import Address, Domain
from ptt.core.errors import MalformedInput
from ptt.core.notify import Notify, RecipientRequest
from ptt.core.options import Deadline, wants_trace
from ptt.core.outcome import Deferred, Delivered, Failed, Outcome
from ptt.core.reply import Reply

MAX_TEXT = 512
"""Characters of one remote text. The threat: a remote server, or who took over a relay, writes these words, and they
go out signed in the name of our user's domain: enough to tell what was wrong, too little for a letter."""
MAX_OUTCOMES = 100
"""Outcomes in one record, so that the report of a message to 100,000 recipients comes in parts of bounded size."""

_UNPRINTABLE = re.compile(r"[^ -~]")
_NOT_A_HOST = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


class Action(StrEnum):
    """What became of the message for a recipient (RFC 3464 section 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


_EVENTS = {Action.FAILED: Notify.FAILURE, Action.DELAYED: Notify.DELAY, Action.RELAYED: Notify.SUCCESS}
_NEVER = frozenset({Notify.NEVER})
_CLASSES = {Action.FAILED: "5", Action.DELAYED: "4", Action.RELAYED: "2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedOutcome:
    """What a report says of one recipient; all texts are printable ASCII of bounded length."""

    recipient: Address
    action: Action
    status: str
    """Enhanced status of the class of the action."""
    mx_host: str = ""
    diagnostic: str = ""
    """What the server replied, on one line; empty if none did."""
    reason: str = ""
    """What was wrong, in our own words."""


def decide_action(outcome: Outcome, *, is_late: bool, deadline: Deadline | None = None) -> Action | None:
    """Decide what is to be reported of an outcome, if anything and if it is wanted.

    Args:
        outcome: what an attempt came to.
        is_late: whether the message has waited for so long that its sender is told.
        deadline: of the message, if it has one.
    """
    if isinstance(outcome, Failed):
        return Action.FAILED
    if isinstance(outcome, Deferred):
        return Action.DELAYED if is_late else None
    # RFC 2852 section 4: the message leaves those who know its deadline.
    if wants_trace(deadline) and not outcome.peer.takes_deadlines:
        return Action.RELAYED
    # RFC 3461 sections 5.2.1 and 5.2.2: who takes requests reports success; of all others we say that we relayed.
    return None if outcome.peer.takes_requests else Action.RELAYED


def is_wanted(action: Action, request: RecipientRequest, deadline: Deadline | None = None) -> bool:
    """Tell whether a report of this may be sent."""
    # RFC 2852 section 4: a deadline that ends in a notice asks for it, unless NOTIFY=NEVER says otherwise.
    if action is not Action.FAILED and wants_trace(deadline) and request.notify != _NEVER:
        return True
    return request.wants(_EVENTS[action])


def make_reported(recipient: Address, outcome: Outcome, action: Action) -> ReportedOutcome:
    """Take from an outcome what a report says of it."""
    said = _find_remote_reply(outcome)
    return ReportedOutcome(
        recipient=recipient,
        action=action,
        status=_choose_status(outcome.reply, action),
        mx_host=_clean_host(outcome.peer.mx_host),
        diagnostic=_clean(str(said) if said else ""),
        reason="" if isinstance(outcome, Delivered) else _clean(outcome.reason),
    )


def format_reported(outcomes: Sequence[ReportedOutcome]) -> bytes:
    """Write outcomes down."""
    rows = [
        (one.recipient.local, one.recipient.domain, one.action, one.status, one.mx_host, one.diagnostic, one.reason)
        for one in outcomes
    ]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()


def split_reported(outcomes: Sequence[ReportedOutcome]) -> tuple[bytes, ...]:
    """Write any number of outcomes down, in records of at most MAX_OUTCOMES."""
    starts = range(0, len(outcomes), MAX_OUTCOMES)
    return tuple(format_reported(outcomes[start : start + MAX_OUTCOMES]) for start in starts)


def parse_reported(data: bytes) -> tuple[ReportedOutcome, ...]:
    """Read what `format_reported` wrote, trusting none of it.

    Raises:
        MalformedInput: if it is no such record.
    """
    try:
        rows = json.loads(data)
        if not isinstance(rows, list) or len(rows) > MAX_OUTCOMES:
            raise MalformedInput("not a record of outcomes: no list, or too long")
        return tuple(map(_parse_row, rows))
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedInput(f"not a record of outcomes: {error!r}") from error


def _parse_row(row: Sequence[object]) -> ReportedOutcome:
    local, domain, word, status, mx_host, diagnostic, reason = map(str, row)
    action = Action(word)
    if not _STATUS.fullmatch(status) or status[0] != _CLASSES[action]:
        raise MalformedInput(f"{status[:16]!r} is no status of {action}")
    return ReportedOutcome(
        recipient=Address(local, Domain(domain)),
        action=action,
        status=status,
        mx_host=_clean_host(mx_host),
        diagnostic=_clean(diagnostic),
        reason=_clean(reason),
    )


def _find_remote_reply(outcome: Outcome) -> Reply | None:
    if isinstance(outcome, Failed) and not outcome.is_remote:
        return outcome.last_reply
    return outcome.reply


def _choose_status(reply: Reply | None, action: Action) -> str:
    # RFC 3461 section 6.3 (g): x.0.0 when nothing better is known; RFC 3464 section 2.3.4: of the class of the action.
    status = reply.enhanced_status if reply else ""
    wanted = _CLASSES[action]
    return status if status.startswith(wanted) and _STATUS.fullmatch(status) else f"{wanted}.0.0"


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("?", text[:MAX_TEXT])


def _clean_host(name: str) -> str:
    return _NOT_A_HOST.sub("?", name[:MAX_TEXT])
