"""One client connection: aiosmtpd's protocol class with a reader, a timer and a TLS upgrade of our own.

aiosmtpd brings the life cycle: a protocol object per connection that runs `_handle_client` in a task. What it does
between a line and a reply is replaced, here and in `ptt.ingress.session`: it ends commands at bare LF, reads content
line by line, shows the text of exceptions to clients, and cancels a session in the middle of a spool write when the
client hangs up. RFC 5321 sections 3.8 and 4.5.3.2; RFC 3207 section 4.2; RFC 2920 section 3.2.
"""

import asyncio
import logging
import math
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiosmtpd.smtp import SMTP
from typing_extensions import override

from ptt import maillog
from ptt.core.reply import Reply
from ptt.ingress import replies
from ptt.ingress.endings import Disconnected, Dismissed
from ptt.ingress.handshake import shake_hands
from ptt.ingress.inbox import Inbox
from ptt.ingress.names import format_peer

HIGH_WATER_BYTES = 262_144
"""Octets of a client that wait unread: beyond that it is TCP's turn to wait."""
LINGER_S = 5.0
"""How long a closed connection may take to carry its last reply to a client that does not read."""
LOGIN_TIMEOUTS = 2
"""Timeouts within which a client must log in: NOOP every minute is no reason to be here."""
_TLS_HANDSHAKE = b"\x16\x03"  # RFC 8446 section 5.1: how a ClientHello begins


class Register(Protocol):
    """Who knows all connections."""

    def admit(self, connection: "Connection") -> bool:
        """Take note of a new connection; False if it must be cut at once."""

    def forget(self, connection: "Connection") -> None:
        """Take note of its end."""


