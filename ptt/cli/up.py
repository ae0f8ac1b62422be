"""``ptt up``: everything on this host under one supervisor."""

import sys
from pathlib import Path

import click

from ptt import maillog
from ptt.settings import get_environment
from ptt.workers.apart import prepare_accounts
from ptt.workers.readiness import load_ready
from ptt.workers.role_checks import CHECKS
from ptt.workers.supervisor import run_up


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to read instead of $PTT_CONFIG, ./ptt.toml, ~/.config/ptt/ptt.toml, /etc/ptt/ptt.toml.",
)
@click.option("--user-per-role", is_flag=True, help="As root: run each role as a system user of its own.")
@click.pass_context
def up(ctx: click.Context, config: Path | None, user_per_role: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Run ingress, sign and relay on this host, with an embedded Valkey unless redis.url is set.

    SIGTERM or Ctrl-C finishes what is in hand and stops; a second one stops at once. SIGHUP reloads certificates, keys
    and users. The log goes to stderr, one JSON line an event.

    With --user-per-role ingress, sign, relay and the embedded Valkey run as up.ingress_user, up.sign_user and so on
    (ptt-ingress, ptt-sign, ptt-relay, ptt-redis). It refuses to start, with 78 and the commands that help, unless each
    secret file can be read by the roles that need it and by no other.

    Example: ptt up --config /etc/ptt/ptt.toml
    """
    config = config or (ctx.obj or {}).get("config")
    environment = dict(get_environment())
    if config is not None:
        environment["PTT_CONFIG"] = str(config.absolute())
    loaded = load_ready(config, "up", CHECKS["up"])
    if user_per_role and loaded.file:
        # The home of a role's user, where it would look, is another one than ours.
        environment["PTT_CONFIG"] = str(loaded.file.absolute())
    settings = loaded.settings
    maillog.configure(settings.log.level)
    accounts = prepare_accounts(settings, loaded.file) if user_per_role else None
    sys.exit(run_up(settings, environment, accounts))
