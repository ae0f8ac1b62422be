"""The replies of one connection, in order: aiosmtplib's protocol with a queue instead of one waiter. RFC 2920.

aiosmtplib's own drops replies that nobody waits for yet, which forbids pipelining. This one keeps as many as commands
were sent and stops reading at the first that no command asked for. It knows nothing of what a reply means.
"""

import asyncio
import re
from collections import deque
from typing import cast

from aiosmtplib import SMTPReadTimeoutError, SMTPResponse, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol
from typing_extensions import override

from ptt.core.errors import MalformedInput

MAX_LINE = 8_192
"""Octets of one reply line: 16 times what RFC 5321 section 4.5.3.1.5 allows. Stops a line that never ends."""

MAX_REPLY = 32_768
"""Octets of all lines of one reply, far above any real EHLO. Stops ``250-`` for ever."""

# RFC 5321 section 4.2: Reply-code = %x32-35 %x30-35 %x30-39; the second digit is not held to it. 1yz does not exist.
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)


class MalformedReply(MalformedInput):
    """The server sent what is no reply, or one that no command asked for; the text is ours."""


class UnsolicitedReply(MalformedReply):
    """A reply came that no command asked for, such as 421 before the server closes (RFC 5321 section 3.8)."""

    def __init__(self, response: SMTPResponse) -> None:
        """Keep the response."""
        super().__init__("a reply that no command asked for")
        self.response = response


class ReplyProtocol(SMTPProtocol):
    """One connection: writes commands, queues replies, never holds more of them than commands are open."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start with an empty queue; the greeting is the first reply that is due."""
        super().__init__(loop)
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done once the connection is closed."""
        self._due = 1
        self._is_lenient = False
        self._responses: deque[SMTPResponse] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._fault: Exception | None = None
        self._unsolicited: SMTPResponse | None = None
        self._partial = b""
        self._code = b""
        self._texts: list[bytes] = []
        self._reply_octets = 0

    @property
    def is_in_step(self) -> bool:
        """Tell whether the connection is open and each command has had its one reply."""
        quiet = not (self._due or self._responses or self._partial or self._texts)
        return quiet and not self._is_over and self.is_connected

    @property
    def is_out_of_turn(self) -> bool:
        """Tell whether the peer sent anything that no command asked for, or that is no reply."""
        return bool(self._partial) or self._unsolicited is not None or isinstance(self._fault, MalformedReply)

    @property
    def _is_over(self) -> bool:
        return self._fault is not None or self._unsolicited is not None

    def check(self) -> None:
        """Raise what stands against writing more.

        Raises:
            UnsolicitedReply: a reply came too early.
            MalformedReply: what came is no reply.
            SMTPServerDisconnected: the connection is lost.
        """
        if self._unsolicited is not None:
            raise UnsolicitedReply(self._unsolicited)
        if self._fault is not None:
            raise self._fault

    @override
    def write(self, data: bytes) -> None:
        """Write one command, which gets one reply."""
        self.write_group(data, replies=1)

    def write_group(self, data: bytes, *, replies: int, is_final: bool = False) -> None:
        """Write commands or content that get ``replies`` replies in all.

        Args:
            data: what to write.
            replies: how many replies it gets.
            is_final: whether it ends with the final dot. A NUL in the text of its reply is then overlooked: to take
                250 for no reply would send the message again.

        Raises:
            UnsolicitedReply, MalformedReply, SMTPServerDisconnected: as `check`; nothing was written.
        """
        self.check()
        super().write(data)
        self._due += replies
        self._is_lenient = is_final

    async def drain(self, timeout_s: float) -> None:
        """Wait until the peer has taken most of what was written, or has spoken out of turn.

        Raises:
            SMTPReadTimeoutError: not within ``timeout_s``.
            OSError: the connection is lost.
        """
        if not self._paused:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._drain_helper()
        except TimeoutError as error:
            raise SMTPReadTimeoutError("the peer takes no data") from error

    @override
    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """Give the next reply.

        Raises:
            SMTPReadTimeoutError: none within ``timeout`` seconds.
            MalformedReply: what came is no reply.
            SMTPServerDisconnected: the connection is lost.
        """
        while not self._responses:
            if self._fault is not None:
                raise self._fault
            await self._wait(timeout)
        return self._responses.popleft()

    async def _wait(self, timeout_s: float | None) -> None:
        reader = self._reader = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, _expire, reader) if timeout_s is not None else None
        try:
            await reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()

    @override
    def data_received(self, data: bytes) -> None:
        """Cut into lines and replies; each octet is looked at once."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            if self._is_over:
                break
            self._take_line(line.removesuffix(b"\r"))
        if self._is_over:
            self._partial = b""  # Nothing that still comes is ever looked at.
        elif len(self._partial) > MAX_LINE:
            self._fail(MalformedReply("reply line too long"))

    def _take_line(self, line: bytes) -> None:
        self._reply_octets += len(line) + 2
        if len(line) > MAX_LINE or self._reply_octets > MAX_REPLY:
            return self._fail(MalformedReply("reply too long"))
        match = _LINE.fullmatch(line)
        if match is None or (b"\0" in line and not self._is_lenient):
            return self._fail(MalformedReply("not a reply line"))
        code, separator, text = match.groups(b"")
        # RFC 5321 section 4.2.1: all lines of a reply MUST have the same code. Neither of two can be trusted.
        if self._texts and code != self._code:
            return self._fail(MalformedReply("two codes in one reply"))
        self._code = code
        self._texts.append(text)
        if separator != b"-":
            self._take_reply()
        return None

    def _take_reply(self) -> None:
        response = SMTPResponse(int(self._code), b"\n".join(self._texts).decode("utf-8", "replace"))
        self._texts.clear()
        self._reply_octets = 0
        if not self._due:
            return self._refuse(response)
        self._due -= 1
        self._responses.append(response)
        self._wake()
        return None

    def _refuse(self, response: SMTPResponse) -> None:
        # From here on no reply can be paired with its command, so that nothing more is read: memory stays bounded.
        self._unsolicited = response
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).pause_reading()
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, fault: Exception) -> None:
        if self._fault is None:
            self._fault = fault
            self._wake()
        self.abort()

    def abort(self) -> None:
        """Cut the connection: what was written and not sent is dropped."""
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    @override
    def eof_received(self) -> bool:
        """Let the transport close; replies that came before are still read."""
        self._note_loss()
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Wake all that wait."""
        super().connection_lost(exc)
        self._note_loss()
        if not self.lost.done():
            self.lost.set_result(None)

    def _note_loss(self) -> None:
        if self._fault is None:
            self._fault = SMTPServerDisconnected("connection lost")
            self._wake()


def _expire(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_exception(SMTPReadTimeoutError("no reply in time"))
