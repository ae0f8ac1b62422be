"""What of an attempt its sender is to be told: written down by the relay, reported by the sign role."""

from collections.abc import Iterable

from ptt.core.address import Address
from ptt.core.dsn import Action, ReportedOutcome, decide_action, is_wanted, make_reported, split_reported
from ptt.core.envelope import Envelope
from ptt.core.notify import NO_REQUEST
from ptt.core.outcome import Outcome
from ptt.store.attempts import Records

NOTHING = Records()


def select_records(envelope: Envelope, outcomes: Iterable[tuple[Address, Outcome]], *, is_late: bool) -> Records:
    """Write down what is to be reported of an attempt.

    Args:
        envelope: of the message, with what was asked.
        outcomes: what the attempt came to.
        is_late: whether the sender is to be told of recipients that are still waiting.
    """
    # RFC 5321 section 4.5.5, RFC 3461 section 5.2: mail with the null reverse-path is never answered by a report.
    if envelope.reverse_path is None:
        return NOTHING
    deadline = envelope.options.deadline
    delayed: list[ReportedOutcome] = []
    final: list[ReportedOutcome] = []
    for recipient, outcome in outcomes:
        action = decide_action(outcome, is_late=is_late, deadline=deadline)
        if action and is_wanted(action, envelope.requests.get(recipient, NO_REQUEST), deadline):
            told = delayed if action is Action.DELAYED else final
            told.append(make_reported(recipient, outcome, action))
    return Records(split_reported(delayed), split_reported(final)) if delayed or final else NOTHING
