"""One attempt at one message: which host, which connection, what when one fails. Implements the `Courier` port.

RFC 5321 section 5.1. The next host is tried only while nothing of the message is at risk: never after a final dot.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from typing_extensions import override

from ptt import maillog
from ptt.core.address import Address, Domain
from ptt.core.errors import LeaseLost, Unavailable
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Deferred, Outcome, Peer, Scope
from ptt.core.ports import Courier, Resolver
from ptt.core.routing import IPAddress, Target, is_own_host
from ptt.core.verdict import Fault, Phase, decide_exhausted, decide_fault
from ptt.smtp.attempt import Attempt
from ptt.smtp.connections import Connections, Limits
from ptt.smtp.demands import settle_unmet_demands
from ptt.smtp.faults import SessionLost
from ptt.smtp.routes import Routes
from ptt.smtp.session import Dialler, Line, Session
from ptt.smtp.timeouts import DEAD_S, IDLE_S, make_timeouts
from ptt.smtp.tls import TlsPolicy, make_opportunistic_context, make_verified_context
from ptt.smtp.transaction import MAX_RECIPIENTS, Transaction

MAX_TARGETS = 10
"""Addresses that one attempt connects to: each may take its time to fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CourierOptions:
    """How mail is delivered."""

    hostname: str
    """Our name in EHLO, and the one that is cut from MX lists."""
    resolver: Resolver
    smtp_port: int = 25
    allow_private_addresses: bool = False
    """Whether MX hosts in loopback and private ranges are connected to."""
    connections_per_host: int = 5
    messages_per_connection: int = 100
    timeouts: Mapping[Phase, float] = field(default_factory=make_timeouts)
    """How long each phase may take, seconds."""
    dead_s: float = DEAD_S
    """How long a host that could not be reached is not tried again, seconds."""
    ca_file: str | None = None
    """PEM file of trust anchors for verified TLS; the system's when None."""
    source_addresses: tuple[IPAddress, ...] = ()
    """Where connections come from: the first of the target's IP version; the system's choice if there is none."""
    idle_s: float = IDLE_S
    """How long a connection is kept with nothing to send, seconds."""
    shuffle: Callable[[list[str]], None] = random.shuffle
    """Orders MX hosts of equal preference, in place."""