class Connection(SMTP):
    """One client: octets in and out, and when it is time to go.

    ``inbox`` holds what has arrived, ``peer_address`` is the client's IP address, ``tls`` names TLS version and cipher
    and is empty in clear, where ``ssl_object`` is None.
    """

    def __init__(
        self, serve: Callable[["Connection"], Awaitable[None]], register: Register, timeout_s: float, hostname: str
    ) -> None:
        """Wait for the connection.

        Args:
            serve: holds the session; may raise Dismissed and Disconnected.
            register: who knows all connections.
            timeout_s: how long the client may take for a command.
            hostname: our name.
        """
        # The bare object is a handler without hooks: aiosmtpd's own commands, which would call them, never run.
        super().__init__(object(), hostname=hostname, timeout=timeout_s, loop=asyncio.get_running_loop())
        self.inbox = Inbox()
        self.peer_address = ""
        self.tls = ""
        self._is_clear = True
        """Until the handshake begins: in TLS 1.3 a client may take its leave with its last words of it."""
        self.ssl_object: ssl.SSLObject | None = None
        self._serve = serve
        self._register = register
        self._outbox: list[bytes] = []
        self._wire: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._has_news = self._is_paused = self._is_flushing = False
        self._is_at_end = self._is_lost = self._is_expired = False
        self._is_at_door = True
        self._dismissal: Reply | None = None
        self._deadline = self._login_deadline = math.inf
        self._lingering: asyncio.TimerHandle | None = None
        self._clear_writer: asyncio.StreamWriter | None = None

    # What the event loop and the listener call.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the session, or refuse it."""
        self._adopt(transport)
        self.peer_address = format_peer(transport.get_extra_info("peername"))
        if not self._register.admit(self):
            self._wire.abort()
            return
        self._login_deadline = self.loop.time() + LOGIN_TIMEOUTS * self._timeout_duration
        super().connection_made(transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Keep what has arrived."""
        self.inbox.feed(data)
        if len(self.inbox) > HIGH_WATER_BYTES and not self._is_paused:
            self._is_paused = True
            self._wire.pause_reading()
        self._wake()

    @override
    def eof_received(self) -> bool:
        """Let the session answer what is complete; a TLS connection cannot be half closed."""
        self._is_at_end = True
        self._wake()
        return self._is_clear

    @override
    def connection_lost(self, error: Exception | None) -> None:
        """End the session where it next asks for the client: a message in the spool's hands is not let go."""
        if self._is_lost:
            return
        self._is_lost = self._is_at_end = True
        self._register.forget(self)
        self._wake()
        for handle in (self._timeout_handle, self._lingering):
            if handle is not None:
                handle.cancel()
        # Past aiosmtpd's own method, which cancels the session.
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        # A client that went away is no fault that asyncio should log because nobody asked for it.
        self._closed.exception()  # type: ignore[attr-defined]  # asyncio's own attribute, which typeshed does not list
        if self._handler_coroutine is None:
            self._let_go(None)
        else:
            self._handler_coroutine.add_done_callback(self._let_go)

    def dismiss(self, reply: Reply) -> None:
        """End the session with this reply as soon as it is between two commands."""
        self._dismissal = reply
        if self._is_at_door:
            self.abort()
        self._wake()

    def abort(self) -> None:
        """Cut the connection."""
        self._wire.abort()

    # What the session calls.

    def say(self, octets: bytes) -> None:
        """Send when the client is next waited for: RFC 2920 section 3.2, replies to a group leave together."""
        self._outbox.append(octets)

    async def read_line(self) -> bytes:
        """Give the next line, without its CRLF; the whole of it has to come within one timeout.

        Raises:
            Dismissed: the client took too long, or the server stops.
            Disconnected: there is no further line.
        """
        is_first_look = True
        while self._dismissal is None:
            if not self.tls and self.inbox.startswith(_TLS_HANDSHAKE):
                raise Dismissed(replies.TLS_WITHOUT_STARTTLS)
            line = self.inbox.take_line()
            if line is not None:
                return line
            if is_first_look:
                is_first_look = False
                self.restart_clock()
            await self.receive()
        raise Dismissed(self._dismissal)

    async def receive(self) -> None:
        """Wait until something has happened since the last look into the inbox.

        Raises:
            Dismissed: the clock ran out.
            Disconnected: nothing more will arrive.
        """
        if self._is_at_end:
            raise Disconnected
        self._has_news = False
        await self._flush()
        if self._is_paused:
            self._is_paused = False
            self._wire.resume_reading()
        if not self._has_news:
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._is_expired:
            raise Dismissed(replies.TIMEOUT)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Obey STARTTLS; what the client said in clear is no longer there (RFC 3207 section 4.2).

        Raises:
            Dismissed: something followed STARTTLS in clear.
            Disconnected: the handshake failed.
        """
        # The threat: a command put behind STARTTLS by somebody on the way runs as if it had come over TLS. So reading
        # stops before the client is told to start: no octet in clear can come in later than this look.
        self._wire.pause_reading()
        if len(self.inbox):
            raise Dismissed(replies.PLAINTEXT_AFTER_STARTTLS)
        self.say(replies.format_reply(replies.READY_FOR_TLS))
        self.restart_clock()
        await self._flush()
        await self.enter_tls(context)

    async def enter_tls(self, context: ssl.SSLContext) -> None:
        """Make the handshake, with which the octets that have arrived begin.

        Raises:
            Disconnected: it failed.
        """
        if self._is_at_end:
            raise Disconnected
        self._wire.pause_reading()
        self._is_at_door = True
        self._is_clear = False
        transport = await shake_hands(self._wire, self, context, self.inbox.take_all())
        if transport is None:
            # The threat: asyncio does not tell a protocol that its connection was lost in the handshake. Clients that
            # hang up there would stay in the register until it is full.
            self._wire.abort()
            self.connection_lost(None)
            raise Disconnected
        self._clear_writer = self._writer  # kept, because a writer closes its transport when it is freed
        self._adopt(transport)
        self._writer = asyncio.StreamWriter(self._wire, self, None, self.loop)
        self.come_in()

    def come_in(self) -> None:
        """Be dismissed by a reply from now on; before that, and in a handshake, the connection is just cut."""
        self._is_at_door = False

    def restart_clock(self) -> None:
        """Give the client a full timeout from now."""
        deadline = self.loop.time() + self._timeout_duration
        self._deadline = min(deadline, self._login_deadline)
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_at(self._deadline, self._timeout_cb)

    def stop_login_clock(self) -> None:
        """Let the client stay: it has logged in."""
        self._login_deadline = math.inf

    # Our own affairs.

    @override
    async def _handle_client(self) -> None:
        try:
            await self._serve(self)
        except Dismissed as dismissal:
            self.say(replies.format_reply(dismissal.reply))
        except Disconnected:
            pass
        except Exception:  # noqa: BLE001 - session top: one session must not stop the others
            maillog.emit("session.failed", logging.ERROR, exc_info=True, client_address=self.peer_address)
        finally:
            self._hang_up()

    @override
    def _reset_timeout(self, duration: float | None = None) -> None:
        self.restart_clock()

    @override
    def _timeout_cb(self) -> None:
        # One handle that is moved when it fires costs less than one for each command.
        now = self.loop.time()
        if now < self._deadline:
            self._timeout_handle = self.loop.call_at(self._deadline, self._timeout_cb)
        elif self._waiter is not None:
            self._is_expired = True
            self._wake()
        elif self._is_flushing:
            self.abort()  # the client does not read our replies
        else:  # the time is ours: the client waits for the spool or the users
            self._timeout_handle = self.loop.call_later(self._timeout_duration, self._timeout_cb)

    def _adopt(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._wire = self.transport = transport
        ssl_object = transport.get_extra_info("ssl_object")
        self.ssl_object = ssl_object
        self.tls = f"{ssl_object.version()} {ssl_object.cipher()[0]}" if ssl_object else ""

    def _wake(self) -> None:
        self._has_news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _flush(self) -> None:
        if self._outbox:
            self._writer.write(b"".join(self._outbox))
            self._outbox.clear()
            self._is_flushing = True
            try:
                await self._writer.drain()
            except OSError as error:
                raise Disconnected from error
            self._is_flushing = False

    def _hang_up(self) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        if not self._wire.is_closing():
            self._writer.write(b"".join(self._outbox))
            self._linger()

    def _let_go(self, _task: asyncio.Task[None] | None) -> None:
        # aiosmtpd keeps our bound methods in tables. Without this the garbage collector alone would find us, and it
        # comes so rarely that hundreds of closed connections, with 256 KiB of TLS buffer each, would wait for it.
        self._smtp_methods.clear()
        self._auth_methods.clear()
        self._client_connected_cb = self._handler_coroutine = self.transport = self._clear_writer = None
        del self._wire
        if hasattr(self, "_writer"):
            del self._writer

    def _linger(self) -> None:
        self._wire.close()
        self._lingering = self.loop.call_later(LINGER_S, self._wire.abort)
