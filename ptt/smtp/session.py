"""One connection to one address of one MX host: greeted, in TLS where the host offers it, ready for MAIL.

aiosmtplib drives EHLO, STARTTLS and QUIT over our `ReplyProtocol`; the mail itself is written by `ptt.smtp.transaction`
through `send` and `read_reply`. Every fault leaves here as `SessionLost`.

RFC 5321 sections 3.1 and 3.2, RFC 3207.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace

import aiosmtplib

from ptt.core.outcome import Peer
from ptt.core.reply import Reply, make_reply
from ptt.core.routing import IPAddress, Target
from ptt.core.verdict import Fault, Phase, decide_fault, decide_refusal, is_expected
from ptt.smtp.commands import Extensions, parse_extensions
from ptt.smtp.faults import SESSION_ERRORS, SessionLost, make_loss, to_reply
from ptt.smtp.protocol import MalformedReply, ReplyProtocol
from ptt.smtp.timeouts import QUIT_S
from ptt.smtp.tls import TlsPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where a connection goes and how: connections of the same line can stand in for each other."""

    target: Target
    port: int
    tls: TlsPolicy
    source: IPAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialler:
    """What all sessions of a process share."""

    hostname: str
    """Our name in EHLO."""
    timeouts: Mapping[Phase, float]
    tls_contexts: Mapping[TlsPolicy, ssl.SSLContext]


