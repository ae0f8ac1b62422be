"""The end of a session before its time, and which fault of the verdict table an exception stands for."""

import ssl

import aiosmtplib

from ptt.core.outcome import Peer
from ptt.core.reply import Reply, make_reply
from ptt.core.verdict import SHUTTING_DOWN, Failure, Fault, Phase, decide_fault, decide_refusal
from ptt.smtp.protocol import MalformedReply, UnsolicitedReply


class SessionLost(Exception):  # noqa: N818 - the name says what happened
    """The connection cannot be used any more, or was never made; ``failure`` is what that means for the message."""

    def __init__(self, failure: Failure, phase: Phase, fault: Fault | None = None) -> None:
        """Keep what happened; ``fault`` is None if the host said it in a reply."""
        super().__init__(failure.reason)
        self.failure = failure
        self.phase = phase
        self.fault = fault


_FAULTS: tuple[tuple[type[Exception], Fault], ...] = (
    (MalformedReply, Fault.MALFORMED_REPLY),
    (TimeoutError, Fault.TIMEOUT),
    (aiosmtplib.SMTPTimeoutError, Fault.TIMEOUT),
    (ssl.SSLError, Fault.TLS_FAILED),
    (ConnectionError, Fault.DISCONNECTED),
    (aiosmtplib.SMTPServerDisconnected, Fault.DISCONNECTED),
    (OSError, Fault.DISCONNECTED),
)

SESSION_ERRORS = (aiosmtplib.SMTPException, OSError, MalformedReply)
"""All that aiosmtplib, asyncio and our protocol raise when a connection or what comes over it is at fault."""


def classify_error(error: Exception) -> Fault:
    """Give the fault that an exception of `SESSION_ERRORS` stands for."""
    return next((fault for kind, fault in _FAULTS if isinstance(error, kind)), Fault.UNKNOWN)


def make_loss(error: Exception, phase: Phase, peer: Peer, fault: Fault | None = None) -> SessionLost:
    """Say what an exception means for the message.

    Args:
        error: one of `SESSION_ERRORS`.
        phase: where it happened.
        peer: whom we spoke to.
        fault: instead of what `classify_error` says.
    """
    if isinstance(error, UnsolicitedReply):
        return _make_early_loss(to_reply(error.response), phase, peer)
    fault = fault or classify_error(error)
    return SessionLost(decide_fault(fault, phase=phase, peer=peer, detail=_describe(error)), phase, fault)


def _make_early_loss(reply: Reply, phase: Phase, peer: Peer) -> SessionLost:
    # In the midst of the content a refusal is the peer's verdict on it (too big, a virus); 421 is one anywhere.
    speaks_of_us = phase is Phase.CONTENT and (reply.is_transient or reply.is_permanent)
    if speaks_of_us or reply.code == SHUTTING_DOWN:
        return SessionLost(decide_refusal(phase, reply, peer), phase)
    detail = f"{reply.code} came too early"
    return SessionLost(decide_fault(Fault.MALFORMED_REPLY, phase=phase, peer=peer, detail=detail), phase)


def _describe(error: Exception) -> str:
    # Only our own words and those of the system: the text of aiosmtplib's exceptions may quote the remote server.
    if isinstance(error, MalformedReply):
        return str(error)
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return (cause.strerror or "") if isinstance(cause, OSError) else ""


def to_reply(response: aiosmtplib.SMTPResponse) -> Reply:
    """Make a response of aiosmtplib a reply of ours, safe to log."""
    return make_reply(response.code, response.message)
