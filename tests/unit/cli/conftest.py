"""Fixtures of the command line's tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ptt.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give what runs a command in an empty folder, with an environment that holds nothing of ours."""
    for name in list(os.environ):
        if name.startswith("PTT_") or name in {"CREDENTIALS_DIRECTORY", "XDG_CONFIG_HOME"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, prog_name="ptt")

    return run_command
