"""One attempt to log in: the SASL exchange with the client, then the question to the users. RFC 4954 section 4.

Each attempt ends in exactly one final reply, and a wrong password gets the same as an unknown user.
"""

import base64
import logging
from collections.abc import Awaitable, Callable

from ptt import maillog
from ptt.core.errors import Refused, Unavailable
from ptt.core.ports import Users
from ptt.core.reply import Reply
from ptt.ingress import replies
from ptt.ingress.inbox import MAX_LINE
from ptt.ingress.sasl import INVALID_CREDENTIALS, MECHANISMS, Credentials, decode_initial, decode_response
from ptt.ingress.steps import Authenticate

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a line and gives the line that the client answers, both without CRLF."""


async def log_in(step: Authenticate, ask: Ask, users: Users, client_address: str) -> tuple[Reply, str]:
    """Run one attempt.

    Args:
        step: what AUTH said.
        ask: the way to the client.
        users: who may log in.
        client_address: for the log.

    Returns:
        The final reply, and the login if it is a success, else nothing.
    """
    login = ""
    try:
        credentials = await _exchange(step, ask)
        login = credentials.login
        user = await users.authenticate(login, credentials.password)
    except Refused as refusal:
        reply = refusal.reply
    except Unavailable as error:
        maillog.emit("users.unavailable", logging.ERROR, reason=str(error))
        reply = replies.LOGIN_UNAVAILABLE
    else:
        if user is not None:
            return replies.LOGGED_IN, user.login
        reply = INVALID_CREDENTIALS
    maillog.emit(
        "auth.failed",
        logging.WARNING,
        user=login,
        mechanism=step.mechanism,
        client_address=client_address,
        reply_code=reply.code,
        enhanced_status=reply.enhanced_status,
    )
    return reply, ""


async def _exchange(step: Authenticate, ask: Ask) -> Credentials:
    initial = None if step.initial is None else decode_initial(step.initial)
    exchange = MECHANISMS[step.mechanism](initial)
    try:
        challenge = next(exchange)
        while True:
            challenge = exchange.send(await _ask_response(challenge, ask))
    except StopIteration as end:
        credentials: Credentials = end.value
        return credentials


async def _ask_response(challenge: bytes, ask: Ask) -> bytes:
    line = await ask(b"334 " + base64.b64encode(challenge))
    if line == b"*":
        raise Refused(replies.CANCELLED)
    if len(line) + 2 > MAX_LINE:
        raise Refused(replies.AUTH_LINE_TOO_LONG)
    return decode_response(line)
