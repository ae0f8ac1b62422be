"""Octets that the client has sent and nobody has read yet: lines for commands, all of it for DATA, a part for BDAT.

A command ends at CRLF only; of a line that is too long no more is kept than shows that it is. RFC 5321 section 2.3.8.
"""

MAX_LINE = 12_288  # octets with CRLF: the longest that any command may have, AUTH; RFC 4954 section 4.5
_CRLF = b"\r\n"


class Inbox:
    """A buffer of octets."""

    __slots__ = ("_octets", "_stub")

    def __init__(self) -> None:
        """Start empty."""
        self._octets = bytearray()
        self._stub = b""

    def __len__(self) -> int:
        """Tell how many octets wait."""
        return len(self._octets)

    def feed(self, octets: bytes | bytearray) -> None:
        """Add what has arrived."""
        self._octets += octets

    def take_line(self) -> bytes | None:
        """Take one line without its CRLF; None as long as it is not complete.

        A line of more than MAX_LINE octets comes out cut, but longer than any limit.
        """
        end = self._octets.find(_CRLF)
        if end >= 0:
            line = self._stub or bytes(memoryview(self._octets)[:end])
            del self._octets[: end + len(_CRLF)]
            self._stub = b""
            return line
        # The threat: a line that never ends. All but the last octet, which may be the CR, is forgotten.
        if len(self._octets) > MAX_LINE or self._stub:
            self._stub = self._stub or bytes(memoryview(self._octets)[: MAX_LINE + 1])
            del self._octets[:-1]
        return None

    def take_all(self) -> bytearray:
        """Take everything."""
        octets, self._octets = self._octets, bytearray()
        return octets

    def peek(self, count: int) -> bytes:
        """Look at the next octets, as many as there are, and leave them."""
        return bytes(memoryview(self._octets)[:count])

    def take(self, count: int) -> bytearray:
        """Take so many octets, or as many as there are."""
        if count >= len(self._octets):
            return self.take_all()
        octets = self._octets[:count]
        del self._octets[:count]
        return octets

    def startswith(self, octets: bytes) -> bool:
        """Tell what comes next."""
        return self._octets.startswith(octets)
