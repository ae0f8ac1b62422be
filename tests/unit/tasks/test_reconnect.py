"""How a worker comes back to its broker: at a steady pace, however long the broker is away."""

import kombu.exceptions
import pytest
from celery import Celery

from ptt.tasks.app import create_app
from ptt.tasks.transport import RECONNECT_EVERY_S
from tests.servers.ports import free_port


def test_worker_tries_its_broker_again_at_a_steady_pace() -> None:
    """Stock Celery waits 2 s longer each time, up to half a minute: too long for a Redis that goes and comes."""
    app = create_app(Celery, f"redis://127.0.0.1:{free_port()}/0")
    intervals: list[float] = []
    with app.connection_for_read() as connection, pytest.raises(kombu.exceptions.OperationalError):
        # As Celery's consumer calls it: the handler and the number of tries by position.
        connection.ensure_connection(lambda _, interval: intervals.append(interval), 3)
    assert intervals == [RECONNECT_EVERY_S] * len(intervals)
    assert len(intervals) >= 3
