"""``ptt key``: create, publish and list DKIM keys. Run where the keys are."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from ptt import maillog
from ptt.cli.exits import NOT_FOUND, PROBLEMS_FOUND, TEMPORARY, Exit
from ptt.core.address import Domain, parse_domain
from ptt.core.errors import MalformedInput
from ptt.core.signature import parse_selector, split_txt
from ptt.settings import Settings, load_settings
from ptt.signing.domain_names import to_a_labels
from ptt.signing.key_files import KeyState
from ptt.signing.key_making import KeyKind, derive_private_key, derive_selector, generate_private_key, load_seed
from ptt.signing.keys import KeyRing, RefusedKey, SigningKey
from ptt.workers.publication import Publisher, make_publisher, open_ring

WAITING = frozenset({KeyState.CREATED, KeyState.PUBLISHED})
DEFAULT_WAIT_S = 60.0
"""How long `publish` waits for the last authoritative server; NOTIFY takes seconds."""


def _parse_domain(_ctx: click.Context, _param: click.Parameter, value: str) -> Domain:
    try:
        return parse_domain(value, to_a_labels)
    except MalformedInput as error:
        raise click.BadParameter(str(error)) from error


@click.group()
def key() -> None:
    """DKIM keys: create, publish, list."""


@key.command()
@click.argument("domain", callback=_parse_domain)
@click.option("--selector", help="Name of the key; ptt, the date and a random part by default.")
@click.option("--algorithm", type=click.Choice([kind.value for kind in KeyKind]), default="rsa2048", show_default=True)
@click.option(
    "--seed-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Derive the key from this secret (base64, mode 0600): the same seed, DOMAIN, selector and algorithm give the "
    "same key again.",
)
@click.pass_context
def create(ctx: click.Context, domain: Domain, selector: str | None, algorithm: str, seed_file: Path | None) -> None:
    """Create a key for DOMAIN. It signs nothing until it is published.

    Example: ptt key create example.org --algorithm ed25519
    """
    settings = _load(ctx)
    ring = open_ring(settings)
    name, kind = parse_selector(selector, domain) if selector else None, KeyKind(algorithm)
    if seed_file is None:
        private_key = generate_private_key(kind)
    else:
        seed = load_seed(seed_file)
        name = name or derive_selector(seed, domain, kind)
        private_key = derive_private_key(seed, domain, name, kind)
    try:
        made = ring.add_key(domain, name, private_key, created_at=_now())
    except FileExistsError as error:
        raise Exit(str(error)) from error
    click.echo(f"created {ring.get_path(made)} ({made.algorithm})")
    if settings.dns_update.server is None:
        click.echo(f"Put this record into the zone:\n\n{_format_zone_line(made, settings.dns_update.ttl_s)}\n")
    click.echo(f"next: ptt key publish {domain}")


@key.command()
@click.argument("domain", callback=_parse_domain)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=DEFAULT_WAIT_S,
    show_default=True,
    help="Seconds to wait until all authoritative servers answer the record.",
)
@click.pass_context
def publish(ctx: click.Context, domain: Domain, wait_s: float) -> None:
    """Publish the new keys of DOMAIN and let them sign.

    With [dns_update] the record is sent to the primary DNS server; without, you put it into the zone yourself. A key
    becomes active once every authoritative server answers exactly its record. Exits with 75 when one lags behind (the
    key stays published: run this again), or with 4 when nothing was sent and one does not answer it.

    Example: ptt key publish example.org
    """
    publisher = make_publisher(_load(ctx))
    keys = [found for found in _list_usable(publisher.ring, domain) if found.status.state in WAITING]
    if not keys:
        click.echo(f"nothing to publish: all keys of {domain} are published")
    for found in keys:
        publisher.send(found, at=_now())
        if publisher.primary:
            click.echo(f"published {found.record_name} on {publisher.primary}")
    lagging = [line for found in keys for line in _activate(publisher, found, wait_s)]
    if lagging:
        raise Exit("\n".join(lagging), TEMPORARY if publisher.primary else PROBLEMS_FOUND)


@key.command(name="list")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def list_(ctx: click.Context, output: str) -> None:
    """List all keys, also those that are refused.

    Example: ptt key list -o json
    """
    rows = [_describe(found) for found in open_ring(_load(ctx)).list_keys()]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo("  ".join(row.get(name) or "-" for name in ("domain", "selector", "algorithm", "state", "problem")))


def _load(ctx: click.Context) -> Settings:
    settings = load_settings(ctx.obj["config"])
    maillog.configure(settings.log.level)
    return settings


def _list_usable(ring: KeyRing, domain: Domain) -> Sequence[SigningKey]:
    usable = [found for found in ring.list_keys(domain) if isinstance(found, SigningKey)]
    if not usable:
        raise Exit(f"no usable key of {domain}: create one with `ptt key create {domain}`", NOT_FOUND)
    return usable


def _activate(publisher: Publisher, found: SigningKey, wait_s: float) -> Sequence[str]:
    lagging = publisher.activate(found, at=_now(), wait_s=wait_s)
    if not lagging:
        click.echo(f"active {found.record_name}: all authoritative servers answer it")
    return [f"{found.record_name} is not active: {line}" for line in lagging]


def _describe(found: SigningKey | RefusedKey) -> dict[str, str | None]:
    if isinstance(found, RefusedKey):
        return {"domain": found.domain, "selector": found.selector, "state": "refused", "problem": found.reason}
    status = found.status
    instants = {"created_at": status.created_at, "published_at": status.published_at, "active_at": status.active_at}
    return {
        "domain": found.domain,
        "selector": found.selector,
        "algorithm": found.algorithm.value,
        "state": status.state.value,
        **{name: instant.isoformat() if instant else None for name, instant in instants.items()},
        "record_name": found.record_name,
        "record": found.record,
    }


def _format_zone_line(made: SigningKey, ttl_s: int) -> str:
    strings = " ".join(f'"{part.decode()}"' for part in split_txt(made.record))
    return f"{made.record_name}. {ttl_s} IN TXT ( {strings} )"


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a command is where time comes in
