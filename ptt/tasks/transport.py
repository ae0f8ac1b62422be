"""Kombu's Redis transport, with what comes out of the lists taken for what it is: octets from whoever may push.

Stock kombu decodes them by whatever content type they name, ends the worker on what is no JSON, and takes a message
without properties for a lost connection. Here they are read as wake-ups and built anew; all else is refused, counted
and logged, and the worker goes on.
"""

import secrets
from queue import Empty
from typing import Any, Self, cast

import kombu
import kombu.transport
from celery.app.amqp import AMQP
from kombu.transport import redis
from typing_extensions import override

from ptt import maillog
from ptt.core.errors import MalformedInput
from ptt.core.wakeup import build_message, parse_wakeup

NAME = "ptt"
"""As in ``ptt+socket:///path``: kombu takes no dots in URLs."""
PATH = f"{__name__}:WakeupTransport"
AMQP_PATH = f"{__name__}:SteadyAmqp"
RECONNECT_EVERY_S = 0.5
LOGGED = 10
"""Refusals that are logged one by one; then each thousandth, so that they do not fill the disk."""


class WakeupChannel(redis.Channel):
    """A channel that hands out wake-ups only."""

    refused = 0

    def _brpop_read(self, **options: Any) -> bool:  # noqa: ANN401 - kombu's own signature
        """Read the answer to BRPOP; kombu's own but for what becomes of the message."""
        channel: Any = self  # kombu's types leave out all that is private
        try:
            try:
                answer = channel.client.parse_response(channel.client.connection, "BRPOP", **options)
            except channel.connection_errors:
                # Disconnected, the next round connects again.
                channel.client.connection.disconnect()
                raise
            if not answer:
                raise Empty
            queue, data = answer[0].decode(), cast("bytes", answer[1])
            channel._queue_cycle.rotate(queue)  # noqa: SLF001 - as kombu does
            try:
                message = build_message(queue, parse_wakeup(data, queue), secrets.token_hex(8))
            except MalformedInput as error:
                self._refuse(queue, str(error))
            else:
                channel.connection._deliver(message, queue)  # noqa: SLF001 - as kombu does
            return True
        finally:
            channel._in_poll = None  # noqa: SLF001 - as kombu does
            channel._flush_brpop_reauth()  # noqa: SLF001 - as kombu does

    def _refuse(self, queue: str, reason: str) -> None:
        WakeupChannel.refused += 1
        if self.refused <= LOGGED or self.refused % 1000 == 0:
            maillog.emit("wakeup.refused", maillog.ERROR, queue=queue, reason=reason, count=self.refused)


class WakeupTransport(redis.Transport):
    """Kombu's Redis transport with our channel."""

    Channel = WakeupChannel  # type: ignore[mutable-override]  # that is how kombu is told


class SteadyConnection(kombu.Connection):
    """A connection that is tried again every RECONNECT_EVERY_S, for as long as it takes.

    Stock kombu waits 2 s longer after each failure, up to half a minute: a Redis that goes and comes may be away each
    time, and a worker that works by wake-ups does nothing for minutes.
    """

    @override
    def ensure_connection(self, *args: Any, **kwargs: Any) -> Self:
        """Connect, trying again every RECONNECT_EVERY_S."""
        steady = {"interval_start": RECONNECT_EVERY_S, "interval_step": 0, "interval_max": RECONNECT_EVERY_S}
        return super().ensure_connection(*args, **{**kwargs, **steady})


class SteadyAmqp(AMQP):
    """Celery's way to its broker, with our connection."""

    Connection = SteadyConnection  # type: ignore[mutable-override]  # that is how Celery is told


kombu.transport.TRANSPORT_ALIASES[NAME] = PATH
