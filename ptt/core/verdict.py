"""What a reply or a fault means for the recipients: the one table. RFC 5321 sections 4.2.1, 4.3.2 and 4.5.3.1.10.

Rule 1: only the first digit of a code counts, and a reply that the phase does not allow is a fault of the host.
Rule 2: what is not known to be final is deferred; only the queue lifetime ends it.
Rule 3: once the final dot was sent, whatever is not a 2yz, 4yz or 5yz reply leaves the outcome uncertain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ptt.core.outcome import Deferred, Delivered, Failed, Outcome, Peer, Scope
from ptt.core.reply import Reply


class Phase(StrEnum):
    """Where a session or transaction was when the reply or the fault came."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    DOT = "final dot"


class Fault(StrEnum):
    """What can go wrong without a reply that says so."""

    NULL_MX = "null_mx"
    NO_SUCH_DOMAIN = "no_such_domain"
    NO_ADDRESS = "no_address"
    LOOP = "loop"
    PRIVATE_ADDRESS = "private_address"
    DNS_UNAVAILABLE = "dns_unavailable"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    MALFORMED_REPLY = "malformed_reply"
    TLS_FAILED = "tls_failed"
    TOO_BIG = "too_big"
    NEEDS_8BITMIME = "needs_8bitmime"
    NEEDS_SMTPUTF8 = "needs_smtputf8"
    NEEDS_REQUIRETLS = "needs_requiretls"
    NEEDS_DELIVERBY = "needs_deliverby"
    NOT_TRUSTED = "not_trusted"
    BARE_NEWLINE = "bare_newline"
    SPOOL_UNAVAILABLE = "spool_unavailable"
    UNKNOWN = "unknown"


Failure = Deferred | Failed
"""An outcome that is not a delivery."""


@dataclass(frozen=True, slots=True)
class _Rule:
    scope: Scope
    reason: str
    final: tuple[int, str] | None = None
    """Code and enhanced status of the report if the fault is final; None: deferred."""


