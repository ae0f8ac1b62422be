"""Exit codes of the command line, and which exception ends with which."""

import sys
from typing import IO, Any

import click
from typing_extensions import override

from ptt.core.errors import ConfigError, MalformedInput, NoSuchDomain, PttError, Unavailable

FAILED = 1
USAGE = 2
NOT_FOUND = 3
PROBLEMS_FOUND = 4
TEMPORARY = 75  # sysexits.h: EX_TEMPFAIL
CONFIGURATION = 78  # sysexits.h: EX_CONFIG

_CODES: tuple[tuple[type[PttError], int], ...] = (
    (ConfigError, CONFIGURATION),
    (Unavailable, TEMPORARY),
    (MalformedInput, USAGE),
    (NoSuchDomain, NOT_FOUND),
    (PttError, FAILED),
)


class Exit(click.ClickException):
    """Ends the program with plain lines on stderr and an exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        """Keep both."""
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click reads it from the instance

    @override
    def show(self, file: IO[Any] | None = None) -> None:
        """Write the lines as they are: ``file: key: reason`` is for editors as well as for people."""
        click.echo(self.message, file=file or sys.stderr)


def as_exit(error: PttError) -> Exit:
    """Give the exit that an exception of ours means."""
    return Exit(str(error), next(code for kind, code in _CODES if isinstance(error, kind)))
