"""One attempt to log in: the SASL exchange with the client, and the one final reply to it. RFC 4954 section 4."""

import base64
import logging
from collections.abc import Awaitable, Callable

from ptt import maillog
from ptt.core.errors import Refused, Unavailable
from ptt.core.reply import Reply
from ptt.ingress import replies
from ptt.ingress.gate import Gate
from ptt.ingress.inbox import MAX_LINE
from ptt.ingress.sasl import MECHANISMS, Exchange, decode_initial, decode_response
from ptt.ingress.steps import Authenticate

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a line and gives the line that the client answers, both without CRLF."""


async def log_in(step: Authenticate, ask: Ask, gate: Gate) -> tuple[Reply, str]:
    """Run one attempt.

    Args:
        step: what AUTH said.
        ask: the way to the client.
        gate: who checks what the client says.

    Returns:
        The final reply, and the login if it is a success, else nothing.
    """
    try:
        initial = None if step.initial is None else decode_initial(step.initial)
        exchange = Exchange(gate, lambda challenge: _ask_response(challenge, ask), initial)
        return replies.LOGGED_IN, await MECHANISMS[step.mechanism](exchange)
    except Refused as refusal:
        reply = refusal.reply
    except Unavailable as error:
        maillog.emit("users.unavailable", logging.ERROR, reason=str(error))
        reply = replies.LOGIN_UNAVAILABLE
    maillog.emit(
        "auth.failed",
        logging.WARNING,
        user=gate.login,
        mechanism=step.mechanism,
        client_address=gate.client_address,
        reason=gate.reason or reply.text,
        reply_code=reply.code,
        enhanced_status=reply.enhanced_status,
    )
    return reply, ""


async def _ask_response(challenge: bytes, ask: Ask) -> bytes:
    line = await ask(b"334 " + base64.b64encode(challenge))
    if line == b"*":
        raise Refused(replies.CANCELLED)
    if len(line) + 2 > MAX_LINE:
        raise Refused(replies.AUTH_LINE_TOO_LONG)
    return decode_response(line)
