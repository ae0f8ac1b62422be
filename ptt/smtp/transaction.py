"""One mail transaction: MAIL, RCPT, DATA, the content, the final dot. RFC 5321 section 3.3, RFC 2920.

With PIPELINING the envelope goes out in one write and the replies are read in order; without, each command waits for
its reply. The path through the replies is the same. Everything before `commit` can be given up without harm;
everything after it is either answered or uncertain.
"""

import time
from collections.abc import AsyncGenerator, Sequence

from ptt.core.address import Address
from ptt.core.errors import Unavailable
from ptt.core.notify import NO_REQUEST
from ptt.core.outcome import Delivered, Scope
from ptt.core.reply import Reply
from ptt.core.verdict import (
    Failure,
    Fault,
    Phase,
    decide_fault,
    decide_refusal,
    decide_reply,
    is_expected,
    is_too_many_recipients,
)
from ptt.smtp.attempt import Attempt
from ptt.smtp.commands import DATA, RSET, format_mail, format_rcpt
from ptt.smtp.content import BLOCK, BareNewline, DotStuffer, cut
from ptt.smtp.faults import SessionLost
from ptt.smtp.session import Session

END = b".\r\n"

MAX_RECIPIENTS = 100
"""Recipients of one transaction: what each server must take (RFC 5321 section 4.5.3.1.8)."""


