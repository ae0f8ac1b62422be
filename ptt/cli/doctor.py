"""``ptt doctor``: looks for all that would keep mail from being taken, signed or delivered."""

from collections.abc import Iterator

import click

from ptt.cli.findings import output_option, report
from ptt.cli.key_record import load, now
from ptt.core.errors import ConfigError
from ptt.core.finding import Finding, Health
from ptt.settings import Settings
from ptt.workers.host_checks import HostChecks
from ptt.workers.key_checks import KeyChecks
from ptt.workers.publication import make_publisher, open_ring
from ptt.workers.rotation import make_life
from ptt.workers.user_checks import SenderChecks, look_at_users
from ptt.workers.wiring import make_policies


@click.command()
@output_option
@click.option("--smtp-host", default="", metavar="HOST", help="Also try to reach this mail host on port 25.")
@click.pass_context
def doctor(ctx: click.Context, output: str, smtp_host: str) -> None:
    """Look for all that would keep mail from being taken, signed or delivered.

    That is Redis, secrets, certificates, users, our name in the DNS, every DKIM key, and whether one signs for each
    domain that a user may send as. What is not configured here is
    skipped; what cannot be asked is unknown. Changes nothing. Exits with 4 when there is a problem, else with 75 when
    something is unknown.

    Example: ptt doctor -o json
    """
    settings = load(ctx)
    report(ctx, _check_all(settings, smtp_host), output)


def make_key_checks(settings: Settings) -> KeyChecks:
    """Build the checks of keys that the settings describe."""
    life = make_life(settings, make_publisher(settings), now, wait_s=0)
    return KeyChecks(life=life, hostname=settings.ehlo_hostname)


def _check_all(settings: Settings, smtp_host: str) -> Iterator[Finding]:
    yield from HostChecks(settings=settings, now=now, smtp_host=smtp_host).run()
    readable, users = look_at_users(settings)
    yield readable
    if settings.signing.keys_dir is None:
        return
    yield from SenderChecks(ring=open_ring(settings), policies=make_policies(settings)).check(users)
    try:
        checks = make_key_checks(settings)
    except ConfigError as error:
        yield Finding(check="dns_update.usable", subject="", health=Health.PROBLEM, detail=str(error))
        return
    for domain in checks.life.ring.list_domains():
        yield from checks.check_domain(domain)
