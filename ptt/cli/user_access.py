"""What all commands on users share: which repository, and how a change of it is told."""

from collections.abc import Mapping
from pathlib import Path

import click

from ptt.core.errors import ConfigError
from ptt.settings import Settings, load_with_origins, redact_url
from ptt.store.users_commit import Edit, commit_users
from ptt.store.users_transfer import Access


def load_access(obj: dict[str, Path | None]) -> tuple[Settings, Access]:
    """Load the settings, and say where the users are.

    Raises:
        ConfigError: the settings are wrong, or name no repository.
    """
    loaded = load_with_origins(obj["config"])
    users = loaded.settings.users
    if not users.repository:
        raise ConfigError(f"{loaded.file or 'ptt.toml'}: users.repository: missing; `ptt init` makes one")
    access = Access(
        repository=users.repository,
        branch=users.branch,
        ssh_key_file=users.ssh_key_file,
        password_file=users.password_file,
        known_hosts_file=users.known_hosts_file,
        signing_key_file=users.signing_key_file,
        must_sign=bool(users.signers_file or users.gpg_signers_file),
    )
    return loaded.settings, access


def commit(access: Access, edits: Mapping[str, Edit], message: str) -> None:
    """Make one commit and say which; see `ptt.store.users_commit.commit_users`."""
    made = commit_users(access, edits, message)
    click.echo(f"{message}: commit {made} on {access.branch} of {redact_url(access.repository)}", err=True)
