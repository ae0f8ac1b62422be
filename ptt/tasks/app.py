"""The Celery app and its settings: wake-ups only, no results, no events, no remote control, early acknowledgement.

Each setting answers something measured on celery and kombu 5.7; the tests in tests/peers/test_celery.py guard them.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from celery import Celery
from kombu import Exchange, Queue

from ptt.core.wakeup import RELAY_QUEUE, SIGN_QUEUE
from ptt.tasks import transport

App = TypeVar("App", bound=Celery)
QUEUES = (SIGN_QUEUE, RELAY_QUEUE)

SETTINGS: Mapping[str, Any] = {
    # ingress and the scripts push to the lists themselves: nothing is declared, so a worker needs no more rights
    "task_queues": [Queue(name, Exchange(""), routing_key=name, no_declare=True) for name in QUEUES],
    "task_create_missing_queues": False,
    "task_default_queue": RELAY_QUEUE,
    "accept_content": ["json"],  # a pickle would be code of whoever can write to the list
    "task_serializer": "json",
    "task_ignore_result": True,
    "result_backend": None,
    "task_acks_late": False,  # a wake-up may be lost: late acks would run it twice at each lost connection
    "task_reject_on_worker_lost": False,  # the lease brings the work back, counted; Celery would for ever
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,  # what one worker hoards another could do
    "worker_enable_remote_control": False,  # who may publish there could stop or revoke all roles
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "worker_disable_rate_limits": True,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,  # out of memory, read-only replica: reconnect instead of exit
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_transport_options": {
        "ack_emulation": False,  # 1 Redis command a wake-up instead of 9, and no visibility timeout
        "priority_steps": [0],
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
}


def create_app(app_class: type[App], broker_url: str, tls: Mapping[str, object] | None = None) -> App:
    """Make the app.

    Args:
        app_class: the Celery class or one derived from it.
        broker_url: as kombu writes it, see `format_broker_url`.
        tls: ``broker_use_ssl`` for rediss://.
    """
    app = app_class("ptt", broker=broker_url, amqp=transport.AMQP_PATH, set_as_current=True)
    app.conf.update(SETTINGS)
    app.conf.broker_transport = transport.PATH
    if tls is not None:
        app.conf.broker_use_ssl = dict(tls)
    return app


def format_broker_url(url: str, database: int) -> str:
    """Write a redis-py URL as our transport wants it, with the database of the wake-ups."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"{transport.NAME}+socket://{parts.netloc}{parts.path}?virtual_host={database}"
    return f"{parts.scheme}://{parts.netloc}/{database}"


def format_broker_tls(
    url: str, ca_file: Path | None, certificate_file: Path | None, key_file: Path | None
) -> Mapping[str, object] | None:
    """Give ``broker_use_ssl`` for a rediss:// URL, None for others."""
    if urlsplit(url).scheme != "rediss":
        return None
    files = {"ssl_ca_certs": ca_file, "ssl_certfile": certificate_file, "ssl_keyfile": key_file}
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED} | {name: str(path) for name, path in files.items() if path}
