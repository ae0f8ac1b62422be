"""The table of verdicts: each phase with each class of reply, each fault."""

import pytest

from ptt.core.outcome import Deferred, Delivered, Failed, Peer, Scope
from ptt.core.reply import Reply
from ptt.core.verdict import (
    Fault,
    Phase,
    decide_exhausted,
    decide_fault,
    decide_refusal,
    decide_reply,
    is_expected,
    is_too_many_recipients,
)

PEER = Peer(mx_host="mx.example", address="192.0.2.1", tls="TLSv1.3")

SCOPES = {
    Phase.CONNECT: Scope.HOST,
    Phase.GREETING: Scope.HOST,
    Phase.EHLO: Scope.HOST,
    Phase.STARTTLS: Scope.HOST,
    Phase.RSET: Scope.HOST,
    Phase.MAIL: Scope.MESSAGE,
    Phase.RCPT: Scope.RECIPIENT,
    Phase.DATA: Scope.MESSAGE,
    Phase.CONTENT: Scope.MESSAGE,
    Phase.DOT: Scope.MESSAGE,
}

FINAL = {
    Fault.NULL_MX: (556, "5.1.10", Scope.DOMAIN),
    Fault.NO_SUCH_DOMAIN: (550, "5.1.2", Scope.DOMAIN),
    Fault.NO_ADDRESS: (550, "5.4.4", Scope.HOST),
    Fault.LOOP: (554, "5.4.6", Scope.DOMAIN),
    Fault.PRIVATE_ADDRESS: (554, "5.4.6", Scope.HOST),
    Fault.TOO_BIG: (552, "5.3.4", Scope.MESSAGE),
    Fault.NEEDS_8BITMIME: (554, "5.6.3", Scope.MESSAGE),
    Fault.NEEDS_REQUIRETLS: (550, "5.7.30", Scope.HOST),
    Fault.NEEDS_DELIVERBY: (554, "5.4.7", Scope.HOST),
    Fault.NOT_TRUSTED: (550, "5.7.30", Scope.HOST),
    Fault.NEEDS_SMTPUTF8: (553, "5.6.7", Scope.RECIPIENT),
    Fault.BARE_NEWLINE: (554, "5.6.0", Scope.MESSAGE),
}


@pytest.mark.parametrize("code", [450, 451, 452, 454, 499, 500, 501, 521, 550, 552, 554, 599])
@pytest.mark.parametrize("phase", Phase)
def test_decide_refusal_follows_the_first_digit(phase: Phase, code: int) -> None:
    """RFC 5321 section 4.2.1: 4yz is deferred and 5yz fails, but 552 to RCPT is temporary (section 4.5.3.1.10)."""
    outcome = decide_refusal(phase, Reply(code), PEER)
    is_temporary = code < 500 or (phase, code) == (Phase.RCPT, 552)
    assert isinstance(outcome, Deferred if is_temporary else Failed)
    assert (outcome.scope, outcome.reply, outcome.peer) == (SCOPES[phase], Reply(code), PEER)
    assert not getattr(outcome, "uncertain", False)


@pytest.mark.parametrize("phase", Phase)
def test_decide_refusal_of_421_has_the_scope_of_the_host(phase: Phase) -> None:
    """RFC 5321 section 3.8: 421 to any command means that the host is closing."""
    outcome = decide_refusal(phase, Reply(421), PEER)
    assert isinstance(outcome, Deferred)
    assert outcome.scope is Scope.HOST
    assert not outcome.uncertain


@pytest.mark.parametrize(("phase", "code"), [(Phase.MAIL, 354), (Phase.DATA, 250), (Phase.RCPT, 334)])
def test_decide_refusal_of_a_reply_out_of_place_is_a_fault_of_the_host(phase: Phase, code: int) -> None:
    """A class of reply that the command cannot have proves nothing about the message: deferred."""
    outcome = decide_refusal(phase, Reply(code), PEER)
    assert isinstance(outcome, Deferred)
    assert outcome.scope is Scope.HOST
    assert not outcome.uncertain


