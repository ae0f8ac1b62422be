"""``ptt key rotate``, ``activate``, ``retire`` and ``check``: the later life of a DKIM key."""

import click

from ptt.cli.doctor import make_key_checks
from ptt.cli.exits import NOT_FOUND, PROBLEMS_FOUND, TEMPORARY, Exit
from ptt.cli.findings import output_option, report
from ptt.cli.key_record import format_zone_line, load, now, parse_domain_argument
from ptt.core.address import Domain
from ptt.signing.key_files import KeyState
from ptt.signing.keys import SigningKey
from ptt.workers.publication import make_publisher
from ptt.workers.rotation import KeyLife, Lagging, make_life

DEFAULT_WAIT_S = 60.0
"""How long a person waits for the last authoritative server; NOTIFY takes seconds."""

domain_argument = click.argument("domain", callback=parse_domain_argument)
wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=DEFAULT_WAIT_S,
    show_default=True,
    help="Seconds to wait until all authoritative servers answer the record.",
)
force_option = click.option("--force", is_flag=True, help="Also the last key that signs: mail of DOMAIN then waits.")


@click.command()
@domain_argument
@wait_option
@click.option("--rollback", is_flag=True, help="Undo the last rotation: what it replaced signs again.")
@click.pass_context
def rotate(ctx: click.Context, domain: Domain, wait_s: float, *, rollback: bool) -> None:
    """Put a new key in the place of each active key of DOMAIN.

    The new key is published, and signs once every authoritative server answers it; only then the old one stops. The
    old record stays in the DNS until no signature made with it is valid any more (relay.max_age_s and 7 days), then a
    sign worker removes it. Exits with 75 when a server lags behind, or with 4 when you have to put the record into the
    zone yourself: the old key goes on, run this again.

    Example: ptt key rotate example.org
    """
    life = _make_life(ctx, wait_s)
    _find_keys(life, domain)
    with life.hold(domain):
        _end(ctx, life, life.roll_back(domain) if rollback else life.rotate(domain))
        _show(life, domain)


@click.command()
@domain_argument
@click.argument("selector")
@wait_option
@click.pass_context
def activate(ctx: click.Context, domain: Domain, selector: str, wait_s: float) -> None:
    """Let the key SELECTOR of DOMAIN sign in the place of the others of its algorithm.

    It is published if it is not in the DNS. Exits as `rotate` does.

    Example: ptt key activate example.org ptt20261123-3f9a1c
    """
    life = _make_life(ctx, wait_s)
    _find_keys(life, domain, selector)
    with life.hold(domain):
        [found] = _find_keys(life, domain, selector)
        _end(ctx, life, life.activate(found))
        _show(life, domain)


@click.command()
@domain_argument
@click.argument("selector")
@force_option
@click.option("--now", "at_once", is_flag=True, help="Declare the key void at once (p= emptied): others may have it.")
@click.pass_context
def retire(ctx: click.Context, domain: Domain, selector: str, *, force: bool, at_once: bool) -> None:
    """Let the key SELECTOR of DOMAIN sign no more.

    Its record stays until no signature made with it is valid any more; a sign worker removes it then, or this command
    when it is run again. With --now, mail that is under way with its signature fails verification, and the key never
    signs again.

    Example: ptt key retire example.org ptt20261123-3f9a1c
    """
    life = _make_life(ctx, 0)
    _find_keys(life, domain, selector)
    with life.hold(domain):
        [found] = _find_keys(life, domain, selector)
        if at_once:
            life.revoke(found, is_forced=force)
        else:
            life.retire(found, is_forced=force)
        _show(life, domain, selector)
    if life.publisher.primary is None and found.status.state is not KeyState.CREATED:
        click.echo(
            f"The record of {found.record_name} is in your hands: remove it from the zone when its time is over."
        )


@click.command()
@click.argument("domain", required=False, callback=lambda *given: given[2] and parse_domain_argument(*given))
@output_option
@click.pass_context
def check(ctx: click.Context, domain: Domain | None, output: str) -> None:
    """Check the keys of DOMAIN, or of all: files, states, what every name server answers, TTL, SPF and DMARC.

    Changes nothing. Exits with 4 when there is a problem, else with 75 when something is unknown.

    Example: ptt key check example.org -o json
    """
    checks = make_key_checks(load(ctx))
    domains = [domain] if domain else checks.life.ring.list_domains()
    if not any(checks.life.ring.list_keys(name) for name in domains):
        raise Exit("there is no key: `ptt key create DOMAIN` makes one", NOT_FOUND)
    report(ctx, (finding for name in domains for finding in checks.check_domain(name)), output)


COMMANDS: tuple[click.Command, ...] = (rotate, activate, retire, check)


def _make_life(ctx: click.Context, wait_s: float) -> KeyLife:
    settings = load(ctx)
    return make_life(settings, make_publisher(settings), now, wait_s=wait_s)


def _find_keys(life: KeyLife, domain: Domain, selector: str | None = None) -> list[SigningKey]:
    usable = [found for found in life.list_usable(domain) if selector in {None, found.selector}]
    if not usable:
        name = f"key {selector}" if selector else "key"
        raise Exit(f"no usable {name} of {domain}: `ptt key list` shows all", NOT_FOUND)
    return usable


def _end(ctx: click.Context, life: KeyLife, lagging: Lagging) -> None:
    """End the command if a server lags behind; without a primary, say first what is to be put into the zone."""
    if not lagging:
        return
    lines = [f"{found.record_name} is not active: {lag}" for found, lag in lagging]
    if life.publisher.primary is None:
        for found in dict.fromkeys(found.selector for found, _ in lagging):
            record = next(key for key, _ in lagging if key.selector == found)
            click.echo(f"Put this record into the zone:\n\n{format_zone_line(record, load(ctx).dns_update.ttl_s)}\n")
        raise Exit("\n".join(lines), PROBLEMS_FOUND)
    raise Exit("\n".join(lines), TEMPORARY)


def _show(life: KeyLife, domain: Domain, selector: str | None = None) -> None:
    for found in _find_keys(life, domain, selector):
        if found.status.state is KeyState.RETIRING and (end := life.get_end(found)):
            click.echo(f"retiring {found.record_name}: its record stays until {end:%Y-%m-%d %H:%M} UTC")
        elif found.status.state is not KeyState.RETIRED or selector:
            click.echo(f"{found.status.state.value} {found.record_name}")
