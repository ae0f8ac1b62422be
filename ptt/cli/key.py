"""``ptt key``: create, publish and list DKIM keys, and what ``key_life`` has. Run where the keys are."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from ptt.cli.exits import NOT_FOUND, PROBLEMS_FOUND, TEMPORARY, Exit
from ptt.cli.key_life import COMMANDS, domain_argument, wait_option
from ptt.cli.key_record import format_zone_line, load, now
from ptt.cli.key_restore import find_missing, restore_records
from ptt.core.address import Domain
from ptt.core.finding import Health
from ptt.core.signature import parse_selector
from ptt.signing.key_files import KeyState
from ptt.signing.key_making import (
    KeyKind,
    derive_private_key,
    derive_selector,
    find_kind,
    generate_private_key,
    load_seed,
)
from ptt.signing.keys import KeyRing, RefusedKey, SigningKey
from ptt.workers.key_checks import judge_signing
from ptt.workers.publication import Publisher, make_publisher, open_ring
from ptt.workers.rotation import make_life

INSTANTS = (*(f"{state.value}_at" for state in KeyState), "revoked_at")
WAITING = frozenset({KeyState.CREATED, KeyState.PUBLISHED})


@click.group()
def key() -> None:
    """DKIM keys: create, publish, rotate, retire, check, list."""


@key.command()
@domain_argument
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
    settings = load(ctx)
    ring = open_ring(settings)
    name, kind = parse_selector(selector, domain) if selector else None, KeyKind(algorithm)
    if seed_file is None:
        private_key = generate_private_key(kind)
    else:
        seed = load_seed(seed_file)
        name = name or derive_selector(seed, domain, kind)
        private_key = derive_private_key(seed, domain, name, kind)
    try:
        made = ring.add_key(domain, name, private_key, created_at=now())
    except FileExistsError as error:
        raise Exit(str(error)) from error
    click.echo(f"created {ring.get_path(made)} ({made.algorithm})")
    if settings.dns_update.server is None:
        click.echo(f"Put this record into the zone:\n\n{format_zone_line(made, settings.dns_update.ttl_s)}\n")
    click.echo(f"next: ptt key publish {domain}")


@key.command()
@domain_argument
@wait_option
@click.pass_context
def publish(ctx: click.Context, domain: Domain, wait_s: float) -> None:
    """Publish the new keys of DOMAIN and let them sign; publish again what is missing of the others.

    With [dns_update] the record is sent to the primary DNS server; without, you put it into the zone yourself. A key
    becomes active, and one that was suspended signs again, once every authoritative server answers exactly its record.
    Exits with 75 when one lags behind (the key stays published: run this again), with 4 when nothing was sent and one
    does not answer it, or no key is left that could sign, or with 1 when something else stands where a record belongs.

    Example: ptt key publish example.org
    """
    settings = load(ctx)
    life = make_life(settings, make_publisher(settings), now, wait_s=wait_s)
    _list_usable(life.ring, domain)
    with life.hold(domain):
        missing, waiting = find_missing(life, domain), _list_waiting(life.ring, domain)
        if not missing and not waiting:
            _tell_idle(domain, life.list_usable(domain))
        # First what has signed already: mail waits for it.
        refused, lagging = restore_records(life, missing)
        lagging += _publish_waiting(life.publisher, waiting, wait_s)
    if refused:
        raise Exit("\n".join(refused + lagging))
    if lagging:
        raise Exit("\n".join(lagging), TEMPORARY if life.publisher.primary else PROBLEMS_FOUND)


@key.command(name="list")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def list_(ctx: click.Context, output: str) -> None:
    """List all keys, also those that are refused.

    Example: ptt key list -o json
    """
    rows = [_describe(found) for found in open_ring(load(ctx)).list_keys()]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo("  ".join(row.get(name) or "-" for name in ("domain", "selector", "algorithm", "state", "problem")))


def _list_usable(ring: KeyRing, domain: Domain) -> Sequence[SigningKey]:
    usable = [found for found in ring.list_keys(domain) if isinstance(found, SigningKey)]
    if not usable:
        raise Exit(f"no usable key of {domain}: create one with `ptt key create {domain}`", NOT_FOUND)
    return usable


def _tell_idle(domain: Domain, usable: list[SigningKey]) -> None:
    health, detail, advice = judge_signing(domain, usable)
    if health is not Health.OK:
        raise Exit(f"nothing to publish, and {detail}: {advice}", PROBLEMS_FOUND)
    click.echo(f"nothing to publish: all keys of {domain} are published")


def _list_waiting(ring: KeyRing, domain: Domain) -> Sequence[SigningKey]:
    return [found for found in _list_usable(ring, domain) if found.status.state in WAITING]


def _publish_waiting(publisher: Publisher, keys: Sequence[SigningKey], wait_s: float) -> list[str]:
    for found in keys:
        publisher.send(found, at=now())
        if publisher.primary:
            click.echo(f"published {found.record_name} on {publisher.primary}")
    return [line for found in keys for line in _activate(publisher, found, wait_s)]


def _activate(publisher: Publisher, found: SigningKey, wait_s: float) -> Sequence[str]:
    lags = publisher.activate(found, at=now(), wait_s=wait_s)
    if not lags:
        click.echo(f"active {found.record_name}: all authoritative servers answer it")
    return [f"{found.record_name} is not active: {lag}" for lag in lags]


def _describe(found: SigningKey | RefusedKey) -> dict[str, str | None]:
    if isinstance(found, RefusedKey):
        return {"domain": found.domain, "selector": found.selector, "state": "refused", "problem": found.reason}
    instants = {name: getattr(found.status, name) for name in INSTANTS}
    return {
        "domain": found.domain,
        "selector": found.selector,
        "algorithm": found.algorithm.value,
        "kind": find_kind(found.private_key).value,
        "state": found.status.state.value,
        "problem": found.status.problem,
        **{name: instant.isoformat() if instant else None for name, instant in instants.items()},
        "record_name": found.record_name,
        "record": found.record,
    }


for command in COMMANDS:
    key.add_command(command)
