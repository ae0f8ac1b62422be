"""How a password gets in: from standard input for programs, from the terminal for people, never as an argument."""

import sys

import click


def read_new_password(*, from_stdin: bool) -> bytes:
    """Read a password that is to be set; on a terminal it is asked for twice."""
    return _read_stdin() if from_stdin else _ask(confirm=True)


def read_password(*, from_stdin: bool) -> bytes:
    """Read a password to log in with."""
    return _read_stdin() if from_stdin else _ask(confirm=False)


def _read_stdin() -> bytes:
    # One line end is the shell's, not the password's.
    password = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise click.UsageError("no password on standard input")
    return password


def _ask(*, confirm: bool) -> bytes:
    if not sys.stdin.isatty():
        raise click.UsageError("standard input is no terminal: use --password-stdin")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True)
    return password.encode()
