"""How content comes off a connection: at which pace, and what is kept of a message between its chunks.

RFC 3030 section 2; RFC 5321 section 4.5.3.2.
"""

from collections.abc import Callable

from ptt.core.reply import Reply
from ptt.ingress import replies
from ptt.ingress.budget import Share
from ptt.ingress.connection import Connection
from ptt.ingress.data import ChunkReader
from ptt.ingress.steps import Transaction

MIN_CONTENT_RATE = 10
"""Octets of content a second, on average over the timeout: one octet before each timeout would hold us for ever."""


class Pace:
    """Gives the client more time each time that enough octets have come."""

    __slots__ = ("_connection", "_missing_bytes", "_progress_bytes")

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        """Start; the first octets that are noted start the clock."""
        self._connection = connection
        self._progress_bytes = max(1, int(MIN_CONTENT_RATE * timeout_s))
        self._missing_bytes = 0

    def note(self, count: int) -> None:
        """Take note of octets that came."""
        self._missing_bytes -= count
        if self._missing_bytes <= 0:
            self._missing_bytes = self._progress_bytes
            self._connection.restart_clock()


class Upload:
    """A message between its first chunk and its last."""

    def __init__(self, transaction: Transaction, max_message_bytes: int, share: Share) -> None:
        """Begin with nothing; `close` gives the memory back."""
        self.transaction = transaction
        self._reader = ChunkReader(max_message_bytes)
        self._share = share

    @property
    def refusal(self) -> Reply | None:
        """Give why the message is refused already, if it is."""
        return self._reader.refusal

    def take(self, octets: bytearray) -> None:
        """Take octets of a chunk."""
        self._reader.feed(octets)
        if not self._share.hold(self._reader.held_bytes):
            self._reader.refuse(replies.NO_MEMORY)
            self._share.close()

    def finish(self) -> bytes:
        """Give the content.

        Raises:
            Refused: as `ptt.ingress.data.ChunkReader.finish`.
        """
        return self._reader.finish()

    def close(self) -> None:
        """Give the memory back."""
        self._share.close()


async def read_octets(connection: Connection, count: int, pace: Pace, take: Callable[[bytearray], None]) -> None:
    """Read exactly so many octets.

    Raises:
        Dismissed: the client is too slow.
        Disconnected: it is gone before the last of them.
    """
    while True:
        octets = connection.inbox.take(count)
        count -= len(octets)
        pace.note(len(octets))
        take(octets)
        if not count:
            return
        await connection.receive()
