"""What is wrong with settings, as lines ``file: key: reason``: refused values, and what a role needs and lacks.

Works on plain keys and values, so that all is reported at once, also beside values that are refused.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ValidationError

from ptt.settings.accounts import find_account
from ptt.settings.model import Up
from ptt.settings.sources import FILE_SUFFIX, format_variable, suggest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_REDIS_FILES = ("redis.ca_file", "redis.certificate_file", "redis.key_file")

NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ingress": (
            "redis.url",
            "ingress.hostname",
            "ingress.certificate_file",
            "ingress.key_file",
            "ingress.seal_key_file",
            "users.repository",
        ),
        "sign": ("redis.url", "ingress.seal_key_file", "signing.keys_dir"),
        "relay": ("redis.url", "relay.hostname"),
    }
)
"""Keys that a role cannot start without."""

READS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ingress": (
            *_REDIS_FILES,
            "ingress.certificate_file",
            "ingress.key_file",
            "ingress.certificates",
            "ingress.seal_key_file",
            "ingress.client_ca_file",
            "oauth.keys_file",
            "users.ssh_key_file",
            "users.password_file",
            "users.known_hosts_file",
            "users.signers_file",
            "users.gpg_signers_file",
        ),
        "sign": (*_REDIS_FILES, "ingress.seal_key_file", "signing.keys_dir", "dns_update.tsig_secret_file"),
        "relay": (*_REDIS_FILES, "relay.ca_file"),
    }
)
"""Files and folders that a role reads if they are set."""

FALLBACKS: Mapping[str, str] = MappingProxyType(
    {
        "relay.hostname": "ingress.hostname",
        "ingress.certificate_file": "ingress.certificates",
        "ingress.key_file": "ingress.certificates",
    }
)
ONE_HOST = "up"
"""The role that is all the others at once, and starts its own Redis server when none is named."""
SEAL_KEY = "ingress.seal_key_file"
OURS_ALONE = frozenset({SEAL_KEY, "dns_update.tsig_secret_file"})
"""Files that nobody but their owner may read; private keys for DKIM are looked at where they are read."""
_SECRETS = ("url", "repository")
"""Parts of keys whose values may hold a password and are not shown."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one key."""

    key: str
    """Dotted, and in a list of tables with the number and the name: ``ingress.certificates[0].key_file``."""
    line: str
    """``file: key: reason``."""


def list_missing(role: str, values: Mapping[str, object], origins: Mapping[str, str], source: str) -> Iterator[Problem]:
    """List what the role needs and lacks, and what it cannot read.

    Args:
        role: a key of `NEEDS`, or ``up``.
        values: what is set, by dotted key.
        origins: where each value came from.
        source: the file to name for a key that is set nowhere.
    """
    roles = tuple(NEEDS) if role == ONE_HOST else (role,)
    needed = dict.fromkeys(key for name in roles for key in NEEDS[name])
    if role == ONE_HOST:
        del needed["redis.url"]
    for key in needed:
        if not values.get(key) and not values.get(FALLBACKS.get(key, "")):
            yield Problem(key, f"{source}: {key}: missing; `{role}` needs it")
    for key in dict.fromkeys(key for name in roles for key in READS[name]):
        for name, path in _list_files(key, values.get(key)):
            if reason := _try_to_read(key, Path(path)):
                yield Problem(name, f"{format_place(name, origins[key])}: cannot be read: {reason}")
        if not (key == SEAL_KEY and _is_shared_by_roles(values)):
            yield from _list_exposed(key, values.get(key), origins.get(key, source))


def _list_exposed(key: str, value: object, origin: str) -> Iterator[Problem]:
    """Find fault with a secret file that others may read; systemd's credentials are systemd's to guard."""
    if key not in OURS_ALONE or not isinstance(value, str) or origin == value:
        return
    with suppress(OSError):  # said already
        status = Path(value).stat()
        if stat.S_ISREG(status.st_mode) and (mode := stat.S_IMODE(status.st_mode)) & 0o077:
            place = format_place(key, origin)
            yield Problem(key, f"{place}: has mode {mode:04o}: must be 0600, so that nobody else reads it")


def _is_shared_by_roles(values: Mapping[str, object]) -> bool:
    """Tell whether the seal key is the ingress user's and may be read by sign's group, and by nobody else."""
    up = Up()
    names = [values.get(f"up.{key}", getattr(up, key)) for key in ("ingress_user", "sign_user")]
    with suppress(OSError, ValueError):
        ingress, sign = (find_account(str(name)) for name in names)
        status = Path(str(values.get(SEAL_KEY))).stat()
        return (status.st_uid, status.st_gid) == (ingress.uid, sign.gid) and not stat.S_IMODE(status.st_mode) & 0o037
    return False


def _list_files(key: str, value: object) -> Iterator[tuple[str, str]]:
    """List the files that a key names, by the key itself or in a list of tables."""
    if isinstance(value, str) and value:
        yield key, value
    for number, table in enumerate(value if isinstance(value, list) else ()):
        for name, path in table.items() if isinstance(table, dict) else ():
            if name.endswith("_file") and isinstance(path, str):
                yield f"{key}[{number}].{name}", path


def explain(error: ValidationError, model: type[BaseModel], origins: Mapping[str, str], source: str) -> list[Problem]:
    """Give one problem for each value that pydantic refused; the key is the one that ptt.toml would have."""
    return [Problem(name_key(detail), _explain_one(detail, model, origins, source)) for detail in error.errors()]


def name_key(detail: "ErrorDetails") -> str:
    """Give the key, or the section, whose value pydantic refused."""
    return ".".join(str(part) for part in detail["loc"][:2])


def _explain_one(detail: "ErrorDetails", model: type[BaseModel], origins: Mapping[str, str], source: str) -> str:
    location = detail["loc"]
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    place = format_place(dotted, origins.get(name_key(detail), source))
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key{suggest(str(location[-1]), _list_names(model, location[:-1]))}"
    if detail["type"] == "missing":
        return f"{place}: missing"
    reason = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    value = detail["input"]
    if isinstance(value, str | int | float) and not any(part in dotted for part in _SECRETS):
        reason += f", not {value!r}"
    return f"{place}: {reason}"


def format_place(key: str, origin: str) -> str:
    """Give ``file: key``, or the name of the variable that the key is set by."""
    # The name of a variable says its key already.
    own = f"environment: {format_variable(key)}"
    return origin if origin in {own, own + FILE_SUFFIX} else f"{origin}: {key}"


def _list_names(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """List the keys of the table at this place."""
    for part in location:
        if isinstance(part, str):
            field = model.model_fields.get(part)
            inner = next(_find_models(field.annotation), None) if field else None
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


def _find_models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _find_models(argument)


def _try_to_read(key: str, path: Path) -> str:
    """Give the reason why a file or folder cannot be read, or nothing."""
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would hold the start up for ever.
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        is_folder = path.is_dir()
    except OSError as error:
        return error.strerror or str(error)
    if is_folder != key.endswith("_dir"):
        return "is a folder" if is_folder else "is no folder"
    return ""
