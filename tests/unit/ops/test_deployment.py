"""The files in compose/ and ops/ name only commands, roles and settings that the program has."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from ptt.core.wakeup import RELAY_QUEUE, SIGN_QUEUE
from ptt.settings import list_fields, load_settings
from ptt.store.server import REQUIRED

ROOT = Path(__file__).parents[3]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].keys() | {"celery"}
KEYS = {key for key, _ in list_fields()}
UNITS = sorted((ROOT / "ops/systemd").glob("*.service"))


def is_command(words: list[str]) -> bool:
    """Tell whether these words start a program of ours."""
    program = Path(words[0]).name
    if program == "celery":
        return words[1:5] == ["-A", "ptt", "worker", "-Q"] and words[5] in {SIGN_QUEUE, RELAY_QUEUE}
    return program in SCRIPTS


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_starts_a_program_of_ours_with_settings_it_has(unit: Path) -> None:
    """ExecStart is a command of ours, each credential is a key of ptt.toml, and the stop has time to finish."""
    lines = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
    assert is_command(shlex.split(lines["ExecStart"]))
    assert int(lines["TimeoutStopSec"]) > 30
    assert lines["RestartPreventExitStatus"] == "78"
    credentials = re.findall(r"^LoadCredential=([^:]+):", unit.read_text(), re.MULTILINE)
    assert set(credentials) <= KEYS


def test_only_the_sign_unit_gets_the_tsig_secret() -> None:
    """What publishes keys is with the sign role alone."""
    for unit in UNITS:
        holds = "tsig" in unit.read_text()
        assert holds is (unit.name == "ptt-sign.service"), unit.name


def test_compose_example_is_a_valid_configuration(tmp_path: Path) -> None:
    """The example loads as it is."""
    path = tmp_path / "ptt.toml"
    path.write_text((ROOT / "compose/ptt.toml.example").read_text())
    assert load_settings(path).ingress.hostname == "mail.example.org"


@pytest.mark.parametrize("path", ["ops/redis/ptt.conf", "compose/valkey.conf"])
def test_redis_configuration_is_one_that_ptt_starts_with(path: str) -> None:
    """The sample configurations hold what a start refuses to do without."""
    lines = dict(re.findall(r"^([a-z-]+) (.*)$", (ROOT / path).read_text(), re.MULTILINE))
    assert {name: lines.get(name) for name in REQUIRED} == {name: value for name, (value, _) in REQUIRED.items()}
