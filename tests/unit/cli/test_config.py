"""`ptt config`: check and show."""

import json
import tomllib
from pathlib import Path

import pytest

from ptt.settings import Settings, list_fields
from tests.unit.cli.conftest import Run


def test_check_fine_settings(run: Run) -> None:
    """Exit code 0, and nothing on stdout."""
    run("init", "--domain", "example.test")
    result = run("config", "check")
    assert (result.exit_code, result.stdout) == (0, "")


def test_check_names_all_problems(run: Run, tmp_path: Path) -> None:
    """Values, keys and files in one go, exit code 78."""
    run("init", "--domain", "example.test")
    (tmp_path / "tls/key.pem").unlink()
    with (tmp_path / "ptt.toml").open("a") as file:
        file.write('levels = "info"\n[more]\n')
    result = run("config", "check")
    assert result.exit_code == 78
    assert result.stderr.splitlines() == [
        "ptt.toml: log.levels: unknown key; did you mean level?",
        "ptt.toml: more: unknown key",
        "ptt.toml: ingress.key_file: cannot be read: No such file or directory",
    ]


def test_check_for_a_role_looks_at_what_it_needs(run: Run, tmp_path: Path) -> None:
    """A relay host needs no certificate, but a Redis server."""
    (tmp_path / "ptt.toml").write_text('[relay]\nhostname = "out.example.test"\n')
    result = run("config", "check", "--role", "relay")
    assert result.stderr == "ptt.toml: redis.url: missing; `relay` needs it\n"


def test_show_is_toml_that_means_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown could be used as ptt.toml."""
    monkeypatch.setenv("PTT_USERS__POLL_S", "0.5")
    result = run("config", "show")
    assert result.exit_code == 0
    tables = tomllib.loads(result.stdout)
    assert Settings.model_validate(tables) == Settings.model_validate({"users": {"poll_s": 0.5}})
    assert "poll_s = 0.5  # environment: PTT_USERS__POLL_S" in result.stdout


def test_show_json_gives_value_origin_default_and_meaning(run: Run, tmp_path: Path) -> None:
    """Every key is there, for programs."""
    (tmp_path / "ptt.toml").write_text('[users]\npoll_s = 2\nrepository = "https://bot:sesame@git.test/x"\n')
    result = run("config", "show", "-o", "json")
    tables = json.loads(result.stdout)
    assert {f"{section}.{key}" for section, table in tables.items() for key in table} == dict(list_fields()).keys()
    shown = tables["users"]["poll_s"]
    assert (shown["value"], shown["origin"], shown["default"]) == (2, "ptt.toml", 5)
    assert shown["meaning"].startswith("How often a new commit is looked for, seconds.")
    assert tables["log"]["level"]["origin"] == "default"
    assert "sesame" not in result.stdout
