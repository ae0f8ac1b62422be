"""What the documents, units and compose files tell people to type is there: commands, options, variables, files."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ptt.cli import COMMANDS, main
from tests.unit.ops.test_deployment import KEYS, ROOT

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "ops/**/*.md", "ops/redis/*", "ops/systemd/*", "compose/*", "bench/*.md")
    for path in ROOT.glob(pattern)
    if path.is_file() and path.suffix not in {".lua", ".toml"}
)
MADE_BY_THE_READER = {"compose/ptt.toml"}
_COMMAND = re.compile(
    r"(?<!-A )(?<![\w/:\x22=-])ptt ((?:--config \S+ )?(?:[a-z][a-z-]*)(?: [^`\n#>|&]*)?)", re.MULTILINE
)
_CODE = re.compile(r"`+([^`]+)`+|^ {4,}(.*)$|^#   (.*)$|^(\w+=.*)$", re.MULTILINE)
_ENDINGS = "py|lua|md|toml|service|conf|yaml|sh"
_PATH = re.compile(rf"(?<![\w/.-])((?:ptt|tests|docs|ops|compose|bench)/[\w./-]+\.(?:{_ENDINGS}))\b")


def list_code(path: Path) -> Iterator[str]:
    """Give what is set as code."""
    text = re.sub(r"## What is not there yet\n.*?\n## ", "", path.read_text(), flags=re.DOTALL)
    for groups in _CODE.findall(text):
        yield next(group for group in (*groups, " ") if group)


def list_commands(path: Path) -> Iterator[str]:
    """Give each `ptt ...` that is set as code."""
    for code in list_code(path):
        yield from (match[1].strip() for match in _COMMAND.finditer(code))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_names_commands_that_are_there(path: Path) -> None:
    """Each command with its subcommand and its long options exists."""
    for line in list_commands(path):
        words = re.sub(r"^--config \S+ ", "", line).split()
        if words[0] not in COMMANDS:
            pytest.fail(f"{path.name}: ptt {line}: no such command")
        command = main.get_command(click.Context(main), words[0])
        assert command is not None
        if isinstance(command, click.Group) and len(words) > 1 and re.fullmatch("[a-z|-]+", words[1]):
            names = words[1].split("|")
            assert set(names) <= command.commands.keys(), f"{path.name}: ptt {line}"
            command = command.commands[names[0]]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        told = {word.strip("[],.;").partition("=")[0] for word in words if word.strip("[").startswith("--")}
        assert told <= known | {"--help"}, f"{path.name}: ptt {line}: {told - known}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_names_variables_and_files_that_are_there(path: Path) -> None:
    """Each PTT_ variable names a key of ptt.toml, and each file of the repository exists."""
    text = path.read_text()
    for name in set(re.findall(r"PTT_[A-Z0-9_]*[A-Z0-9]", text)) - {"PTT_CONFIG"}:
        key = name.removeprefix("PTT_").lower().replace("__", ".")
        assert key in KEYS or key.removesuffix("_file") in KEYS, f"{path.name}: {name}"
    for name in set(_PATH.findall(text)) - MADE_BY_THE_READER:
        assert (ROOT / name).exists() or (ROOT / "ptt" / name).exists(), f"{path.name}: {name}"
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), f"{path.name}: {target}"