_SCOPES = {
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

_RULES = {
    # RFC 7505 section 3: the domain says itself that it takes no mail.
    Fault.NULL_MX: _Rule(Scope.DOMAIN, "the domain takes no mail (null MX)", (556, "5.1.10")),
    Fault.NO_SUCH_DOMAIN: _Rule(Scope.DOMAIN, "the domain does not exist", (550, "5.1.2")),
    # RFC 5321 section 5.1: MX hosts that are all unusable are an error, and never a reason to try the domain's A.
    Fault.NO_ADDRESS: _Rule(Scope.HOST, "the mail host has no address", (550, "5.4.4")),
    Fault.LOOP: _Rule(Scope.DOMAIN, "the mail exchanger of the domain is this server", (554, "5.4.6")),
    Fault.PRIVATE_ADDRESS: _Rule(Scope.HOST, "the mail host has a loopback or private address", (554, "5.4.6")),
    Fault.DNS_UNAVAILABLE: _Rule(Scope.DOMAIN, "the DNS cannot be asked"),
    Fault.UNREACHABLE: _Rule(Scope.HOST, "no connection"),
    Fault.TIMEOUT: _Rule(Scope.HOST, "timed out"),
    Fault.DISCONNECTED: _Rule(Scope.HOST, "connection lost"),
    Fault.MALFORMED_REPLY: _Rule(Scope.HOST, "malformed reply"),
    Fault.TLS_FAILED: _Rule(Scope.HOST, "TLS failed"),
    Fault.TOO_BIG: _Rule(Scope.MESSAGE, "the message is larger than the mail host takes", (552, "5.3.4")),
    Fault.NEEDS_8BITMIME: _Rule(Scope.MESSAGE, "the mail host does not take 8-bit content", (554, "5.6.3")),
    Fault.NEEDS_SMTPUTF8: _Rule(Scope.RECIPIENT, "the mail host does not take SMTPUTF8", (553, "5.6.7")),
    # RFC 8689 section 4.2.1: another host may do; if none does, the message comes back.
    Fault.NEEDS_REQUIRETLS: _Rule(Scope.HOST, "REQUIRETLS support required", (550, "5.7.30")),
    # RFC 2852: who does not know the deadline would deliver after it what was to come back.
    Fault.NEEDS_DELIVERBY: _Rule(Scope.HOST, "the mail host keeps no deadlines (DELIVERBY)", (554, "5.4.7")),
    Fault.NOT_TRUSTED: _Rule(Scope.HOST, "REQUIRETLS needs a mail host that proves who it is", (550, "5.7.30")),
    Fault.BARE_NEWLINE: _Rule(Scope.MESSAGE, "the message has a bare CR or LF", (554, "5.6.0")),
    Fault.SPOOL_UNAVAILABLE: _Rule(Scope.ATTEMPT, "the spool cannot be asked"),
    Fault.UNKNOWN: _Rule(Scope.ATTEMPT, "unexpected error"),
}

_TEMPORARY = {
    # RFC 5321 section 4.5.3.1.10: a client SHOULD treat 552 to RCPT (too many recipients, once) as temporary.
    (Phase.RCPT, 552),
}

SHUTTING_DOWN = 421
"""The host closes the connection: RFC 5321 section 3.8 lets it say so to any command."""


def is_expected(phase: Phase, reply: Reply) -> bool:
    """Tell whether the reply lets the phase go on: 3yz to DATA, 2yz to all else (RFC 5321 section 4.3.2)."""
    return reply.code // 100 == (3 if phase is Phase.DATA else 2)


def is_too_many_recipients(reply: Reply) -> bool:
    """Tell whether a refused RCPT may be sent again in the next transaction (RFC 5321 section 4.5.3.1.10)."""
    return reply.code in (452, 552) and reply.enhanced_status in ("", "4.5.3", "5.5.3")


def decide_reply(phase: Phase, reply: Reply, peer: Peer) -> Outcome:
    """Decide what a reply means: Delivered for 2yz to the final dot, else as `decide_refusal`."""
    if phase is Phase.DOT and reply.is_success:
        return Delivered(reply=reply, peer=peer)
    return decide_refusal(phase, reply, peer)


def decide_refusal(phase: Phase, reply: Reply, peer: Peer) -> Failure:
    """Decide what a reply that is not `is_expected` means for those it speaks of.

    Args:
        phase: which command it answers.
        reply: the reply.
        peer: who sent it.

    Returns:
        Deferred or Failed with the scope of the phase; a reply that is neither 4yz nor 5yz is a fault of the host.
    """
    scope = Scope.HOST if reply.code == SHUTTING_DOWN else _SCOPES[phase]
    if reply.is_permanent and (phase, reply.code) not in _TEMPORARY:
        return Failed(reason=f"refused at {phase}", scope=scope, reply=reply, peer=peer)
    if reply.is_transient or reply.is_permanent:
        return Deferred(reason=f"refused for now at {phase}", scope=scope, reply=reply, peer=peer)
    reason, uncertain = f"unexpected reply at {phase}", phase is Phase.DOT
    return Deferred(reason=reason, scope=Scope.HOST, reply=reply, peer=peer, uncertain=uncertain)


def decide_fault(fault: Fault, *, phase: Phase | None = None, peer: Peer | None = None, detail: str = "") -> Failure:
    """Decide what a fault means.

    Args:
        fault: what went wrong.
        phase: where, if a session was under way.
        peer: whom we spoke to, as far as it got.
        detail: more for the log, without anything that a remote server wrote.

    Returns:
        Deferred unless the table says that the fault is final; uncertain if the final dot was sent.
    """
    rule = _RULES[fault]
    place = f" at {phase}" if phase else ""
    reason = f"{rule.reason}{place}: {detail}" if detail else f"{rule.reason}{place}"
    if rule.final is None:
        uncertain = phase is Phase.DOT
        return Deferred(reason=reason, scope=rule.scope, peer=peer or Peer(), uncertain=uncertain)
    code, enhanced_status = rule.final
    reply = Reply(code, enhanced_status, rule.reason)
    return Failed(reason=reason, scope=rule.scope, reply=reply, peer=peer or Peer(), is_remote=False)


def decide_exhausted(failures: Sequence[Failure]) -> Failure:
    """Decide the outcome of an attempt when no host is left to try.

    Args:
        failures: what happened at each host or address, in the order they were tried.

    Returns:
        The last temporary failure; a final one only if each was final (RFC 5321 section 5.1).
    """
    deferred = [failure for failure in failures if isinstance(failure, Deferred)]
    return (deferred or failures or [decide_fault(Fault.UNKNOWN)])[-1]
