"""A Celery app with ptt's settings, worker class and pool, whose tasks only write down that they ran.

Started by tests/peers/test_celery.py as ``celery -A tests.servers.wakeup_app worker -Q sign|relay``.
"""

import os
import time

import redis
from celery import Celery

from ptt.core.wakeup import RELAY_QUEUE, RELAY_TASK, SIGN_QUEUE, SIGN_TASK
from ptt.settings import Redis, Settings
from ptt.store.connection import RedisAddress
from ptt.tasks.app import create_app
from ptt.workers.roles import PttCelery, Role
from tests.servers.wakeup_ledger import GATE, LEDGER

BROKER = os.environ["TEST_BROKER_URL"]
LEDGER_URL = os.environ["TEST_LEDGER_URL"]
IS_HELD = "TEST_HELD" in os.environ
PAUSE_S = 0.02


def note(text: str) -> None:
    """Write down what happened, in a database that no role knows."""
    with redis.Redis.from_url(LEDGER_URL) as ledger:
        ledger.rpush(LEDGER, text)


def wait_for_gate() -> None:
    """Hold a task up until the test lets it end."""
    while IS_HELD and not _is_open():
        time.sleep(PAUSE_S)


def _is_open() -> bool:
    try:
        with redis.Redis.from_url(LEDGER_URL) as ledger:
            return bool(ledger.exists(GATE))
    except redis.exceptions.ConnectionError:
        return False  # the test may have cut this very connection


class Service:
    """A service that only writes down its own life."""

    async def start(self) -> None:
        """Begin."""
        note("start")

    def close(self) -> None:
        """Take no new work."""
        note("close")

    async def stop(self) -> None:
        """End."""
        note("stop")


def prepare(app: Celery, settings: Settings, address: RedisAddress) -> None:
    """Give the app its service."""
    assert settings.redis.url == address.url
    app.service = Service  # type: ignore[attr-defined]
    app.processes = int(os.environ.get("TEST_PROCESSES", "1"))  # type: ignore[attr-defined]


def make_app() -> Celery:
    """Make the app; a stock one if the test wants to see that a stock worker understands our wake-ups."""
    if os.environ.get("TEST_STOCK"):
        made = create_app(Celery, BROKER.replace("ptt+", "redis+"))
        register(made)
        return made
    app = create_app(PttCelery, BROKER)
    app.roles = {
        SIGN_QUEUE: Role(pool="prefork", concurrency=lambda _: 2, prepare=prepare),
        RELAY_QUEUE: Role(pool="ptt.workers.pool:ProcessPool", concurrency=lambda _: 5, prepare=prepare),
    }
    app.load = lambda _: Settings(redis=Redis(url=os.environ["TEST_SPOOL_URL"], allow_unsafe=True))
    register(app)
    return app


def register(app: Celery) -> None:
    """Register both tasks under their real names."""

    @app.task(name=SIGN_TASK)
    def sign() -> None:
        note("begin")
        wait_for_gate()
        note("sign")

    if os.environ.get("TEST_STOCK"):

        @app.task(name=RELAY_TASK)
        def relay(destination: str) -> None:
            note(f"relay {destination}")

    else:

        @app.task(name=RELAY_TASK)
        async def relay_async(destination: str) -> None:
            import asyncio  # noqa: PLC0415 - only this role needs it

            note("begin")
            await asyncio.to_thread(wait_for_gate)
            if destination == "raise.test":
                raise RuntimeError(destination)
            note(f"relay {destination}")


app = make_app()
