"""``ptt demo``: the whole path on this machine, shown and checked."""

import asyncio
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click

from ptt.cli.exits import FAILED
from ptt.demo.story import tell
from ptt.settings import get_environment


@click.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Empty or new folder to work in; a temporary one by default.",
)
@click.option("--keep", is_flag=True, help="Keep the folder, to look at ptt.toml, the users, the keys and the spool.")
def demo(directory: Path | None, *, keep: bool) -> None:
    """Show the whole path of mail on this machine, and check every step.

    Starts a DNS primary and a destination MX on loopback addresses, makes a user and a DKIM key, runs `ptt up` with an
    embedded Valkey, submits mail, and verifies what arrives. Needs git and no privileges, changes nothing outside of
    its folder, and sends nothing anywhere. Exits with 0 only if everything held.

    Example: ptt demo --keep --directory /tmp/ptt-demo
    """
    if directory is not None and directory.exists() and any(directory.iterdir()):
        raise click.UsageError(f"{directory} is not empty")
    folder = directory or Path(tempfile.mkdtemp(prefix="ptt-demo-"))
    try:
        held = asyncio.run(tell(folder.absolute(), get_environment(), now=_now()))
    finally:
        if keep:
            click.echo(f"\nEverything is kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if held else FAILED)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a command is where time comes in
