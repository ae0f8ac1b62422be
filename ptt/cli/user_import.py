"""``ptt user import-ptt``: the users of mirage/ptt."""

from collections.abc import Sequence
from pathlib import Path

import click

from ptt.cli.exits import PROBLEMS_FOUND, Exit
from ptt.cli.user_access import commit, load_access
from ptt.core.address import parse_domain
from ptt.core.mirage_user import MirageUser
from ptt.core.repository import check_repository
from ptt.core.user_file import format_imported_user
from ptt.store.users_commit import Edit, read_users
from ptt.store.users_import import read_mirage_users
from ptt.store.users_password import hash_password
from ptt.store.users_transfer import Access


@click.command(name="import-ptt")
@click.argument("repository", callback=lambda _ctx, _param, value: check_repository(value))
@click.option(
    "--domain",
    required=True,
    callback=lambda _ctx, _param, value: parse_domain(value),
    help="Of the mail there: alice becomes a user who may send as alice@DOMAIN.",
)
@click.option("--branch", default="main", show_default=True, help="Branch of that repository.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done.")
@click.pass_obj
def import_ptt(obj: dict[str, Path | None], repository: str, domain: str, branch: str, *, dry_run: bool) -> None:
    """Take over the users of mirage/ptt's REPOSITORY, a path or a URL, in one commit.

    Their passwords go on to work. Who is here already is left as he is. Exit code 4: some were not taken over.

    Example: ptt user import-ptt /srv/git/ptt-users.git --domain example.org
    """
    settings, access = load_access(obj)
    users = settings.users
    theirs = Access(
        repository=repository, branch=branch, ssh_key_file=users.ssh_key_file, password_file=users.password_file
    )
    found = read_mirage_users(theirs, parse_domain(domain))
    ours = read_users(access).users
    new = [user for user in found.users if user.login not in ours]
    problems = found.problems | {user.login: "is here already" for user in found.users if user.login in ours}
    for name, reason in problems.items():
        click.echo(f"{name!r} not taken over: {reason}", err=True)
    for user in new:
        click.echo(f"{user.login}  {user.address}")
    if new and not dry_run:
        _import(access, new)
    if problems:
        raise Exit(f"{len(problems)} of {len(problems) + len(new)} were not taken over", PROBLEMS_FOUND)


def _import(access: Access, users: Sequence[MirageUser]) -> None:
    edits = {user.login: _make_edit(format_imported_user(user, hash_password(user.digest))) for user in users}
    commit(access, edits, f"Import {len(users)} users of mirage/ptt")


def _make_edit(new: str) -> Edit:
    # Who was added here in the meantime stays.
    return lambda present: new if present is None else present
