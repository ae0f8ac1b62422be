"""Reads the content that DATA or BDAT brings: octets in, content or a refusal out; knows no socket.

After DATA it ends at CRLF.CRLF and nowhere else, after BDAT where the client said it would. Whatever is wrong with it
is said at that end, so that no octet of a message can ever be taken for a command; the rules are the same for both.
RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2; RFC 5322 section 2.1.1; RFC 3030 section 2.
"""

import io

from ptt.core.errors import Refused
from ptt.core.reply import Reply

MAX_LINE = 998  # octets without CRLF; RFC 5322 section 2.1.1

TOO_LARGE = Reply(552, "5.3.4", "Message exceeds the size limit")
BARE_LINE_END = Reply(554, "5.6.0", "Malformed message: bare CR or bare LF; lines end with CRLF")
NUL_OCTET = Reply(554, "5.6.0", "Malformed message: NUL octet")
LINE_TOO_LONG = Reply(554, "5.6.0", f"Malformed message: a line is too long, {MAX_LINE} octets are the limit")

_CRLF = b"\r\n"
_END = b"\r\n.\r\n"
_BLOCK_BYTES = 65_536  # looked at in one piece, for it is copied


class DataReader:
    """Reads one message: `feed` until it gives something back, then `finish`.

    ``held_bytes`` tells how much memory the content takes so far.
    """

    __slots__ = ("_limit", "_max_message_bytes", "_octets", "_refusal")

    def __init__(self, max_message_bytes: int) -> None:
        """Start right after the 354.

        Args:
            max_message_bytes: the largest content that is kept; more is read and thrown away.
        """
        # The CRLF of the DATA command is the first half of the end of an empty message (RFC 5321 section 4.1.1.4).
        self._octets = bytearray(_CRLF)
        self._max_message_bytes = max_message_bytes
        # Dot-stuffing makes a message of lines with a dot each longer by a third at most.
        self._limit = max_message_bytes * 4 // 3 + len(_CRLF)
        self._refusal: Reply | None = None

    @property
    def held_bytes(self) -> int:
        """Tell how many octets are kept."""
        return len(self._octets)

    def refuse(self, reply: Reply) -> None:
        """Throw the content away, now and to come; `finish` will say why."""
        self._refusal = self._refusal or reply
        del self._octets[: 1 - len(_END)]

    def feed(self, octets: bytes | bytearray) -> bytes | None:
        """Take what has arrived.

        Returns:
            What came after the end of the content, maybe nothing; None as long as the end has not been seen.
        """
        start = max(0, len(self._octets) - len(_END) + 1)
        self._octets += octets
        end = self._octets.find(_END, start)
        if end >= 0:
            rest = bytes(memoryview(self._octets)[end + len(_END) :])
            del self._octets[end + len(_CRLF) :]
            return rest
        # The threat: a client that sends for ever. What follows is searched for the end and not kept.
        if len(self._octets) > self._limit:
            self.refuse(TOO_LARGE)
        elif self._refusal:
            self.refuse(self._refusal)
        return None

    def finish(self) -> bytes:
        """Check the content and take out the dot-stuffing.

        Returns:
            RFC 5322 message with CRLF, empty or ending with CRLF.

        Raises:
            Refused: 552 or 554, or what `refuse` was told.
        """
        if self._refusal:
            raise Refused(self._refusal)
        octets = self._octets
        # RFC 5321 section 4.5.2: one dot is taken away from each line that begins with one.
        if octets.rfind(b"\r\n.") >= 0:  # from the end CPython leaps further: a quarter of the time of find
            octets = octets.replace(b"\r\n.", _CRLF)
        content = bytes(memoryview(octets)[len(_CRLF) :])
        if len(content) > self._max_message_bytes:
            raise Refused(TOO_LARGE)
        check_octets(content)
        return content


class ChunkReader:
    """Reads one message that comes in chunks: `feed` with all of them, then `finish`.

    ``held_bytes`` tells how much memory the content takes so far, ``refusal`` why it is thrown away, if it is.
    """

    __slots__ = ("_max_message_bytes", "_octets", "refusal")

    def __init__(self, max_message_bytes: int) -> None:
        """Start before the first chunk; ``max_message_bytes`` is as for `DataReader`."""
        self._octets = bytearray()
        self._max_message_bytes = max_message_bytes
        self.refusal: Reply | None = None

    @property
    def held_bytes(self) -> int:
        """Tell how many octets are kept."""
        return len(self._octets)

    def refuse(self, reply: Reply) -> None:
        """Throw the content away, now and to come."""
        self.refusal = self.refusal or reply
        self._octets.clear()

    def feed(self, octets: bytes | bytearray) -> None:
        """Take what has arrived of a chunk."""
        if self.refusal is None:
            self._octets += octets
            if len(self._octets) > self._max_message_bytes:
                self.refuse(TOO_LARGE)

    def finish(self) -> bytes:
        """Check the content; there is no dot-stuffing to take out.

        Returns:
            RFC 5322 message with CRLF, empty or ending with CRLF.

        Raises:
            Refused: 552 or 554, or what `refuse` was told.
        """
        if self.refusal:
            raise Refused(self.refusal)
        # The next hop is sent it by DATA, which ends the last line: what is signed must be what is sent.
        if self._octets and not self._octets.endswith(_CRLF):
            self._octets += _CRLF
        content = bytes(self._octets)
        check_octets(content)
        return content


def check_octets(content: bytes) -> None:
    """Check what RFC 5322 forbids anywhere in a message.

    Raises:
        Refused: 554 for NUL (section 2.2), CR or LF alone (section 2.3), a line over 998 octets (section 2.1.1).
    """
    if b"\x00" in content:
        raise Refused(NUL_OCTET)
    # The threat: a server behind us that takes a bare LF for a line end reads another message, or two (smuggling).
    if content and _find_line_ends(content) != "\r\n":
        raise Refused(BARE_LINE_END)
    position = 0
    while position < len(content):
        # What ends within the length of one line is made of lines that are not too long, however many they are.
        position = content.rfind(b"\n", position, position + MAX_LINE + len(_CRLF)) + 1
        if not position:
            raise Refused(LINE_TOO_LONG)


def _find_line_ends(content: bytes) -> str | tuple[str, ...] | None:
    """Give all kinds of line ends that occur, as `io.TextIOBase.newlines` does.

    It makes nothing of a line, so that a message of empty lines is hardly dearer than any other, and takes a quarter of
    the time of counting.
    """
    finder = io.IncrementalNewlineDecoder(None, translate=False)
    octets = memoryview(content)
    for start in range(0, len(octets), _BLOCK_BYTES):
        finder.decode(str(octets[start : start + _BLOCK_BYTES], "latin-1"))
    finder.decode("", final=True)
    return finder.newlines
