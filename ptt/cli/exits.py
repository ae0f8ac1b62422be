"""How the command line ends: plain lines on stderr and an exit code."""

import sys
from typing import IO, Any

import click
from typing_extensions import override

from ptt.core.errors import (
    CONFIGURATION,
    FAILED,
    NOT_FOUND,
    PROBLEMS_FOUND,
    TEMPORARY,
    USAGE,
    PttError,
    decide_exit_code,
)

__all__ = ["CONFIGURATION", "FAILED", "NOT_FOUND", "PROBLEMS_FOUND", "TEMPORARY", "USAGE", "Exit", "as_exit"]


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
    return Exit(str(error), decide_exit_code(error))
