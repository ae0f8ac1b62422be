"""``ptt config``: check the settings, and show what they are and where they come from."""

import json
from pathlib import Path

import click

from ptt.cli.reference import describe, format_toml, get_defaults
from ptt.settings import list_fields, load_with_origins, redact
from ptt.workers.readiness import load_ready
from ptt.workers.role_checks import CHECKS


@click.group()
def config() -> None:
    """The settings: check, show."""


@config.command()
@click.option(
    "--role",
    type=click.Choice(["ingress", "sign", "relay", "up"]),
    default="up",
    show_default=True,
    help="What this host runs: `up` is all of it.",
)
@click.pass_obj
def check(obj: dict[str, Path | None], role: str) -> None:
    """Find all that is wrong with the settings and with what the files hold that they name.

    Unknown keys, values out of range, files that cannot be read, keys and certificates that are none or do not belong
    together, and so on: all that makes a program refuse to start, but for Redis and the ports. Nothing is asked over
    a network; `ptt doctor` does that.

    Prints one line for each on stderr, `file: key: reason`, and exits with 78 if there is one.

    Example: ptt config check --role relay
    """
    load_ready(obj["config"], role, CHECKS[role])
    click.echo(f"the settings are fine for {role}", err=True)


@config.command()
@click.option("-o", "--output", type=click.Choice(["toml", "json"]), default="toml", show_default=True)
@click.pass_obj
def show(obj: dict[str, Path | None], output: str) -> None:
    """Show every setting: its value, where that comes from, its meaning, range and default.

    Passwords in URLs are shown as ***.

    Example: ptt config show -o json
    """
    loaded = load_with_origins(obj["config"])
    values, defaults = redact(loaded.settings), get_defaults()
    if output == "toml":
        notes = {key: origin for key, origin in loaded.origins.items() if "." in key}
        click.echo(format_toml(values, lambda key: _get(values, key) is not None, notes), nl=False)
        return
    tables: dict[str, dict[str, object]] = {}
    for dotted, field in list_fields():
        section, _, key = dotted.partition(".")
        tables.setdefault(section, {})[key] = {
            "value": values[section][key],
            "origin": loaded.origins.get(dotted, "default"),
            "default": defaults[section][key],
            "meaning": describe(field, None),
        }
    click.echo(json.dumps(tables, indent=2))


def _get(values: dict[str, dict[str, object]], dotted: str) -> object:
    section, _, key = dotted.partition(".")
    return values[section][key]
