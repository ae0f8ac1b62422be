"""Fixtures of all tiers: one real Valkey per test process, and the check that nothing is left behind in it."""

import logging
from collections.abc import Iterator, Sequence

import hypothesis
import pytest

from ptt.maillog import QUIET_LOGGERS
from ptt.store import keys
from ptt.store.connection import RedisAddress
from tests.conformance import FILE, Ledger, list_gaps_in_run, load_requirements
from tests.servers.redis import RedisServer, running_server

_ledger = Ledger()

hypothesis.settings.register_profile(
    "ptt",
    # Always the same examples, so that a change passes or not whenever it is looked at; `make fuzz` finds new ones, and
    # so does --hypothesis-profile=default.
    derandomize=True,
    # No test asserts a speed, and how long an example takes or is made depends on what else the machine does.
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ptt")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take note of how a test ended; with several workers the reports of all come together here."""
    _ledger.note(report.nodeid, str(report.when), report.outcome)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which a test that a requirement names did not pass, or did not run although all were asked for."""
    if exitstatus == pytest.ExitCode.OK and _list_gaps(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the gaps."""
    for gap in _list_gaps(config):
        terminalreporter.write_line(f"conformance: {gap}", red=True)


def _list_gaps(config: pytest.Config) -> Sequence[str]:
    if hasattr(config, "workerinput") or config.option.collectonly:
        return []
    is_narrowed = config.option.keyword or config.option.markexpr or config.option.maxfail
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not is_narrowed
    return list(list_gaps_in_run(load_requirements(FILE.read_text()), _ledger, is_whole=is_whole))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command or program that runs within a test sends the log to its own stderr at its own level, until it ends."""
    loggers = [logging.getLogger(name) for name in ("", *QUIET_LOGGERS)]
    levels, handlers = [logger.level for logger in loggers], loggers[0].handlers[:]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def valkey_process() -> Iterator[RedisServer]:
    """Run one embedded Valkey for all tests of this process."""
    with running_server() as server:
        yield server


@pytest.fixture
def valkey(valkey_process: RedisServer) -> Iterator[RedisServer]:
    """Give an empty Valkey, and check afterwards that each key has a TTL, a message or a permanent place."""
    with valkey_process.client() as client:
        client.flushall()
        yield valkey_process
        forgotten = [name for name in client.scan_iter() if _is_forgotten(client, name.decode())]
    assert not forgotten, f"keys without a TTL that belong to no message: {forgotten}"


@pytest.fixture
def address(valkey: RedisServer) -> RedisAddress:
    """Give the address of the empty Valkey."""
    return RedisAddress(url=valkey.url)


def _is_forgotten(client: object, name: str) -> bool:
    import redis  # noqa: PLC0415 - for the type only

    assert isinstance(client, redis.Redis)
    if name in keys.PERMANENT or client.ttl(name) != -1:
        return False
    if name.startswith(keys.QUEUE):
        return False
    for prefix in (keys.MESSAGE, keys.DELIVERY, keys.CONTENT):
        if name.startswith(prefix):
            queue_id = name.removeprefix(prefix)
            waiting = client.zscore(keys.SIGN, queue_id) is not None or client.hget(
                f"{keys.DELIVERY}{queue_id}", "open"
            )
            parked = client.hget(f"{keys.MESSAGE}{queue_id}", "parked")
            return not waiting and not parked
    return True
