"""What the demonstration prints: numbered steps, what the servers said, and a mark for each thing that was checked."""

import time

import click

_WIDTH = 18
_MAX_TEXT = 160
"""A reply or a record that is longer is cut: the point is to be read."""


class Console:
    """Prints, and remembers what did not hold."""

    def __init__(self) -> None:
        """Start the clock."""
        self.passed = 0
        self.failures: list[str] = []
        self._steps = 0
        self._began = time.monotonic()

    def step(self, title: str) -> None:
        """Begin a step."""
        self._steps += 1
        clock = click.style(f"{self.elapsed_s():5.1f} s", dim=True)
        click.echo(f"\n{click.style(f'{self._steps}. {title}', bold=True)}  {clock}")

    def command(self, line: str, printed: list[str]) -> None:
        """Show a command and what it printed."""
        click.echo(f"   {click.style('$', fg='cyan')} {line}")
        for text in printed:
            click.echo(f"     {_cut(text)}")

    def tell(self, who: str, what: str) -> None:
        """Show what somebody is or said."""
        click.echo(f"   {click.style(f'{who:<{_WIDTH}}', fg='cyan')} {_cut(what)}")

    def check(self, holds: object, claim: str) -> None:
        """Mark a claim as true or false."""
        if holds:
            self.passed += 1
            click.echo(f"   {click.style('ok', fg='green', bold=True)} {claim}")
        else:
            self.failures.append(claim)
            click.echo(f"   {click.style('FAILED', fg='red', bold=True)} {claim}")

    def fail(self, reason: str) -> None:
        """Note that the demonstration could not go on."""
        self.failures.append(reason.splitlines()[0])
        click.echo(f"\n   {click.style('FAILED', fg='red', bold=True)} {reason}")

    def sum_up(self) -> None:
        """Print the result."""
        click.echo()
        if not self.failures:
            text = f"All {self.passed} checks held, in {self.elapsed_s():.1f} s."
            click.echo(click.style(text, fg="green", bold=True))
            return
        click.echo(click.style(f"{len(self.failures)} did not hold ({self.passed} did):", fg="red", bold=True))
        for failure in self.failures:
            click.echo(f"   {failure}")

    def elapsed_s(self) -> float:
        """Give the seconds since the start."""
        return time.monotonic() - self._began


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 4]} ..."
