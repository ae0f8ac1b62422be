"""`ptt up --user-per-role`: who runs what, and whether each secret is for those alone who need it.

What a user may read is not worked out from modes: a process of that user asks the kernel, so that access lists, folders
above and mounts count. Nothing is repaired: each problem names the command that does.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptt.core.errors import ConfigError
from ptt.core.repository import is_remote
from ptt.settings import Account, Settings, Users, find_account, find_double, redact_url
from ptt.workers.embedded import EmbeddedServer, find_server

REDIS = "redis"
"""The account of the embedded Valkey, beside those of the roles."""
_ROLES = ("ingress", "sign", "relay")
_CAP_NET_BIND_SERVICE = 10  # linux/capability.h
_ALL = os.R_OK | os.W_OK | os.X_OK
_HIDDEN = ("HOME", "USER", "LOGNAME", "MAIL", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file or folder, and which roles are to use it."""

    key: str
    path: Path
    users: tuple[str, ...]
    mode: int = os.R_OK
    is_secret: bool = True
    """Whether all others must not read it."""


def prepare_accounts(settings: Settings, config: Path | None) -> Mapping[str, Account]:
    """Find the accounts and check that each may read what its role needs, and no secret of another.

    Args:
        settings: the whole ptt.toml.
        config: the file that they are from.

    Raises:
        ConfigError: one line a problem: we are not root, an account cannot be used, or a file is for the wrong ones.
    """
    if os.geteuid():
        raise ConfigError("ptt up --user-per-role: must be started as root: only root can become other users")
    accounts = _find_accounts(settings)
    places = tuple(_list_places(settings, config))
    problems = [*_list_problems(places, accounts)]
    if "***" in redact_url(settings.users.repository):
        problems.append("users.repository: holds a password, which each role reads: set users.password_file instead")
    if problems:
        raise ConfigError(*problems)
    return accounts


def format_environment(account: Account | None) -> Mapping[str, str]:
    """Give what an account changes in the environment of its program."""
    return {} if account is None else {**dict.fromkeys(_HIDDEN, ""), "HOME": account.home, "USER": account.name}


def format_tether(role: str, account: Account | None, server: EmbeddedServer | None) -> str:
    """Write an account as the tether takes it: with the group of the server's socket, and for ingress its ports."""
    if account is None:
        return ""
    shared = server.account.gid if server and server.account else ""
    return f"{account.uid}:{account.gid}:{shared}:{_CAP_NET_BIND_SERVICE if role == 'ingress' else ''}"


def _find_accounts(settings: Settings) -> dict[str, Account]:
    accounts, problems = {}, []
    names = (*_ROLES, *(() if settings.redis.url else (REDIS,)))
    for name in names:
        try:
            accounts[name] = find_account(getattr(settings.up, f"{name}_user"))
        except ValueError as error:
            problems.append(f"up.{name}_user: {error}")
    if not problems and (double := find_double(accounts.values())):
        problems.append(f"up: {double} shares its user or group with another role: each needs both of its own")
    if problems:
        raise ConfigError(*problems)
    return accounts


def _list_places(settings: Settings, config: Path | None) -> Iterator[Place]:
    yield Place(key="python", path=Path(sys.executable), users=_ROLES, mode=os.X_OK, is_secret=False)
    if config is not None:
        yield Place(key="config", path=config.absolute(), users=_ROLES, is_secret=False)
    if not settings.redis.url:
        yield from _list_valkey_places(settings.up.data_dir.absolute())
    if settings.signing.keys_dir is not None:
        yield from _list_key_places(settings.signing.keys_dir)
    for certificate in settings.ingress.all_certificates:
        yield Place(key="ingress.key_file", path=certificate.key_file, users=("ingress",))
        yield Place(
            key="ingress.certificate_file", path=certificate.certificate_file, users=("ingress",), is_secret=False
        )
    yield from _list_users_places(settings.users)
    seal_key, tsig = settings.ingress.seal_key_file, settings.dns_update.tsig_secret_file
    yield from _list_file("ingress.seal_key_file", seal_key, "ingress", "sign")
    yield from _list_file("dns_update.tsig_secret_file", tsig, "sign")


