"""``ptt up``: everything on this host under one supervisor."""

import sys
from pathlib import Path

import click

from ptt import maillog
from ptt.settings import get_environment, load_settings
from ptt.workers.supervisor import run_up


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to read instead of $PTT_CONFIG, ./ptt.toml, ~/.config/ptt/ptt.toml, /etc/ptt/ptt.toml.",
)
@click.pass_context
def up(ctx: click.Context, config: Path | None) -> None:
    """Run ingress, sign and relay on this host, with an embedded Valkey unless redis.url is set.

    SIGTERM or Ctrl-C finishes what is in hand and stops; a second one stops at once. SIGHUP reloads certificates, keys
    and users. The log goes to stderr, one JSON line an event.

    Example: ptt up --config /etc/ptt/ptt.toml
    """
    config = config or (ctx.obj or {}).get("config")
    environment = dict(get_environment())
    if config is not None:
        environment["PTT_CONFIG"] = str(config.absolute())
    settings = load_settings(config, role="up")
    maillog.configure(settings.log.level)
    sys.exit(run_up(settings, environment))
