"""Loads all settings; the only way to the environment and ptt.toml.

Order: environment (``PTT_INGRESS__HOSTNAME``), then secrets by file (``PTT_REDIS__URL_FILE``,
``$CREDENTIALS_DIRECTORY``), then ptt.toml, then the defaults of the model. Relative paths in ptt.toml start at its
folder. A wrong value or an unknown key anywhere is an error, and all errors are reported at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ptt.core.errors import ConfigError
from ptt.settings.accounts import Account, find_account, find_double
from ptt.settings.checks import explain, format_place, list_missing, name_key
from ptt.settings.model import (
    Certificate,
    DnsUpdate,
    Ingress,
    Listen,
    Log,
    Queue,
    Redis,
    Relay,
    Section,
    Settings,
    Signing,
    Up,
    Users,
)
from ptt.settings.sources import (
    Kind,
    Layer,
    find_file,
    get_environment,
    read_credentials,
    read_environment,
    read_toml,
)
from ptt.settings.urls import put_login, read_password, redact_url

__all__ = [
    "Account",
    "Certificate",
    "DnsUpdate",
    "Ingress",
    "Listen",
    "Loaded",
    "Log",
    "Queue",
    "Redis",
    "Relay",
    "Section",
    "Settings",
    "Signing",
    "Survey",
    "Up",
    "Users",
    "find_account",
    "find_double",
    "get_environment",
    "list_fields",
    "load_settings",
    "load_with_origins",
    "put_login",
    "read_password",
    "redact",
    "redact_url",
    "survey_settings",
]


DEFAULT_FILE = "ptt.toml"
"""What an error names as the place of a key where there is no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, and where each value that is no default came from, by dotted key."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Settings as far as they are right, and all that is wrong with them."""

    loaded: Loaded
    """What is refused has its default here."""
    problems: tuple[str, ...]
    """Lines ``file: key: reason``."""
    wrong_keys: frozenset[str]
    """Keys, or sections, that are refused, missing, or name what cannot be read."""

    def locate(self, key: str) -> str:
        """Give ``file: key``, the place that a problem with this key is told of."""
        return format_place(key, self.loaded.origins.get(key, str(self.loaded.file or DEFAULT_FILE)))


def load_settings(config: Path | None = None, *, role: str | None = None) -> Settings:
    """Load the settings of this process.

    Args:
        config: the file to read; else ``$PTT_CONFIG`` or the first of the usual places that exists, else none.
        role: ``ingress``, ``sign``, ``relay`` or ``up``: what this role needs must be there and readable.

    Raises:
        ConfigError: one line for each problem, all at once.
    """
    return load_with_origins(config, role=role).settings


def load_with_origins(config: Path | None = None, *, role: str | None = None) -> Loaded:
    """Load the settings and say where they came from; see `load_settings`."""
    survey = survey_settings(config, role=role)
    if survey.problems:
        raise ConfigError(*survey.problems)
    return survey.loaded


def survey_settings(config: Path | None = None, *, role: str | None = None) -> Survey:
    """Load what is right of the settings, and list what is not.

    Args:
        config: see `load_settings`.
        role: see `load_settings`.

    Raises:
        ConfigError: the file cannot be read, or is no TOML.
    """
    environment = get_environment()
    kinds = dict(_list_kinds())
    file = find_file(config, environment)
    from_file = read_toml(file, kinds) if file else Layer()
    layers = (from_file, read_credentials(environment, kinds), read_environment(environment, kinds))
    values = {key: value for layer in layers for key, value in layer.values.items()}
    origins = {key: origin for layer in layers for key, origin in layer.origins.items()}
    problems = [problem for layer in layers for problem in layer.problems]
    source = str(file or DEFAULT_FILE)
    settings, error = _validate(values)
    found = explain(error, Settings, origins, source) if error else []
    if role:
        found += list_missing(role, values, origins, source)
    return Survey(
        loaded=Loaded(settings=settings, origins=origins, file=file),
        problems=tuple(dict.fromkeys([*problems, *(problem.line for problem in found)])),
        wrong_keys=frozenset(problem.key for problem in found),
    )


def list_fields() -> Iterator[tuple[str, FieldInfo]]:
    """List every key of ptt.toml, dotted, with what its model says of it."""
    for section, table in Settings.model_fields.items():
        assert isinstance(table.annotation, type)  # noqa: S101 - for the type checker: each section is a class
        assert issubclass(table.annotation, Section)  # noqa: S101 - same
        for name, field in table.annotation.model_fields.items():
            yield f"{section}.{name}", field


def redact(settings: Settings) -> dict[str, dict[str, object]]:
    """Give all effective values by section and key, in plain types, without passwords."""
    tables: dict[str, dict[str, object]] = settings.model_dump(mode="json")
    for section, key in (("redis", "url"), ("redis", "broker_url"), ("users", "repository")):
        value = tables[section][key]
        if isinstance(value, str) and "://" in value:
            tables[section][key] = redact_url(value)
    return tables


def _list_kinds() -> Iterator[tuple[str, Kind]]:
    for key, field in list_fields():
        choices = {field.annotation, *get_args(field.annotation)}
        if key == "users.repository":
            yield key, "repository"
        elif Path in choices:
            yield key, "path"
        else:
            yield key, "json" if get_origin(field.annotation) is tuple else "text"


def _validate(values: Mapping[str, object]) -> tuple[Settings, ValidationError | None]:
    """Give the settings without what is refused, and the refusal."""
    try:
        return Settings.model_validate(_nest(values)), None
    except ValidationError as error:
        refused = {name_key(detail) for detail in error.errors()}
        kept = {key: value for key, value in values.items() if not {key, key.partition(".")[0]} & refused}
        # What is refused now only misses what was refused before.
        return (_validate(kept)[0] if len(kept) < len(values) else Settings()), error


def _nest(values: Mapping[str, object]) -> dict[str, object]:
    tables: dict[str, object] = {}
    for dotted, value in values.items():
        section, _, key = dotted.partition(".")
        if not key:
            tables[section] = value
        elif isinstance(table := tables.setdefault(section, {}), dict):
            table[key] = value
    return tables
