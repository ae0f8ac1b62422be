"""Which outcomes are reported, and how they are written down until they are."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.address import Address, Domain
from ptt.core.dsn import (
    MAX_OUTCOMES,
    MAX_TEXT,
    Action,
    ReportedOutcome,
    decide_action,
    format_reported,
    is_wanted,
    make_reported,
    parse_reported,
)
from ptt.core.errors import MalformedInput
from ptt.core.notify import NEVER_REPORT, NO_REQUEST, Notify, RecipientRequest
from ptt.core.options import ByMode, Deadline
from ptt.core.outcome import Deferred, Delivered, Failed, Outcome, Peer, Scope
from ptt.core.reply import Reply
from ptt.core.verdict import Fault, decide_fault

RITA = Address("rita", Domain("destination.test"))
PEER = Peer(mx_host="mx.destination.test", address="192.0.2.1")
REFUSED = Failed(reason="refused at RCPT", scope=Scope.RECIPIENT, reply=Reply(550, "5.1.1", "no such user"), peer=PEER)
LATER = Deferred(reason="refused for now at RCPT", scope=Scope.RECIPIENT, reply=Reply(450, "4.2.1", "later"), peer=PEER)
TAKEN = Delivered(reply=Reply(250, "2.0.0", "ok"), peer=PEER)
TAKEN_BY_DSN = Delivered(reply=Reply(250, "2.0.0", "ok"), peer=Peer(mx_host="mx.destination.test", takes_requests=True))


@pytest.mark.parametrize(
    ("outcome", "is_late", "expected"),
    [
        (REFUSED, False, Action.FAILED),
        (REFUSED, True, Action.FAILED),
        (LATER, False, None),
        (LATER, True, Action.DELAYED),
        (TAKEN, True, Action.RELAYED),
        (TAKEN_BY_DSN, True, None),
    ],
)
def test_action_follows_from_the_outcome(outcome: Outcome, is_late: bool, expected: Action | None) -> None:  # noqa: FBT001 - a case of the table
    """RFC 3461 section 5.2: a peer that offers DSN reports success itself; a wait is told when it is long."""
    assert decide_action(outcome, is_late=is_late) is expected


@pytest.mark.parametrize(
    ("notify", "expected"),
    [
        (None, {Action.FAILED, Action.DELAYED}),
        ({Notify.NEVER}, set()),
        ({Notify.SUCCESS}, {Action.RELAYED}),
        ({Notify.FAILURE}, {Action.FAILED}),
        ({Notify.DELAY, Notify.SUCCESS}, {Action.DELAYED, Action.RELAYED}),
    ],
)
def test_only_what_was_asked_for_is_reported(notify: set[Notify] | None, expected: set[Action]) -> None:
    """RFC 3461 section 4.1; without NOTIFY failures and delays are reported."""
    request = NO_REQUEST if notify is None else RecipientRequest(notify=frozenset(notify))
    assert {action for action in Action if is_wanted(action, request)} == expected


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [
        (None, {Action.FAILED}),
        (Deadline(at=1, mode=ByMode.RETURN), {Action.FAILED}),
        (Deadline(at=1, mode=ByMode.NOTIFY), set(Action)),
        (Deadline(at=1, mode=ByMode.RETURN, is_traced=True), set(Action)),
    ],
)
def test_deadline_that_asks_for_notices_is_asked_once_more_than_notify(
    deadline: Deadline | None, expected: set[Action]
) -> None:
    """RFC 2852 section 4: a notice of delay and of relaying, unless NOTIFY=NEVER forbids every report."""
    request = RecipientRequest(notify=frozenset({Notify.FAILURE}))
    assert {action for action in Action if is_wanted(action, request, deadline)} == expected
    assert not any(is_wanted(action, NEVER_REPORT, deadline) for action in Action)


@pytest.mark.parametrize("mode", ByMode)
def test_host_that_knows_deadlines_takes_the_message_over(mode: ByMode) -> None:
    """RFC 2852 section 4: only where nobody keeps to the deadline any more is the sender told that it was relayed."""
    deadline = Deadline(at=1, mode=mode)
    expected = Action.RELAYED if mode is ByMode.NOTIFY else None
    assert decide_action(TAKEN_BY_DSN, is_late=False, deadline=deadline) is expected
    knowing = replace(TAKEN_BY_DSN, peer=replace(TAKEN_BY_DSN.peer, takes_deadlines=True))
    assert decide_action(knowing, is_late=False, deadline=deadline) is None


def make(outcome: Outcome, action: Action) -> ReportedOutcome:
    """Take an outcome of RITA."""
    return make_reported(RITA, outcome, action)


@pytest.mark.parametrize(
    ("outcome", "action", "status", "diagnostic"),
    [
        (REFUSED, Action.FAILED, "5.1.1", "550 5.1.1 no such user"),
        (LATER, Action.DELAYED, "4.2.1", "450 4.2.1 later"),
        (TAKEN, Action.RELAYED, "2.0.0", "250 2.0.0 ok"),
        (Failed(reason="r", scope=Scope.HOST, reply=Reply(550, "", "no")), Action.FAILED, "5.0.0", "550 no"),
        (Deferred(reason="timed out", scope=Scope.HOST), Action.DELAYED, "4.0.0", ""),
        (decide_fault(Fault.NULL_MX), Action.FAILED, "5.1.10", ""),
        (
            Failed(
                reason="tried for 5 days",
                scope=Scope.RECIPIENT,
                reply=Reply(550, "5.4.7", "expired"),
                is_remote=False,
                last_reply=LATER.reply,
            ),
            Action.FAILED,
            "5.4.7",
            "450 4.2.1 later",
        ),
    ],
)
def test_reported_outcome_has_a_status_of_its_class_and_only_words_of_a_server(
    outcome: Outcome, action: Action, status: str, diagnostic: str
) -> None:
    """RFC 3461 section 6.3: x.0.0 where nothing better is known; Diagnostic-Code is what a server replied."""
    reported = make(outcome, action)
    assert (reported.status, reported.diagnostic) == (status, diagnostic)


def test_remote_text_is_cleaned_and_capped() -> None:
    """A server's words are one line of printable ASCII, too short for a letter."""
    hostile = Reply(550, "5.1.1", "x\r\n--boundary\r\n\x1b[2J\u202e" + "y" * 10_000)
    reported = make(Failed(reason="r\n", scope=Scope.HOST, reply=hostile, peer=Peer(mx_host="a\r\nb")), Action.FAILED)
    assert reported.diagnostic.startswith("550 5.1.1 x??--boundary???[2J?yyy")
    assert len(reported.diagnostic) == MAX_TEXT
    assert (reported.reason, reported.mx_host) == ("r?", "a??b")