@pytest.mark.parametrize("code", [200, 250, 251, 252, 299])
def test_decide_reply_to_the_dot_of_any_2yz_is_delivered(code: int) -> None:
    """RFC 5321 section 4.2.1: each 2yz is success; taken for a failure it would send the message twice."""
    assert decide_reply(Phase.DOT, Reply(code), PEER) == Delivered(reply=Reply(code), peer=PEER)


def test_decide_reply_to_the_dot_of_3yz_is_uncertain() -> None:
    """Nobody knows what 354 to the final dot means."""
    outcome = decide_reply(Phase.DOT, Reply(354), PEER)
    assert isinstance(outcome, Deferred)
    assert outcome.uncertain


def test_decide_reply_before_the_dot_never_delivers() -> None:
    """Only the reply to the final dot hands over responsibility (RFC 5321 section 6.1)."""
    before = [phase for phase in Phase if phase is not Phase.DOT]
    assert not any(isinstance(decide_reply(phase, Reply(250), PEER), Delivered) for phase in before)


@pytest.mark.parametrize("fault", Fault)
def test_decide_fault_is_final_only_where_the_table_says_so(fault: Fault) -> None:
    """What is not known to be final is deferred; a final fault has a reply for the report."""
    outcome = decide_fault(fault, peer=PEER, detail="why")
    assert outcome.peer == PEER
    assert outcome.reason.endswith(": why")
    if fault in FINAL:
        assert isinstance(outcome, Failed)
        assert (outcome.reply.code, outcome.reply.enhanced_status, outcome.scope) == FINAL[fault]
        assert outcome.reply.text
    else:
        assert isinstance(outcome, Deferred)
        assert not outcome.uncertain


@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.DISCONNECTED, Fault.MALFORMED_REPLY, Fault.UNKNOWN])
@pytest.mark.parametrize("phase", Phase)
def test_decide_fault_is_uncertain_only_at_the_dot(phase: Phase, fault: Fault) -> None:
    """Until the final dot is sent nothing can have been delivered; after it anything may have."""
    outcome = decide_fault(fault, phase=phase)
    assert isinstance(outcome, Deferred)
    assert outcome.uncertain is (phase is Phase.DOT)
    assert outcome.reason.endswith(f" at {phase}")


def test_decide_exhausted_is_final_only_if_each_failure_is() -> None:
    """RFC 5321 section 5.1: a host that may answer later keeps the message in the queue."""
    final = decide_fault(Fault.NO_ADDRESS)
    other = decide_fault(Fault.PRIVATE_ADDRESS)
    temporary = decide_fault(Fault.TIMEOUT, phase=Phase.CONNECT)
    later = decide_fault(Fault.UNREACHABLE, phase=Phase.CONNECT)
    assert decide_exhausted([final, other]) == other
    assert decide_exhausted([temporary, final]) == temporary
    assert decide_exhausted([temporary, later, final]) == later
    assert isinstance(decide_exhausted([]), Deferred)


@pytest.mark.parametrize(
    ("phase", "code", "expected"),
    [(Phase.MAIL, 250, True), (Phase.RCPT, 251, True), (Phase.DATA, 354, True), (Phase.DATA, 250, False),
     (Phase.MAIL, 354, False), (Phase.GREETING, 220, True), (Phase.EHLO, 421, False), (Phase.DOT, 550, False)],
)  # fmt: skip
def test_is_expected_knows_the_success_of_each_phase(phase: Phase, code: int, *, expected: bool) -> None:
    """RFC 5321 section 4.3.2: 3yz to DATA, 2yz to all else."""
    assert is_expected(phase, Reply(code)) is expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(Reply(452), True), (Reply(452, "4.5.3"), True), (Reply(552, "5.5.3"), True), (Reply(552), True),
     (Reply(452, "4.2.2"), False), (Reply(452, "4.3.1"), False), (Reply(450, "4.5.3"), False), (Reply(550), False)],
)  # fmt: skip
def test_is_too_many_recipients_reads_code_and_status(reply: Reply, *, expected: bool) -> None:
    """RFC 5321 section 4.5.3.1.10: 452 or 552, unless the enhanced status names another cause (RFC 3463)."""
    assert is_too_many_recipients(reply) is expected
