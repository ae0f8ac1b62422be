"""The two ledgers: what was promised to the sender, and what a destination took, each line on disk before it counts."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Ledger:
    """A file of JSON lines; `write` returns when the line is on disk."""

    def __init__(self, path: Path) -> None:
        """Open it for appending."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, line: Mapping[str, object]) -> None:
        """Write one line and wait for the disk."""
        os.write(self._fd, json.dumps(line).encode() + b"\n")
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Give each line that is a JSON object; a process that was killed may have left half a line."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if isinstance(fields, dict):
            yield fields
