"""The log lines of a child process: split with a bound, labelled with the name of the process.

A JSON line of ours is passed on with one more field; whatever else a process prints (a traceback, a warning, the
notices of Valkey) becomes the text of a ``process.output`` event, so that the log stays JSON lines to the last line.
"""

import json
from datetime import datetime

MAX_LINE_BYTES = 65_536
"""A process that prints without ever ending the line must not fill the supervisor's memory."""
OWN_EVENT = b'{"ts": "'
"""How `ptt.maillog` begins each line."""


class LineSplitter:
    """Cuts what arrives in pieces into lines; what a line has beyond MAX_LINE_BYTES is dropped."""

    def __init__(self) -> None:
        """Start with an empty line."""
        self._line = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """Give the lines that are complete by now, without their ends and without empty ones."""
        *ends, rest = received.split(b"\n")
        lines = []
        for end in ends:
            self._append(end)
            lines.append(bytes(self._line))
            self._line.clear()
        self._append(rest)
        return [line for line in lines if line.strip()]

    def finish(self) -> list[bytes]:
        """Give the last line, which has no end."""
        return self.feed(b"\n")

    def _append(self, part: bytes) -> None:
        self._line += part[: MAX_LINE_BYTES - len(self._line)]


def parse_line(process: str, line: bytes, now: datetime) -> dict[str, object]:
    """Read one line of a process as the fields of an event.

    Args:
        process: the name of the process, such as ``relay-1``.
        line: the line without its end.
        now: the time of a line that does not tell its own.

    Returns:
        The fields of the line with ``process`` added, or a ``process.output`` event with the line as its text.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):  # a line may be anything, also 60,000 opening brackets
        fields = None
    if isinstance(fields, dict) and "event" in fields:
        return {**fields, "process": process}
    return {
        "ts": now.isoformat(timespec="milliseconds"),
        "level": "info",
        "event": "process.output",
        "process": process,
        "text": line.decode(errors="replace").rstrip(),
    }


def label_event(process: str, line: bytes) -> bytes | None:
    """Add ``process`` to a line that is one of our own events by its looks, without parsing it.

    The log of a busy host is thousands of lines a second, and parsing them cost as much as queueing the mail.

    Returns:
        The line with its end; None if it is anything else.
    """
    if not line.startswith(OWN_EVENT) or not line.endswith(b"}") or len(line) >= MAX_LINE_BYTES:
        return None
    return line[:-1] + b', "process": ' + json.dumps(process).encode() + b"}\n"


def format_line(fields: dict[str, object]) -> bytes:
    """Write the fields of an event as one line."""
    return json.dumps(fields).encode() + b"\n"
