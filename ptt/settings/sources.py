"""Where settings come from: ptt.toml, the environment and files with secrets; knows nothing of what they mean.

Each source becomes a `Layer` of values by dotted key, with the place that each came from, and the problems met on the
way: nothing stops at the first one.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ptt.core.errors import ConfigError
from ptt.core.repository import is_remote

Kind = Literal["text", "path", "repository", "json"]
"""How a key is written: ``path`` and ``repository`` may be relative to ptt.toml, ``json`` is a list."""

PREFIX = "PTT_"
FILE_VARIABLE = "PTT_CONFIG"
FILE_SUFFIX = "_FILE"
MAX_FILE_BYTES = 1_048_576  # octets; a path typed wrong (a log, a device) must not fill the memory


@dataclass(slots=True)
class Layer:
    """What one source gives: dotted key to value and to the place that an error message names."""

    values: dict[str, object] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, key: str, value: object, origin: str) -> None:
        """Set one key."""
        self.values[key] = value
        self.origins[key] = origin


def get_environment() -> Mapping[str, str]:
    """Give the environment of this process: the one place where it is read."""
    return os.environ  # noqa: TID251 - this is the one place


def find_file(config: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Find ptt.toml: the one asked for, else ``$PTT_CONFIG``, else the first of the usual places that exists."""
    if config is not None:
        return config
    if named := environment.get(FILE_VARIABLE):
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/"), ".config")
    places = (Path("ptt.toml"), Path(home, "ptt", "ptt.toml"), Path("/etc/ptt/ptt.toml"))
    return next((place for place in places if place.exists()), None)


def read_toml(path: Path, kinds: Mapping[str, Kind]) -> Layer:
    """Read ptt.toml; relative paths in it start at its folder.

    Raises:
        ConfigError: one line, if it cannot be read or is no TOML.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {_locate(str(error), text)}") from error
    layer = Layer()
    for section, table in tables.items():
        if not isinstance(table, dict) or not table:
            layer.put(section, table, str(path))
            continue
        for key, value in table.items():
            name = f"{section}.{key}"
            layer.put(name, _anchor(value, kinds.get(name), path.parent.absolute()), str(path))
    return layer


def read_environment(environment: Mapping[str, str], kinds: Mapping[str, Kind]) -> Layer:
    """Read ``PTT_SECTION__KEY``, ``PTT_SECTION`` as a JSON table, and ``PTT_SECTION__KEY_FILE``."""
    layer = Layer()
    known = {format_variable(key): key for key in kinds}
    sections = {format_variable(key.partition(".")[0]): key.partition(".")[0] for key in kinds}
    # Later ones win: a table, then what names a file, then what holds the value itself.
    ours = [name for name in sorted(environment) if name.startswith(PREFIX) and name != FILE_VARIABLE]
    for variable in sorted(ours, key=lambda name: 0 if name in sections else 2 if name in known else 1):
        text, origin = environment[variable], f"environment: {variable}"
        if key := known.get(variable):
            _put_text(layer, key, text, origin=origin, kind=kinds[key])
        elif section := sections.get(variable):
            _put_table(layer, section, text, origin)
        elif (base := variable.removesuffix(FILE_SUFFIX)) != variable and base in known:
            _put_content(layer, known[base], Path(text), origin, kinds[known[base]])
        else:
            names = [*known, *sections, *(name + FILE_SUFFIX for name in known)]
            layer.problems.append(f"{origin}: unknown key{suggest(variable, names)}")
    return layer


def read_credentials(environment: Mapping[str, str], kinds: Mapping[str, Kind]) -> Layer:
    """Read the files of systemd's ``$CREDENTIALS_DIRECTORY`` that are named as keys are, such as ``redis.url``."""
    layer = Layer()
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return layer
    sections = {key.partition(".")[0] for key in kinds}
    try:
        paths = sorted(Path(folder).iterdir())
    except OSError as error:
        layer.problems.append(f"environment: CREDENTIALS_DIRECTORY: cannot be read: {error.strerror}")
        return layer
    for path in paths:
        if path.name in kinds:
            _put_credential(layer, path, kinds[path.name])
        elif path.name.partition(".")[0] in sections:
            layer.problems.append(f"{path}: unknown key{suggest(path.name, kinds)}")
    return layer


def read_text(path: Path) -> str:
    """Read a small UTF-8 file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large or no UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"is over {MAX_FILE_BYTES} octets")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: not UTF-8") from error


def suggest(name: str, names: Iterable[str]) -> str:
    """Give ``; did you mean X?`` or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def format_variable(key: str) -> str:
    """Give the name of the variable that sets a key."""
    return PREFIX + key.replace(".", "__").upper()


def _put_text(layer: Layer, key: str, text: str, *, origin: str, kind: Kind) -> None:
    if kind != "json":
        layer.put(key, _drop_empty(text, kind), origin)
        return
    try:
        layer.put(key, json.loads(text), origin)
    except ValueError as error:
        layer.problems.append(f"{origin}: must be a list in JSON: {error}")


def _put_table(layer: Layer, section: str, text: str, origin: str) -> None:
    try:
        table = json.loads(text)
    except ValueError as error:
        layer.problems.append(f"{origin}: must be a table in JSON: {error}")
        return
    if not isinstance(table, dict):
        layer.problems.append(f"{origin}: must be a table in JSON")
        return
    for key, value in table.items():
        layer.put(f"{section}.{key}", value, origin)


def _put_content(layer: Layer, key: str, path: Path, origin: str, kind: Kind) -> None:
    try:
        _put_text(layer, key, read_text(path).rstrip("\r\n"), origin=origin, kind=kind)
    except OSError as error:
        layer.problems.append(f"{origin}: {path} cannot be read: {error.strerror}")
    except ValueError as error:
        layer.problems.append(f"{origin}: {path}: {error}")


def _put_credential(layer: Layer, path: Path, kind: Kind) -> None:
    if kind == "path":
        layer.put(path.name, str(path), str(path))
    else:
        _put_content(layer, path.name, path, str(path), kind)


def _anchor(value: object, kind: Kind | None, folder: Path) -> object:
    if isinstance(value, list):
        return [_anchor_files(item, folder) for item in value]
    if not isinstance(value, str) or not value or kind not in {"path", "repository"}:
        return _drop_empty(value, kind)
    return value if kind == "repository" and is_remote(value) else str(folder / value)


def _anchor_files(item: object, folder: Path) -> object:
    """Anchor the files that a table in a list names."""
    if not isinstance(item, dict):
        return item
    return {key: _anchor(value, "path" if key.endswith("_file") else None, folder) for key, value in item.items()}


def _drop_empty(value: object, kind: Kind | None) -> object:
    # Path("") is the current folder: an empty path means that there is none.
    return None if kind == "path" and value == "" else value


def _locate(reason: str, text: str) -> str:
    """Turn tomllib's ``reason (at line 3, column 5)`` into ``line 3, column 5: reason``."""
    words, at, place = reason.removesuffix(")").rpartition(" (at ")
    if not at:
        return reason
    if place == "end of document":
        place = f"line {text.count(chr(10)) + 1}"
    return f"{place}: {words}"
