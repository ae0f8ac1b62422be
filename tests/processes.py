"""Finds the processes of a test by what /proc tells."""

from collections.abc import Collection
from pathlib import Path

MAX_DEPTH = 10
"""Generations between a process and its oldest ancestor in a test; more is a loop."""


def find_processes(name: str, folder: Path, ancestors: Collection[int]) -> list[int]:
    """Give the pids of processes whose command line holds the name and that belong to a test.

    Args:
        name: part of the command line; all match if it is empty.
        folder: stands in the environment or command line of what belongs to the test.
        ancestors: processes that the test has started. The sign role keeps its environment from who is not root, so
            what descends from these belongs to the test, too.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        command = _read(entry / "cmdline").replace(b"\0", b" ").decode()
        if command and name in command and _belongs(entry, command, folder, ancestors):
            found.append(int(entry.name))
    return found


def _belongs(entry: Path, command: str, folder: Path, ancestors: Collection[int]) -> bool:
    if str(folder).encode() in _read(entry / "environ") + command.encode():
        return True
    pid = int(entry.name)
    for _ in range(MAX_DEPTH):
        if pid in ancestors:
            return True
        # proc(5): the name stands in parentheses and may hold anything; the parent comes second after it.
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
        if len(fields) < 2:
            return False
        pid = int(fields[1])
    return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