class Transaction:
    """A message for some of its recipients over one session; settles each in the attempt as soon as it is known.

    Recipients that the peer found too many for one transaction stay without an outcome.
    """

    def __init__(self, session: Session, attempt: Attempt, recipients: Sequence[Address]) -> None:
        """Prepare; ``recipients`` are at most MAX_RECIPIENTS."""
        self._session = session
        self._attempt = attempt
        self._recipients = recipients
        self._accepted: list[Address] = []
        self._too_many: list[tuple[Address, Failure]] = []
        self._is_open = False
        """Whether the peer accepted MAIL."""
        self._is_sent_ahead = session.extensions.pipelining

    async def run(self) -> None:
        """Do it.

        Raises:
            SessionLost: the session ended first, and some recipients have no outcome; no final dot was sent for them.
            LeaseLost: the message's commit said so; no final dot was sent.
        """
        try:
            if not await self._open():
                return
            if self._accepted:
                await self._send_content()
            else:
                await self._send_nothing()
        except SessionLost:
            self._session.abort()
            if not self._attempt.is_settled(self._recipients):
                raise

    async def _open(self) -> bool:
        """Send the envelope and DATA; tell whether the peer waits for content."""
        message, extensions = self._attempt.message, self._session.extensions
        mail = format_mail(message, extensions, time.time())
        asked = message.requests
        recipients = [(one, format_rcpt(one, asked.get(one, NO_REQUEST), extensions)) for one in self._recipients]
        reset = [RSET] if self._session.needs_reset else []
        self._session.transactions += 1
        if self._is_sent_ahead:
            commands = [*reset, mail, *(command for _, command in recipients), DATA]
            self._session.send(b"".join(commands), replies=len(commands), phase=Phase.MAIL)
        if reset:
            self._check_reset(await self._ask(Phase.RSET, RSET))
        self._take_mail(await self._ask(Phase.MAIL, mail))
        if not self._is_open and not self._is_sent_ahead:
            return False
        for recipient, command in recipients:
            self._take_rcpt(recipient, await self._ask(Phase.RCPT, command))
        self._settle_too_many()
        if not self._accepted and not self._is_sent_ahead:
            return False
        return self._take_data(await self._ask(Phase.DATA, DATA))

    async def _ask(self, phase: Phase, command: bytes) -> Reply:
        if not self._is_sent_ahead:
            self._session.send(command, replies=1, phase=phase)
        return await self._session.read_reply(phase)

    def _check_reset(self, reply: Reply) -> None:
        if not is_expected(Phase.RSET, reply):
            raise SessionLost(decide_refusal(Phase.RSET, reply, self._session.peer), Phase.RSET)
        self._session.needs_reset = False

    def _take_mail(self, reply: Reply) -> None:
        if is_expected(Phase.MAIL, reply):
            self._is_open = self._session.needs_reset = True
        else:
            self._refuse(self._recipients, Phase.MAIL, reply)

    def _take_rcpt(self, recipient: Address, reply: Reply) -> None:
        if not self._is_open:
            return  # MAIL was refused: what a pipelined RCPT then hears says nothing of the recipient.
        if is_expected(Phase.RCPT, reply):
            self._accepted.append(recipient)
        elif is_too_many_recipients(reply):
            self._too_many.append((recipient, decide_refusal(Phase.RCPT, reply, self._session.peer)))
        else:
            self._refuse([recipient], Phase.RCPT, reply)

    def _settle_too_many(self) -> None:
        # RFC 5321 section 4.5.3.1.10: the rest go in a further transaction, unless this one made no headway.
        if not self._accepted:
            for recipient, failure in self._too_many:
                self._attempt.settle([recipient], failure)

    def _take_data(self, reply: Reply) -> bool:
        if is_expected(Phase.DATA, reply):
            return True
        self._refuse(self._accepted, Phase.DATA, reply)
        return False

    def _refuse(self, recipients: Sequence[Address], phase: Phase, reply: Reply) -> None:
        failure = decide_refusal(phase, reply, self._session.peer)
        if failure.scope is Scope.HOST:
            raise SessionLost(failure, phase)
        self._attempt.settle(recipients, failure)

    async def _send_nothing(self) -> None:
        if not self._is_open:
            # 354 after it refused MAIL: it may have taken recipients all the same, who would get an empty message.
            self._session.abort()
            return
        # RFC 2920 section 3.1: with no recipient accepted and 354 to the pipelined DATA, the dot ends an empty message
        # that goes to nobody; its reply is of no interest.
        self._session.send(END, replies=1, phase=Phase.CONTENT)
        await self._session.read_reply(Phase.DOT)
        self._session.needs_reset = False

    async def _send_content(self) -> None:
        try:
            last = await self._send_blocks()
            await self._attempt.message.commit(self._accepted, self._attempt.delivered)
        except Unavailable:
            self._give_up(Fault.SPOOL_UNAVAILABLE)
        except BareNewline:
            self._give_up(Fault.BARE_NEWLINE)
        else:
            await self._send_dot(last)

    def _give_up(self, fault: Fault) -> None:
        self._session.abort()
        self._attempt.settle_rest(decide_fault(fault, phase=Phase.CONTENT, peer=self._session.peer))

    async def _send_blocks(self) -> bytes:
        """Send all but the last block, and give that one with the final dot."""
        stuffer = DotStuffer()
        held: list[bytes] = []
        held_bytes = 0
        parts = self._attempt.message.read()
        try:
            async for part in parts:
                for piece in cut(part):
                    if held_bytes >= BLOCK:
                        await self._send_block(b"".join(held))
                        held, held_bytes = [], 0
                    held.append(stuffer.feed(piece))
                    held_bytes += len(piece)
        finally:
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()
        return b"".join([*held, stuffer.finish()])

    async def _send_block(self, block: bytes) -> None:
        self._session.send(block, replies=0, phase=Phase.CONTENT)
        await self._session.drain()

    async def _send_dot(self, last: bytes) -> None:
        # Phase CONTENT: if this raises, nothing was written, and so no dot.
        self._session.send(last, replies=1, phase=Phase.CONTENT, is_final=True)
        self._attempt.note_dot(self._accepted)
        try:
            reply = await self._session.read_reply(Phase.DOT)
        except SessionLost as lost:
            self._attempt.settle(self._accepted, lost.failure)
            raise
        outcome = decide_reply(Phase.DOT, reply, self._session.peer)
        self._session.needs_reset = False
        self._attempt.settle(self._accepted, outcome)
        if not isinstance(outcome, Delivered) and outcome.scope is Scope.HOST:
            raise SessionLost(outcome, Phase.DOT)
