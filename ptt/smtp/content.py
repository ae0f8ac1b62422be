"""The content as it goes over the wire: dot-stuffed, ended by CRLF.CRLF. RFC 5321 sections 2.3.8 and 4.5.2. Pure."""

from collections.abc import Iterator

from ptt.core.errors import MalformedInput

BLOCK = 65_536
"""Octets that are written at once, and held back for the final dot at the end."""

_HEADER_MAX = 1_048_576
"""Octets of header that are looked at: a message without an empty line must not be read for ever."""


class BareNewline(MalformedInput):
    """The content has a CR or LF that is not part of CRLF."""


class DotStuffer:
    """Takes a message in parts of any size and gives what to write for each; its state is the end of the last part."""

    def __init__(self) -> None:
        """Start before the first line."""
        self._at_line_start = True
        self._after_cr = False

    def feed(self, part: bytes) -> bytes:
        """Give the part with each dot at the start of a line doubled (RFC 5321 section 4.5.2).

        Raises:
            BareNewline: on a CR or LF that is not part of CRLF: sent as it is, some server would take ``LF.LF`` for
                the end and run what follows as commands (RFC 5321 section 2.3.8).
        """
        if not part:
            return part
        self._check_newlines(part)
        stuffed = part.replace(b"\r\n.", b"\r\n..") if b"\r\n." in part else part
        if self._at_line_start and part.startswith(b"."):
            stuffed = b"." + stuffed
        elif self._after_cr and part.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._at_line_start = part.endswith(b"\r\n") or (self._after_cr and part == b"\n")
        self._after_cr = part.endswith(b"\r")
        return stuffed

    def finish(self) -> bytes:
        """Give the end: CRLF if the last line has none, and the final dot (RFC 5321 section 4.1.1.4).

        Raises:
            BareNewline: if the message ends with a bare CR.
        """
        if self._after_cr:
            raise BareNewline("bare CR at the end")
        return b".\r\n" if self._at_line_start else b"\r\n.\r\n"

    def _check_newlines(self, part: bytes) -> None:
        pairs = part.count(b"\r\n")
        starts_pair = self._after_cr and part.startswith(b"\n")
        if self._after_cr and not starts_pair:
            raise BareNewline("bare CR")
        if part.count(b"\n") != pairs + starts_pair or part.count(b"\r") != pairs + part.endswith(b"\r"):
            raise BareNewline("bare CR or LF")


class HeaderScan:
    """Tells whether the header section has an octet above 127 (RFC 6532), reading no further than it must."""

    def __init__(self) -> None:
        """Start before the first octet."""
        self._seen = b""
        self.is_done = False
        self.is_ascii = True

    def feed(self, part: bytes) -> None:
        """Look at the next part; ``is_done`` once the header is over."""
        self._seen += part
        header, end, _ = self._seen.partition(b"\r\n\r\n")
        self.is_ascii = header.isascii()
        self.is_done = bool(end) or not self.is_ascii or len(self._seen) > _HEADER_MAX


def cut(part: bytes) -> Iterator[bytes]:
    """Cut a part into blocks: a message given as one part must not be copied as a whole."""
    if len(part) <= BLOCK:
        yield part
        return
    for start in range(0, len(part), BLOCK):
        yield part[start : start + BLOCK]
