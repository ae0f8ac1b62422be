"""Fixtures of the peers tier."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from ptt.cli import main
from tests.peers.queue_tools import Run
from tests.servers.redis import RedisServer


@pytest.fixture
def ptt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valkey: RedisServer) -> Run:
    """Give what runs a command on the Valkey of this test and checks its exit code."""
    config = tmp_path / "ptt.toml"
    config.write_text(f'[redis]\nurl = "{valkey.url}"\n')
    monkeypatch.setenv("PTT_LOG__LEVEL", "error")

    def run(*arguments: str, stdin: str = "", expected: int = 0) -> Result:
        result = CliRunner().invoke(main, ["--config", str(config), *arguments], input=stdin, prog_name="ptt")
        assert result.exit_code == expected, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def client(valkey: RedisServer) -> Iterator[redis.Redis]:
    """Give a client of the spool database."""
    with valkey.client() as client:
        yield client
