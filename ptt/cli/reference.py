"""ptt.toml with its reference as comments, from the docstrings of the model: text and code cannot drift apart."""

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from ptt.settings import Settings, list_fields, redact

_WIDTH = 110
_BOUNDS = (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))

Tables = Mapping[str, Mapping[str, object]]


def get_defaults() -> Tables:
    """Give the default of every key by section."""
    return redact(Settings())


def describe(field: FieldInfo, default: object) -> str:
    """Give meaning, unit, range and default of one key."""
    sentences = [field.description or ""]
    bounds = [
        f"{words} {format_value(getattr(item, name))}"
        for item in field.metadata
        for name, words in _BOUNDS
        if isinstance(getattr(item, name, None), int | float)
    ]
    if bounds:
        sentences.append(f"Range: {', '.join(bounds)}.")
    if get_origin(field.annotation) is Literal:
        sentences.append(f"One of: {', '.join(get_args(field.annotation))}.")
    if default not in (None, "", []):
        sentences.append(f"Default: {format_value(default, indent=False)}.")
    return " ".join(sentences)


def format_toml(values: Tables, is_set: Callable[[str], bool], notes: Mapping[str, str] | None = None) -> str:
    """Write all sections and keys, each under its description.

    Args:
        values: the value of each key by section.
        is_set: whether a key is written as such; else it stands there as a comment, to be uncommented.
        notes: dotted key to a comment behind its value.
    """
    sections = groupby(list_fields(), key=lambda pair: pair[0].partition(".")[0])
    return "\n".join(
        "\n".join(_format_section(section, dict(fields), values, is_set, notes or {})) for section, fields in sections
    )


def format_value(value: object, *, indent: bool = True) -> str:
    """Write a value as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {format_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        items = [format_value(item) for item in value]
        if indent and any(isinstance(item, Mapping) for item in value):
            return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
        return f"[{', '.join(items)}]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _format_section(
    section: str,
    fields: Mapping[str, FieldInfo],
    values: Tables,
    is_set: Callable[[str], bool],
    notes: Mapping[str, str],
) -> Iterator[str]:
    annotation = Settings.model_fields[section].annotation
    yield f"# {(annotation.__doc__ or '').splitlines()[0]}" if annotation else ""
    yield f"[{section}]"
    defaults = get_defaults()[section]
    for dotted, field in fields.items():
        key = dotted.partition(".")[2]
        # The default of a key that is not set stands in the line below.
        description = describe(field, defaults[key] if is_set(dotted) else None)
        yield from (f"# {line}" for line in textwrap.wrap(description, _WIDTH))
        value = values[section][key]
        line = f"{key} = {format_value('' if value is None else value)}"
        if dotted in notes:
            line += f"  # {notes[dotted]}"
        yield line if is_set(dotted) else textwrap.indent(line, "# ", lambda _: True)
    yield ""
