"""``ptt redis``: what an administrator does to a Redis that is shared by roles with the least rights."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

import click

from ptt.cli.spool import open_spool
from ptt.core.errors import ConfigError
from ptt.settings import load_settings, put_login, read_password
from ptt.store.acl import ROLES, format_acl, name_user
from ptt.store.server import check_server, load_functions

PASSWORD_BYTES = 32


@click.group()
def redis() -> None:
    """Redis: users with the least rights, and the functions of ptt."""


@redis.command()
@click.option(
    "--urls",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for ingress.url, sign.url, relay.url and admin.url: redis.url with the login of each role.",
)
@click.pass_obj
def acl(obj: dict[str, Path | None], urls: Path | None) -> None:
    """Print an ACL file with one user for each role; nobody can log in as the default user.

    Without --urls the users have no passwords, and cannot log in until you give them one. With it they are random, and
    kept in the files of that folder (mode 0600), which roles take by PTT_REDIS__URL_FILE. A password that is there
    stays; delete its file to have a new one made.

    Example: ptt redis acl --urls /etc/ptt/redis > /etc/redis/users.acl
    """
    passwords = {} if urls is None else _write_urls(urls, load_settings(obj["config"]).spool_url)
    for line in format_acl(passwords):
        click.echo(line)


@redis.command()
@click.option("--prune", is_flag=True, help="Delete the functions of all other versions of ptt.")
@click.pass_obj
def load(obj: dict[str, Path | None], prune: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Check the server and load the functions of this version, for roles that may not do so.

    Run it as ptt-admin after each upgrade of ptt, and before the roles are started; `--prune` when all are upgraded.

    Example: PTT_REDIS__URL_FILE=/etc/ptt/redis/admin.url ptt redis load
    """
    address = open_spool(obj)
    check_server(address, allow_unsafe=False)
    name, others = load_functions(address, prunes=prune)
    click.echo(f"{name}: loaded")
    for other in others:
        click.echo(f"{other}: {'deleted' if prune else 'of another version'}")


def _write_urls(folder: Path, server: str | None) -> dict[str, str]:
    """Write the URL of each role and give the passwords in them."""
    if server is None:
        raise ConfigError("redis: url: missing: the URLs of the roles are made from it")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {role: _write_url(folder / f"{role}.url", server, name_user(role)) for role in ROLES}
    except OSError as error:
        raise ConfigError(f"--urls: {error}") from error


def _write_url(path: Path, server: str, user: str) -> str:
    password = ""
    with suppress(FileNotFoundError):
        password = read_password(path.read_text(encoding="utf-8").strip())
    password = password or secrets.token_urlsafe(PASSWORD_BYTES)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(put_login(server, user, password) + "\n")
    temporary.replace(path)
    return password