class SmtpCourier(Courier):
    """Delivers over SMTP; one for a process, used from one event loop."""

    def __init__(self, options: CourierOptions) -> None:
        """Start without connections."""
        self._options = options
        self._routes = Routes(
            resolver=options.resolver,
            own_name=options.hostname,
            shuffle=options.shuffle,
            allow_private_addresses=options.allow_private_addresses,
        )
        dialler = Dialler(
            hostname=options.hostname,
            timeouts=options.timeouts,
            tls_contexts={
                TlsPolicy.OPPORTUNISTIC: make_opportunistic_context(),
                TlsPolicy.VERIFIED: make_verified_context(options.ca_file),
            },
        )
        limits = Limits(
            connections_per_host=options.connections_per_host,
            messages_per_connection=options.messages_per_connection,
            idle_s=options.idle_s,
            dead_s=options.dead_s,
        )
        self._connections = Connections(dialler, limits)

    @override
    async def deliver(self, destination: Domain, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Make one attempt and give one outcome for each recipient, in their order.

        Raises:
            LeaseLost: the message's commit said so; nothing was sent after it.
        """
        attempt = Attempt(message)
        try:
            await self._attempt(destination, attempt)
        except LeaseLost:
            raise
        except Unavailable:
            attempt.settle_rest(decide_fault(Fault.SPOOL_UNAVAILABLE))
        except Exception:  # noqa: BLE001 - the top of a session: a fault of our own must not lose the message
            maillog.emit("delivery.crashed", maillog.ERROR, exc_info=True, queue_id=message.queue_id)
            attempt.settle(attempt.in_doubt, decide_fault(Fault.UNKNOWN, phase=Phase.DOT))
            attempt.settle_rest(decide_fault(Fault.UNKNOWN))
        return attempt.list_outcomes()

    @override
    async def close(self) -> None:
        """Say QUIT on idle connections and cut those in use."""
        await self._connections.close()

    async def _attempt(self, destination: Domain, attempt: Attempt) -> None:
        targets = 0
        async with aclosing(self._routes.find(destination)) as candidates:
            async for candidate in candidates:
                if not isinstance(candidate, Target):
                    attempt.failures.append(candidate)
                    continue
                if attempt.message.options.requires_tls:
                    is_over = await self._try_verified(candidate, destination, attempt)
                else:
                    is_over = await self._try_target(candidate, attempt)
                if is_over:
                    return
                targets += 1
                if targets == MAX_TARGETS:
                    break
        failure = decide_exhausted(attempt.failures)
        if not attempt.is_reached:
            failure = replace(failure, scope=Scope.ATTEMPT if attempt.is_choosy else Scope.DOMAIN)
        attempt.settle_rest(failure)

    async def _try_target(self, target: Target, attempt: Attempt) -> bool:
        """Try one address; tell whether the attempt is over."""
        try:
            try:
                await self._deliver(self._make_line(target, TlsPolicy.OPPORTUNISTIC), attempt)
            except SessionLost as lost:
                if lost.fault is not Fault.TLS_FAILED:
                    raise
                # RFC 3207 section 4.1: without a policy that asks for TLS the client may go on without it. Once.
                await self._deliver(self._make_line(target, TlsPolicy.CLEAR), attempt)
        except SessionLost as lost:
            return _end(attempt, lost)
        return True

    async def _try_verified(self, target: Target, destination: Domain, attempt: Attempt) -> bool:
        """Try one address with TLS that can be trusted, or not at all (RFC 8689 section 4.2.1)."""
        peer = Peer(mx_host=target.mx_host, address=str(target.address))
        if not is_own_host(target.mx_host, destination):
            # The RFC wants the MX lookup secured, which ours is not: so only a name of the domain itself will do.
            attempt.is_choosy = True
            attempt.failures.append(
                decide_fault(Fault.NOT_TRUSTED, peer=peer, detail="its name is not of the recipient's domain")
            )
            return False
        try:
            await self._deliver(self._make_line(target, TlsPolicy.VERIFIED), attempt)
        except SessionLost as lost:
            # What the host lacks for this message it need not lack for others: nobody knows if these would get there.
            attempt.is_choosy |= lost.phase is not Phase.CONNECT
            return _end(attempt, lost)
        return True

    def _make_line(self, target: Target, tls: TlsPolicy) -> Line:
        sources = (source for source in self._options.source_addresses if source.version == target.address.version)
        return Line(target=target, port=self._options.smtp_port, tls=tls, source=next(sources, None))

    async def _deliver(self, line: Line, attempt: Attempt) -> None:
        await self._deliver_some(line, attempt)
        # RFC 9422 section 4: a host that takes few messages on a connection takes the rest on the next.
        while attempt.remaining:
            await self._use(await self._connections.acquire(line), attempt)

    async def _deliver_some(self, line: Line, attempt: Attempt) -> None:
        session = await self._connections.acquire(line)
        is_kept = session.transactions > 0
        try:
            await self._use(session, attempt)
        except SessionLost as lost:
            # The peer may close a kept connection, or answer 421, at any time: that says nothing of this message.
            is_stale = is_kept and lost.phase is not Phase.CONTENT and lost.fault in (Fault.DISCONNECTED, None)
            if not is_stale or attempt.is_dot_sent:
                raise
            await self._use(await self._connections.acquire(line, fresh=True), attempt)

    async def _use(self, session: Session, attempt: Attempt) -> None:
        attempt.is_reached = True
        try:
            await settle_unmet_demands(session, attempt)
            while (remaining := attempt.remaining) and not session.is_used_up:
                most = min(MAX_RECIPIENTS, session.extensions.max_recipients or MAX_RECIPIENTS)
                await Transaction(session, attempt, remaining[:most]).run()
        except BaseException:
            session.abort()
            raise
        finally:
            self._connections.release(session)


def _end(attempt: Attempt, lost: SessionLost) -> bool:
    """Note why a session ended, and tell whether the attempt ends with it."""
    attempt.failures.append(lost.failure)
    if lost.failure.scope is Scope.HOST and not attempt.is_dot_sent:
        return False
    failure = lost.failure
    if isinstance(failure, Deferred):
        failure = replace(failure, uncertain=False)  # Whom the dot was sent for has an outcome by now.
    attempt.settle_rest(failure)
    return True
