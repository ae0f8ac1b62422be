"""Fixtures of the peers tier."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from ptt.cli import main
from tests.checked_host import RECORDS, REVERSE, Host
from tests.peers.queue_tools import Run
from tests.servers.bind import Bind, running_bind
from tests.servers.redis import RedisServer
from tests.signing_keys import DOMAIN


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


@pytest.fixture(scope="module")
def host_bind() -> Iterator[Bind]:
    """Run a primary with all that a sound domain has, forward and reverse."""
    with running_bind((DOMAIN, "bare.test", REVERSE), records=RECORDS) as server:
        yield server


@pytest.fixture
def host(tmp_path: Path, host_bind: Bind, valkey: RedisServer) -> Host:
    """Make a host on which nothing is wrong."""
    made = Host(tmp_path, host_bind, valkey.url)
    made.prepare()
    return made
