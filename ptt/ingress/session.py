"""One session: reads a command, has it answered, and takes the steps that need the connection.

RFC 5321 section 3; RFC 2920 section 3.1 (DATA ends a group of commands); RFC 3030 (BDAT); RFC 4954; RFC 3207.
"""

import logging
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import assert_never

from ptt import maillog
from ptt.core.errors import Refused
from ptt.core.ports import Tokens, Users
from ptt.core.reply import Reply
from ptt.ingress import replies
from ptt.ingress.acceptance import Acceptor, Client
from ptt.ingress.answers import Policy
from ptt.ingress.budget import Budget, Share
from ptt.ingress.channel import read_channel
from ptt.ingress.connection import Connection
from ptt.ingress.data import DataReader
from ptt.ingress.dialogue import Dialogue
from ptt.ingress.endings import Disconnected, Dismissed
from ptt.ingress.gate import INVALID_CREDENTIALS, Gate
from ptt.ingress.guard import Guard
from ptt.ingress.login import log_in
from ptt.ingress.sasl import PLUS, list_mechanisms
from ptt.ingress.steps import (
    Answer,
    Authenticate,
    Close,
    Greet,
    ReceiveChunk,
    ReceiveContent,
    SkipChunk,
    StartTls,
    Transaction,
)
from ptt.ingress.upload import Pace, Upload, read_octets


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all sessions share."""

    policy: Policy
    users: Users
    guard: Guard
    mechanisms: tuple[str, ...]
    """Of SASL, that may be offered."""
    tokens: Tokens | None = None
    """Who checks access tokens; without it OAUTHBEARER is not offered."""
    acceptor: Acceptor
    budget: Budget
    tls_context: ssl.SSLContext
    timeout_s: float


class Session:
    """One client's visit."""

    def __init__(self, house: House, connection: Connection) -> None:
        """Meet a client that has just connected."""
        self._house = house
        self._connection = connection
        self._dialogue = self._begin_dialogue()
        self._upload: Upload | None = None

    async def run(self) -> None:
        """Greet, and serve commands until one of them is the last.

        Raises:
            Dismissed: the connection must end with a last reply.
            Disconnected: the client is gone.
        """
        self._say(Reply(220, "", f"{self._house.policy.hostname} ESMTP ptt"))
        try:
            while await self._serve(await self._connection.read_line()):
                if self._upload is not None and self._dialogue.transaction is not self._upload.transaction:
                    self._drop_upload()
        finally:
            self._drop_upload()

    def _begin_dialogue(self) -> Dialogue:
        house, connection = self._house, self._connection
        self._channel = read_channel(connection.ssl_object)
        self._mechanisms = self._list_mechanisms() if connection.tls else ()
        return Dialogue(house.policy, house.users, connection.tls, self._mechanisms)

    def _list_mechanisms(self) -> tuple[str, ...]:
        house = self._house
        return list_mechanisms(house.mechanisms, self._channel, has_tokens=house.tokens is not None)

    def _say(self, reply: Reply) -> None:
        self._connection.say(replies.format_reply(reply))

    async def _serve(self, line: bytes) -> bool:
        """Answer one command; False if it was the last."""
        # RFC 2920 section 3.1: DATA is the last of a group. The threat: who sends on before the reply does not know
        # whether it will be content or commands, so neither do we.
        if len(self._connection.inbox) and line[:5].upper().rstrip() == b"DATA":
            raise Dismissed(replies.CONTENT_BEFORE_REPLY)
        try:
            answer = self._dialogue.answer(line)
            # Who tries to send in another's name leaves a trace.
            if answer is replies.SENDER_NOT_OWNED or answer is replies.USER_GONE:
                self._emit_refused(answer)
            if answer is replies.SENDER_OK and (refusal := self._foresee_refusal()):
                self._dialogue.reset()
                answer = refusal
            return await self._take(answer)
        except (Dismissed, Disconnected):
            raise
        except Exception:  # noqa: BLE001 - session top: the client hears nothing of the cause, the log hears all
            maillog.emit("command.failed", logging.ERROR, exc_info=True, client_address=self._connection.peer_address)
            self._dialogue.reset()
            self._say(replies.UNAVAILABLE)
        finally:
            maillog.queue_id_var.set("")
        return True

    def _foresee_refusal(self) -> Reply | None:
        transaction = self._dialogue.transaction
        return self._house.acceptor.foresee_refusal(transaction.user) if transaction else None

    async def _take(self, answer: Answer) -> bool:
        match answer:
            case Reply():
                self._say(answer)
            case Greet():
                self._connection.say(replies.format_lines(250, answer.lines))
            case StartTls():
                await self._connection.start_tls(self._house.tls_context)
                self._dialogue = self._begin_dialogue()
            case Authenticate():
                return await self._take(await self._log_in(answer))
            case ReceiveContent():
                self._say(await self._settle(self._receive_message(answer.transaction)))
            case ReceiveChunk():
                self._say(await self._settle(self._receive_chunk(answer)))
            case SkipChunk():
                await read_octets(self._connection, answer.size_bytes, self._make_pace(), bytearray.clear)
                self._say(answer.reply)
            case Close():
                self._say(answer.reply)
                return False
            case _:
                assert_never(answer)
        return True

    async def _log_in(self, step: Authenticate) -> Answer:
        gate = Gate(
            users=self._house.users,
            guard=self._house.guard,
            tokens=self._house.tokens,
            client_address=self._connection.peer_address,
            channel=self._channel,
            offers_binding=PLUS in self._mechanisms,
        )
        reply, login = await log_in(step, self._ask, gate)
        if login:
            self._dialogue.complete_login(login)
            self._connection.stop_login_clock()
            return reply
        is_failure = reply in {INVALID_CREDENTIALS, replies.TOO_MANY_GUESSES}
        return self._dialogue.count_failure(reply) if is_failure else reply

    async def _ask(self, line: bytes) -> bytes:
        self._connection.say(line + b"\r\n")
        return await self._connection.read_line()

    async def _settle(self, receiving: Awaitable[Reply]) -> Reply:
        try:
            return await receiving
        except Refused as refusal:
            self._emit_refused(refusal.reply)
            return refusal.reply

    async def _receive_message(self, transaction: Transaction) -> Reply:
        self._say(replies.SEND_CONTENT)
        with self._house.budget.open_share() as share:
            return await self._accept(await self._receive_content(share), transaction)

    async def _receive_chunk(self, step: ReceiveChunk) -> Reply:
        upload = self._upload
        if upload is None:
            share = self._house.budget.open_share()
            upload = self._upload = Upload(step.transaction, self._house.policy.max_message_bytes, share)
        await read_octets(self._connection, step.size_bytes, self._make_pace(), upload.take)
        if step.is_last:
            return await self._accept(upload.finish(), step.transaction)
        if upload.refusal is None:
            return Reply(250, "2.0.0", f"{step.size_bytes} octets received")
        # RFC 3030 section 2: the transaction has failed; chunks that are on their way already are read and refused.
        self._dialogue.reset()
        raise Refused(upload.refusal)

    async def _accept(self, content: bytes, transaction: Transaction) -> Reply:
        connection = self._connection
        client = Client(name=self._dialogue.client_name, address=connection.peer_address, tls=connection.tls)
        reply = await self._house.acceptor.accept(content, transaction, client)
        if reply.is_success:
            self._dialogue.complete_mail()
        return reply

    def _drop_upload(self) -> None:
        if self._upload is not None:
            self._upload.close()
            self._upload = None

    def _make_pace(self) -> Pace:
        return Pace(self._connection, self._house.timeout_s)

    def _emit_refused(self, reply: Reply) -> None:
        maillog.emit(
            "message.refused",
            logging.WARNING,
            user=self._dialogue.login,
            client_address=self._connection.peer_address,
            reply_code=reply.code,
            enhanced_status=reply.enhanced_status,
            reason=reply.text,
        )

    async def _receive_content(self, share: Share) -> bytes:
        connection, pace = self._connection, self._make_pace()
        reader = DataReader(self._house.policy.max_message_bytes)
        while True:
            octets = connection.inbox.take_all()
            pace.note(len(octets))
            rest = reader.feed(octets)
            if not share.hold(reader.held_bytes):
                reader.refuse(replies.NO_MEMORY)
            if rest is not None:
                connection.inbox.feed(rest)
                return reader.finish()
            await connection.receive()