class Session:
    """A connection and what is known of the peer; used by one transaction at a time."""

    def __init__(self, line: Line, dialler: Dialler) -> None:
        """Prepare; `open` connects."""
        self.line = line
        self.extensions = Extensions()
        self.transactions = 0
        """How many transactions were begun on it."""
        self.needs_reset = False
        """Whether a transaction is open at the peer that must be ended by RSET first."""
        self.idle_since = 0.0
        self.peer = Peer(mx_host=line.target.mx_host, address=str(line.target.address))
        self._timeouts = dialler.timeouts
        self._tls_context = dialler.tls_contexts.get(line.tls)
        self._protocol = ReplyProtocol(asyncio.get_running_loop())
        self._client = aiosmtplib.SMTP(
            hostname=line.target.mx_host, local_hostname=dialler.hostname, timeout=None, start_tls=False
        )

    @property
    def is_usable(self) -> bool:
        """Tell whether a transaction could begin now: connected, and no reply is missing or too many."""
        return self._protocol.is_in_step

    @property
    def is_used_up(self) -> bool:
        """Tell whether the host takes no more messages on this connection (RFC 9422 section 4)."""
        return 0 < self.extensions.max_messages <= self.transactions

    async def open(self) -> None:
        """Connect, read the greeting, say EHLO, and again after STARTTLS.

        Raises:
            SessionLost: with the scope of the host; `abort` must still be called.
        """
        await self._connect()
        greeting = await self.read_reply(Phase.GREETING)
        self._require(Phase.GREETING, greeting)
        await self._greet()
        if self._tls_context is not None and self._client.supports_extension("starttls"):
            await self._start_tls()
            # RFC 3207 section 4.2: what was learnt before TLS is forgotten; aiosmtplib has done so.
            await self._greet()
        elif self.line.tls is TlsPolicy.VERIFIED:
            raise SessionLost(decide_fault(Fault.NEEDS_REQUIRETLS, peer=self.peer), Phase.EHLO, Fault.NEEDS_REQUIRETLS)
        self.extensions = extensions = parse_extensions(self._client.esmtp_extensions)
        self.peer = replace(self.peer, takes_requests=extensions.dsn, takes_deadlines=extensions.deliver_by)

    def send(self, data: bytes, *, replies: int, phase: Phase, is_final: bool = False) -> None:
        """Write commands or content that get ``replies`` replies; ``is_final`` if it ends with the final dot.

        Raises:
            SessionLost: nothing was written; in the midst of the content it may hold the peer's early refusal.
        """
        try:
            self._protocol.write_group(data, replies=replies, is_final=is_final)
        except SESSION_ERRORS as error:
            raise make_loss(error, phase, self.peer) from error

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written.

        Raises:
            SessionLost: not in time, or the connection is lost.
        """
        try:
            await self._protocol.drain(self._timeouts[Phase.CONTENT])
        except SESSION_ERRORS as error:
            raise make_loss(error, Phase.CONTENT, self.peer) from error

    async def read_reply(self, phase: Phase) -> Reply:
        """Give the next reply.

        Raises:
            SessionLost: none in time, or what came is no reply.
        """
        try:
            return to_reply(await self._protocol.read_response(self._timeouts[phase]))
        except SESSION_ERRORS as error:
            raise make_loss(error, phase, self.peer) from error

    async def quit(self) -> None:
        """Say QUIT, wait for whatever answers, and close (RFC 5321 section 4.1.1.10)."""
        if self.is_usable:
            with contextlib.suppress(*SESSION_ERRORS):
                await self._client.quit(timeout=QUIT_S)
        self._client.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._protocol.lost), QUIT_S)
        self.abort()

    def abort(self) -> None:
        """Cut the connection; without the final dot the peer must drop what it has of the content."""
        self._protocol.abort()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        source = (str(self.line.source), 0) if self.line.source else None
        try:
            async with asyncio.timeout(self._timeouts[Phase.CONNECT]):
                transport, _ = await loop.create_connection(
                    lambda: self._protocol, str(self.line.target.address), self.line.port, local_addr=source
                )
        except TimeoutError as error:
            raise make_loss(error, Phase.CONNECT, self.peer) from error
        except OSError as error:
            raise make_loss(error, Phase.CONNECT, self.peer, Fault.UNREACHABLE) from error
        self._client.protocol, self._client.transport = self._protocol, transport

    async def _greet(self) -> None:
        reply = await self._hello(b"EHLO")
        if reply.is_permanent:
            # RFC 5321 section 3.2: a server that does not know EHLO is greeted with HELO and has no extensions.
            reply = await self._hello_again(reply)
        self._require(Phase.EHLO, reply)

    async def _hello_again(self, refusal: Reply) -> Reply:
        try:
            return await self._hello(b"HELO")
        except SessionLost as lost:
            if lost.fault is Fault.DISCONNECTED:
                return refusal  # It refused and closed: the reply says more than the close.
            raise

    async def _hello(self, verb: bytes) -> Reply:
        hostname = (self._client.local_hostname or "").encode("ascii")
        try:
            response = await self._client.execute_command(verb, hostname, timeout=self._timeouts[Phase.EHLO])
        except SESSION_ERRORS as error:
            raise make_loss(error, Phase.EHLO, self.peer) from error
        reply = to_reply(response)
        if verb == b"EHLO" and reply.is_success:
            self._client.last_ehlo_response = response
        return reply

    async def _start_tls(self) -> None:
        try:
            await self._client.starttls(
                tls_context=self._tls_context,
                # RFC 7672 section 8.1: SNI is the name of the MX host; an address in its place is not sent.
                server_hostname=self.line.target.mx_host.strip("[]").removeprefix("IPv6:"),
                timeout=self._timeouts[Phase.STARTTLS],
            )
        except aiosmtplib.SMTPResponseException as error:
            reply = make_reply(error.code, error.message)
            refusal = decide_refusal(Phase.STARTTLS, reply, self.peer)
            raise SessionLost(refusal, Phase.STARTTLS, Fault.TLS_FAILED) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            self._forbid_injection()
            is_refused = isinstance(error.__cause__ or error, ssl.SSLCertVerificationError)
            fault = Fault.NOT_TRUSTED if is_refused else Fault.TLS_FAILED
            raise make_loss(error, Phase.STARTTLS, self.peer, fault) from error
        self._forbid_injection()
        self.peer = replace(self.peer, tls=self._describe_tls())

    def _forbid_injection(self) -> None:
        # The threat (RFC 3207 section 6): text after 220 and before the handshake was sent in clear by anyone, and
        # would be read as if it came over TLS. No try in clear follows: whoever wrote it would read the mail.
        if self._protocol.is_out_of_turn:
            error = MalformedReply("text between 220 to STARTTLS and the handshake")
            raise make_loss(error, Phase.STARTTLS, self.peer)

    def _describe_tls(self) -> str:
        tls = self._client.get_transport_info("ssl_object")
        return f"{tls.version()} {tls.cipher()[0]}"

    def _require(self, phase: Phase, reply: Reply) -> None:
        if not is_expected(phase, reply):
            raise SessionLost(decide_refusal(phase, reply, self.peer), phase)
