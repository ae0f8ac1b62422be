"""What a message needs of its peer, and whom it fails for if the peer lacks it.

RFC 1870, RFC 2852, RFC 6152, RFC 6531, RFC 8689.
"""

from collections.abc import AsyncGenerator

from ptt.core.options import ByMode
from ptt.core.outbound import OutboundMessage
from ptt.core.verdict import Fault, Phase, decide_fault
from ptt.smtp.attempt import Attempt
from ptt.smtp.content import HeaderScan
from ptt.smtp.faults import SessionLost
from ptt.smtp.session import Session


async def settle_unmet_demands(session: Session, attempt: Attempt) -> None:
    """Fail the recipients that the peer cannot be given the message for; nothing is sent for them.

    Raises:
        SessionLost: another host may be given it.
        Unavailable: the header had to be looked at and the spool is away.
    """
    message, extensions = attempt.message, session.extensions
    deadline = message.options.deadline
    if message.options.requires_tls and not extensions.require_tls:
        # RFC 8689 section 4.2.1: the next host may offer it.
        failure = decide_fault(Fault.NEEDS_REQUIRETLS, peer=session.peer)
        raise SessionLost(failure, Phase.EHLO, Fault.NEEDS_REQUIRETLS)
    if deadline is not None and deadline.mode is ByMode.RETURN and not extensions.deliver_by:
        # RFC 2852 section 4: it must not go where nobody would return it; the next host may know deadlines.
        raise SessionLost(decide_fault(Fault.NEEDS_DELIVERBY, peer=session.peer), Phase.EHLO, Fault.NEEDS_DELIVERBY)
    if 0 < extensions.size_limit < message.size_bytes:
        # RFC 1870 section 6.1: a message over the limit that was named would be refused in any case.
        attempt.settle_rest(decide_fault(Fault.TOO_BIG, peer=session.peer))
    elif message.body == "8BITMIME" and not extensions.eight_bit_mime:
        # RFC 6152 section 3: to re-encode it as 7-bit would break its signature, so that only a report is left.
        attempt.settle_rest(decide_fault(Fault.NEEDS_8BITMIME, peer=session.peer))
    elif not (extensions.smtputf8 and message.smtputf8):
        await _settle_smtputf8(session, attempt)


async def _settle_smtputf8(session: Session, attempt: Attempt) -> None:
    # RFC 6531 section 3.2: without the extension an ASCII message to ASCII addresses may still go.
    failure = decide_fault(Fault.NEEDS_SMTPUTF8, peer=session.peer)
    message = attempt.message
    is_sender_ascii = message.reverse_path is None or message.reverse_path.is_ascii
    if not is_sender_ascii or (message.smtputf8 and not await _is_header_ascii(message)):
        attempt.settle_rest(failure)
    else:
        attempt.settle([r for r in attempt.remaining if not r.is_ascii], failure)


async def _is_header_ascii(message: OutboundMessage) -> bool:
    scan = HeaderScan()
    parts = message.read()
    try:
        async for part in parts:
            scan.feed(part)
            if scan.is_done:
                break
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()
    return scan.is_ascii
