"""The command line: ``ptt [--config F] COMMAND``.

Commands are loaded when they are called and not before: ``ptt --help`` imports click and nothing else. Exceptions of
ours end here, as one clear line each on stderr and an exit code; commands just let them pass.
"""

import importlib
from pathlib import Path

import click
from typing_extensions import override

from ptt import __version__
from ptt.cli.exits import as_exit
from ptt.core.errors import PttError

COMMANDS = {
    "config": ("ptt.cli.config:config", "The settings: check, show."),
    "demo": ("ptt.cli.demo:demo", "Show the whole path of mail on this machine, and check every step."),
    "doctor": ("ptt.cli.doctor:doctor", "Look for all that would keep mail from being taken, signed or delivered."),
    "init": ("ptt.cli.init:init", "Make a folder with all that `ptt up` needs."),
    "key": ("ptt.cli.key:key", "DKIM keys: create, publish, rotate, retire, check, list."),
    "queue": ("ptt.cli.queue:queue", "Mail that waits: list, show, retry, hold, release, fail."),
    "redis": ("ptt.cli.redis:redis", "Redis: users with the least rights, and the functions of ptt."),
    "send": ("ptt.cli.send:send", "Send a test message through the ingress."),
    "trace": ("ptt.cli.trace:trace", "Tell what happened to a message, or to mail for or from an address."),
    "up": ("ptt.cli.up:up", "Run ingress, sign and relay on this host."),
    "user": ("ptt.cli.user:user", "Who may log in: add, disable, list and so on."),
}
"""Name of a command, where it is, and what the overview says of it."""


class LazyGroup(click.Group):
    """A group whose commands are modules that are not loaded yet."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names."""
        return sorted(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table is ours, and a test loads all of it
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview without loading anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    @override
    def invoke(self, ctx: click.Context) -> object:
        """Run the command, and turn our exceptions into exit codes."""
        try:
            return super().invoke(ctx)
        except PttError as error:
            raise as_exit(error) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings; else $PTT_CONFIG, ./ptt.toml, ~/.config/ptt/ptt.toml, /etc/ptt/ptt.toml.",
)
@click.version_option(__version__, package_name="ptt", prog_name="ptt")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Send an organisation's mail to the Internet: submission, DKIM signing, relay.

    \b
    A start on one host:
      ptt init --domain example.org
      ptt user add alice --address alice@example.org
      ptt key create example.org
      ptt up

    Exit codes: 0 fine, 1 failed, 2 usage, 3 not found, 4 a check found problems, 75 temporary, 78 configuration.
    """  # noqa: D301 - \b is click's mark for a paragraph that is not wrapped
    ctx.obj = {"config": config}