texts = st.text(max_size=20)


@given(st.lists(st.tuples(texts, st.sampled_from([REFUSED, LATER, TAKEN])), max_size=5))
def test_record_written_and_read_is_the_same(cases: list[tuple[str, Outcome]]) -> None:
    """What the relay recorded is what the sign role reads."""
    actions = {REFUSED: Action.FAILED, LATER: Action.DELAYED, TAKEN: Action.RELAYED}
    outcomes = tuple(make_reported(Address(local, RITA.domain), one, actions[one]) for local, one in cases)
    assert parse_reported(format_reported(outcomes)) == outcomes


ROW = ["rita", "destination.test", "failed", "5.1.1", "mx", "d", "r"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{}",
        b"[1]",
        b"[[]]",
        json.dumps([ROW] * (MAX_OUTCOMES + 1)).encode(),
        json.dumps([[*ROW, "more"]]).encode(),
        json.dumps([[*ROW[:2], "expanded", *ROW[3:]]]).encode(),
        json.dumps([[*ROW[:3], "4.1.1", *ROW[4:]]]).encode(),
        json.dumps([[*ROW[:3], "5.1.1\r\nX: y", *ROW[4:]]]).encode(),
    ],
)
def test_record_that_is_none_is_refused(data: bytes) -> None:
    """The sign role believes nothing that it reads."""
    with pytest.raises(MalformedInput):
        parse_reported(data)


def test_record_of_a_hostile_relay_is_cleaned() -> None:
    """What did not pass through our own relay is cleaned and capped all the same."""
    row = [*ROW[:4], "mx\r\nX: y", "a\nb" + "c" * 10_000, "\x00"]
    (outcome,) = parse_reported(json.dumps([row]).encode())
    assert (outcome.mx_host, outcome.reason) == ("mx??X:?y", "?")
    assert outcome.diagnostic == "a?b" + "c" * (MAX_TEXT - 3)
