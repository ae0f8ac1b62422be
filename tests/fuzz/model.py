"""What a client may expect of a session: which replies are due for which octets. Knows nothing of ptt's own code.

RFC 5321 sections 4.2 and 4.1.1.4, RFC 4954 section 4, RFC 3030 section 2.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, auto

MAX_REPLY_LINE = 512  # octets with CRLF; RFC 5321 section 4.5.3.1.5
MAX_RESPONSE_LINE = 12_288  # RFC 4954 section 4
_LINE = re.compile(rb"([2345][0-9][0-9])(?:([ -])([ -~]+)|(?<=334)( ))")  # RFC 4954 section 4: a challenge may be empty
_CHUNK = re.compile(rb"BDAT ([0-9]{1,20})(?: LAST)? *", re.IGNORECASE)
_MAX_COMMAND = 510
_MAX_CHUNK = 2**31
_END = b"\r\n.\r\n"


class Mode(Enum):
    """What the client is to send next."""

    COMMAND = auto()
    RESPONSE = auto()
    CONTENT = auto()
    CHUNK = auto()
    NOTHING = auto()


def read_replies(octets: bytes) -> list[str]:
    """Read the server's octets as replies of one or more lines, joined by LF.

    Raises:
        AssertionError: they are not well-formed.
    """
    replies: list[str] = []
    lines: list[re.Match[bytes]] = []
    assert not octets or octets.endswith(b"\r\n"), octets
    for line in octets.split(b"\r\n")[:-1]:
        match = _LINE.fullmatch(line)
        assert match is not None, line
        assert len(line) + 2 <= (MAX_RESPONSE_LINE if match[1] == b"334" else MAX_REPLY_LINE), line
        lines.append(match)
        assert match[1] == lines[0][1], octets
        if match[2] != b"-":
            replies.append("\n".join(one[0].decode() for one in lines))
            lines = []
    assert not lines, octets
    return replies


@dataclass
class Client:
    """Follows a session; ``messages`` is how many the server has taken."""

    mode: Mode = Mode.COMMAND
    messages: int = 0
    is_closed: bool = False
    _pending: bytes = b""
    _chunk_left: int = 0
    _replies: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Tell whether the session is over, or one that is not followed: TLS has begun."""
        return self.mode is Mode.NOTHING

    def note(self, piece: bytes, replies: list[str], *, is_closed: bool) -> None:
        """Take note of octets, with at most one line end, and of all replies to them.

        Raises:
            AssertionError: other replies were due.
        """
        self._replies, self.is_closed = replies, is_closed
        if self.mode is Mode.CHUNK:
            piece = self._take_chunk(piece)
        self._pending += piece
        if self.mode is Mode.CONTENT:
            if (b"\r\n" + self._pending).endswith(_END):
                self._expect_final()
        elif self.mode is not Mode.CHUNK and self._pending.endswith(b"\r\n") and not (is_closed and not replies):
            self._take_line(self._pending[:-2])
        if is_closed:
            # Whoever closes says why, in one last reply; to octets that are no line as well.
            assert len(self._replies) <= 1, (piece, self._replies)
            self.mode = Mode.NOTHING
        else:
            assert not self._replies, (piece, self._replies)

    def _take_chunk(self, piece: bytes) -> bytes:
        count = min(self._chunk_left, len(piece))
        self._chunk_left -= count
        if not self._chunk_left:
            self._expect_final()
        return piece[count:]

    def _take_line(self, line: bytes) -> None:
        self._pending = b""
        if self.mode is Mode.COMMAND and (size_bytes := _find_chunk(line)) is not None:
            self._chunk_left, self.mode = size_bytes, Mode.CHUNK
            if not self._chunk_left:
                self._expect_final()
            return
        reply = self._expect()
        # Octets of a chunk would follow, and nobody knows how many.
        assert self.is_closed or self.mode is not Mode.COMMAND or not line.upper().startswith(b"BDAT")
        if reply.startswith("334"):
            assert self.mode is Mode.RESPONSE or line[:5].upper() == b"AUTH "
            self.mode = Mode.RESPONSE
        elif reply.startswith("354"):
            assert line.upper().rstrip() == b"DATA"
            self.mode = Mode.CONTENT
        elif reply.startswith("220"):
            self._replies.clear()
            self.mode = Mode.NOTHING
        else:
            self.mode = Mode.COMMAND
            assert "queued as" not in reply

    def _expect_final(self) -> None:
        reply = self._expect()
        assert reply[0] in "245"
        self._pending, self.mode = b"", Mode.COMMAND
        self.messages += reply.startswith("250 2.0.0 queued as")

    def _expect(self) -> str:
        assert self._replies, f"no reply in mode {self.mode} to {self._pending!r}"
        return self._replies.pop(0)


def _find_chunk(line: bytes) -> int | None:
    """Give how many octets follow a BDAT line; None if it is none of RFC 3030 section 2."""
    chunk = _CHUNK.fullmatch(line) if len(line) <= _MAX_COMMAND else None
    return int(chunk[1]) if chunk and int(chunk[1]) <= _MAX_CHUNK else None
