"""``ptt user``: who may log in. Each change is a commit in the users repository."""

import json
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from ptt.cli.exits import FAILED, NOT_FOUND, Exit
from ptt.cli.passwords import read_new_password
from ptt.cli.user_access import commit, load_access
from ptt.cli.user_import import import_ptt
from ptt.cli.user_text import describe, describe_usage, list_patterns
from ptt.core.credentials import make_application_password
from ptt.core.user import parse_login
from ptt.core.user_file import (
    add_application_password,
    format_user,
    remove_application_password,
    replace_enabled,
    replace_password,
)
from ptt.store.users_commit import read_users
from ptt.store.users_password import derive_scram, hash_password
from ptt.store.users_transfer import Access

GENERATED_BYTES = 18  # 144 bits, 24 characters
APPLICATION_BYTES = 24  # 192 bits, 32 characters

_login = click.argument("login", callback=lambda _ctx, _param, value: parse_login(value))
_output = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
_password_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
_generate = click.option("--generate", is_flag=True, help="Make up a password and print it.")


@click.group()
def user() -> None:
    """Who may log in: add, disable, list and so on."""


@user.command()
@_login
@click.option(
    "--address",
    "addresses",
    multiple=True,
    required=True,
    help="What may stand in MAIL FROM and From; *@example.org for all of a domain. Can be repeated.",
)
@_password_stdin
@_generate
@click.pass_obj
def add(
    obj: dict[str, Path | None], login: str, addresses: tuple[str, ...], *, password_stdin: bool, generate: bool
) -> None:
    """Add a user who logs in as LOGIN.

    Example: ptt user add alice --address alice@example.org --address '*@alerts.example.org'
    """
    access = _find_repository(obj)
    password = _choose_password(password_stdin=password_stdin, generate=generate)
    encoded, scram = hash_password(password), derive_scram(password)

    def make(text: str | None) -> str:
        if text is not None:
            raise Exit(f"user {login} exists already", FAILED)
        return format_user(encoded, addresses, scram)

    commit(access, {login: make}, f"Add user {login}")
    if generate:
        click.echo(password.decode())


@user.command(name="set-password")
@_login
@_password_stdin
@_generate
@click.pass_obj
def set_password(obj: dict[str, Path | None], login: str, *, password_stdin: bool, generate: bool) -> None:
    """Give LOGIN another password.

    Example: ptt user set-password alice --generate
    """
    access = _find_repository(obj)
    password = _choose_password(password_stdin=password_stdin, generate=generate)
    encoded, scram = hash_password(password), derive_scram(password)
    _change(access, login, lambda text: replace_password(login, text, encoded, scram), f"Set the password of {login}")
    if generate:
        click.echo(password.decode())


@user.command(name="add-password")
@_login
@click.argument("name")
@click.pass_obj
def add_password(obj: dict[str, Path | None], login: str, name: str) -> None:
    """Make up a password for one program of LOGIN, and print it; it is shown once.

    The program logs in as LOGIN with it, by PLAIN or LOGIN. NAME says what it is for.

    Example: ptt user add-password alice printer
    """
    password = secrets.token_urlsafe(APPLICATION_BYTES)
    made = make_application_password(name, password.encode())
    _change(
        _find_repository(obj),
        login,
        lambda text: add_application_password(login, text, made),
        f"Add password {name} of {login}",
    )
    click.echo(password)


@user.command(name="remove-password")
@_login
@click.argument("name")
@click.pass_obj
def remove_password(obj: dict[str, Path | None], login: str, name: str) -> None:
    """Remove what `add-password` made; the program that has it is out at the next login.

    Example: ptt user remove-password alice printer
    """

    def edit(text: str) -> str:
        edited = remove_application_password(login, text, name)
        if edited is None:
            raise Exit(f"user {login} has no password {name}", NOT_FOUND)
        return edited

    _change(_find_repository(obj), login, edit, f"Remove password {name} of {login}")


@user.command()
@_login
@click.pass_obj
def remove(obj: dict[str, Path | None], login: str) -> None:
    """Remove LOGIN, with addresses and password; `disable` keeps them."""
    _change(_find_repository(obj), login, lambda _: None, f"Remove user {login}")


@user.command()
@_login
@click.pass_obj
def disable(obj: dict[str, Path | None], login: str) -> None:
    """Let LOGIN in no more; addresses and password stay for `enable`."""
    _change(_find_repository(obj), login, partial(replace_enabled, login, enabled=False), f"Disable user {login}")


@user.command()
@_login
@click.pass_obj
def enable(obj: dict[str, Path | None], login: str) -> None:
    """Let LOGIN in again."""
    _change(_find_repository(obj), login, partial(replace_enabled, login, enabled=True), f"Enable user {login}")


@user.command(name="list")
@_output
@click.pass_obj
def list_(obj: dict[str, Path | None], output: str) -> None:
    """List all users.

    Example: ptt user list -o json
    """
    settings, access = load_access(obj)
    users = [found for _, found in sorted(read_users(access).users.items())]
    if output == "json":
        click.echo(json.dumps([describe(found, settings) for found in users], indent=2))
        return
    width = max((len(found.login) for found in users), default=0)
    for found in users:
        state = "enabled" if found.enabled else "disabled"
        click.echo(f"{found.login:{width}}  {state:8}  {' '.join(list_patterns(found))}")


@user.command()
@_login
@_output
@click.pass_obj
def show(obj: dict[str, Path | None], login: str, output: str) -> None:
    """Show one user, without the password's hash, and what was sent of what may be.

    Where Redis does not answer, all but the last is shown.
    """
    settings, access = load_access(obj)
    found = read_users(access).users.get(login)
    if found is None:
        raise Exit(f"there is no user {login}", NOT_FOUND)
    row = describe(found, settings)
    usage, line = describe_usage(login, settings)
    if output == "json":
        click.echo(json.dumps({**row, "usage": usage}, indent=2))
        return
    for name, value in row.items():
        click.echo(f"{name}: {' '.join(value) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)}")
    click.echo(f"usage: {line}")


def _find_repository(obj: dict[str, Path | None]) -> Access:
    return load_access(obj)[1]


def _choose_password(*, password_stdin: bool, generate: bool) -> bytes:
    if generate and password_stdin:
        raise click.UsageError("--generate and --password-stdin exclude each other")
    return secrets.token_urlsafe(GENERATED_BYTES).encode() if generate else read_new_password(from_stdin=password_stdin)


def _change(access: Access, login: str, edit: Callable[[str], str | None], message: str) -> None:
    def change(text: str | None) -> str | None:
        if text is None:
            raise Exit(f"there is no user {login}", NOT_FOUND)
        return edit(text)

    commit(access, {login: change}, message)


user.add_command(import_ptt)