def _list_key_places(folder: Path) -> Iterator[Place]:
    for one in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        yield Place(key="signing.keys_dir", path=one, users=("sign",), mode=_ALL)
    for path in sorted(folder.glob("*/*.pem")):
        yield Place(key="signing.keys_dir", path=path, users=("sign",))


def _list_users_places(users: Users) -> Iterator[Place]:
    if users.repository and is_remote(users.repository):
        yield Place(key="users.clone_dir", path=users.clone_dir, users=("ingress",), mode=_ALL)
    elif users.repository:
        yield Place(key="users.repository", path=Path(users.repository), users=("ingress",), mode=os.R_OK | os.X_OK)
    yield from _list_file("users.ssh_key_file", users.ssh_key_file, "ingress")
    yield from _list_file("users.password_file", users.password_file, "ingress")
    yield from _list_file("users.signing_key_file", users.signing_key_file)


def _list_file(key: str, path: Path | None, *roles: str) -> Iterator[Place]:
    if path is not None:
        yield Place(key=key, path=path, users=roles)


def _list_valkey_places(data_dir: Path) -> Iterator[Place]:
    yield Place(key="up", path=find_server(), users=(REDIS,), mode=os.X_OK, is_secret=False)
    above = next(folder for folder in data_dir.parents if folder.exists())
    yield Place(key="up.data_dir", path=above, users=(*_ROLES, REDIS), mode=os.X_OK, is_secret=False)
    if data_dir.exists() and any(data_dir.iterdir()):
        # What is in it from before must be handed over by a person; a new folder is ours to make.
        for path in (data_dir, *data_dir.glob("appendonlydir"), *data_dir.glob("appendonlydir/*")):
            yield Place(key="up.data_dir", path=path, users=(REDIS,), mode=os.R_OK | os.W_OK)


def _list_problems(places: Sequence[Place], accounts: Mapping[str, Account]) -> Iterator[str]:
    able = {name: _ask(account, places) for name, account in accounts.items()}
    told = set[Path]()
    for number, place in enumerate(places):
        lacking = [accounts[name].name for name in place.users if not able[name][number][0]]
        knowing = [
            account.name for name, account in accounts.items() if name not in place.users and able[name][number][1]
        ]
        if lacking:
            reason = f"cannot be used by {' and '.join(lacking)}"
        elif place.is_secret and knowing:
            reason = f"can be read by {' and '.join(knowing)}, who must not"
        else:
            continue
        # What is told of a folder repairs what is in it, too.
        if place.path not in told and not (lacking and place.is_secret and told.intersection(place.path.parents)):
            yield f"{place.key}: {place.path}: {reason}: {_advise(place, accounts)}"
        told.add(place.path)


def _advise(place: Place, accounts: Mapping[str, Account]) -> str:
    """Give the command that sets the right owner and mode."""
    path = shlex.quote(str(place.path))
    if not place.is_secret:
        return f"chmod o+{'x' if place.mode == os.X_OK else 'rX'} {path}, and o+x the folders above it"
    owners = [accounts[name] for name in place.users]
    if not owners:
        return f"chown root:root {path} && chmod 600 {path}"
    if place.path.is_dir():
        return f"chown -R {owners[0].name}:{owners[0].group} {path} && chmod 700 {path}, and o+x the folders above it"
    if not place.path.exists():
        return f"install -d -o {owners[0].name} -g {owners[0].group} -m 700 {path}"
    mode = 600 if len(owners) == 1 else 440
    return f"chown {owners[0].name}:{owners[-1].group} {path} && chmod {mode} {path}, and o+x the folders above it"


def _ask(account: Account, places: Sequence[Place]) -> list[tuple[bool, bool]]:
    """Tell of each place whether the account may do what is wanted there, and whether it may read it.

    A process of its own becomes the account: the kernel's answer is the one that counts.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
            answers = ((os.access(place.path, place.mode), os.access(place.path, os.R_OK)) for place in places)
            os.write(writing, bytes(2 * can_use + can_read for can_use, can_read in answers))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if len(answer) != len(places):
        raise ConfigError(f"{account.name}: cannot become this user")
    return [(bool(octet & 2), bool(octet & 1)) for octet in answer]
