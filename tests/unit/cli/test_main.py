"""The main group: what it loads, how fast, and which exit code an exception of ours ends with."""

import json
import resource
import subprocess
import sys

import click
import pytest

from ptt import __version__
from ptt.cli import COMMANDS, main
from ptt.cli.exits import as_exit
from ptt.core.errors import ConfigError, LeaseLost, MalformedInput, NoSuchDomain, PttError, Unavailable
from tests.unit.cli.conftest import Run

HEAVY = {"redis", "celery", "kombu", "pydantic", "pygit2", "dns", "cryptography", "argon2", "aiosmtpd", "aiosmtplib"}


def test_help_loads_no_heavy_library() -> None:
    """`ptt --help` must answer at once."""
    program = (
        "import json, sys; from ptt.cli import main; main(['--help'], standalone_mode=False);"
        " print(json.dumps(sorted(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = set(json.loads(output.splitlines()[-1]))
    assert "Commands:" in output
    assert not loaded & HEAVY
    assert not {name for name in loaded if name.startswith("ptt.")} - {
        "ptt.cli",
        "ptt.cli.exits",
        "ptt.core",
        "ptt.core.errors",
        "ptt.core.reply",
    }


def test_help_takes_less_than_300_ms() -> None:
    """Time of the CPU, so that a busy machine does not matter; the best of three, as files get cached."""

    def measure() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "ptt", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(measure() for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_there_and_says_what_the_overview_says(name: str) -> None:
    """The overview is written without loading the commands: it must not drift away from them."""
    with click.Context(main) as ctx:
        command = main.get_command(ctx, name)
    assert command is not None
    assert command.name == name
    assert " ".join((command.help or "").split()).startswith(COMMANDS[name][1].removesuffix("."))


def test_version(run: Run) -> None:
    """`--version` names program and version."""
    assert run("--version").output == f"ptt, version {__version__}\n"


def test_unknown_command_is_a_usage_error(run: Run) -> None:
    """Exit code 2, and a hint on stderr."""
    result = run("quue")
    assert result.exit_code == 2
    assert "quue" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a: b: c", "d: e: f"), 78),
        (Unavailable("away"), 75),
        (MalformedInput("wrong"), 2),
        (NoSuchDomain("none"), 3),
        (LeaseLost("lost"), 1),
    ],
)
def test_exception_ends_with_its_exit_code(error: PttError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines stand on stderr as they are."""
    ended = as_exit(error)
    assert ended.exit_code == code
    ended.show()
    assert capsys.readouterr().err == f"{error}\n"


def test_exception_in_a_command_becomes_lines_and_exit_code(run: Run) -> None:
    """One place turns exceptions into exit codes, whatever the command."""
    result = run("--config", "nowhere.toml", "user", "list")
    assert result.exit_code == 78
    assert result.stderr == "nowhere.toml: cannot be read: No such file or directory\n"
    assert result.stdout == ""
