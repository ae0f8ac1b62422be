"""Builds the Celery app from the settings; a wrong setting ends the program with one line each and exit 78."""

import logging
import warnings
from collections.abc import Mapping

from celery import signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from ptt import maillog
from ptt.core.errors import ConfigError
from ptt.core.wakeup import RELAY_QUEUE, SIGN_QUEUE
from ptt.settings import Settings, load_settings
from ptt.tasks import relay as relay_task
from ptt.tasks import sign as sign_task
from ptt.tasks.app import create_app, format_broker_tls, format_broker_url
from ptt.workers import relay, sign
from ptt.workers.readiness import load_ready
from ptt.workers.roles import PttCelery, Role
from ptt.workers.wiring import end_with

ROLES: Mapping[str, Role] = {SIGN_QUEUE: sign.ROLE, RELAY_QUEUE: relay.ROLE}

UNSET_URL = "redis://"
"""Nobody connects to it: a role without redis.url is refused with one line before."""


def build_app() -> PttCelery:
    """Make the app with the tasks of both roles; which role this is, the worker learns from ``-Q``."""
    # Celery warns of root in five lines for each worker; the units in ops/systemd/ run each role as its own user.
    warnings.simplefilter("ignore", SecurityWarning)
    # At each reconnection Celery announces a default of its next major version; the setting is ours, see tasks/app.py.
    warnings.simplefilter("ignore", CPendingDeprecationWarning)
    settings = _load()
    tls = settings.redis
    url = settings.spool_url or UNSET_URL
    app = create_app(
        PttCelery,
        format_broker_url(url, settings.broker_database),
        format_broker_tls(url, tls.ca_file, tls.certificate_file, tls.key_file),
    )
    app.roles = ROLES
    app.load = lambda role: load_ready(None, role, (ROLES[role].list_checks,)).settings
    sign_task.register(app, lambda: app.service())  # noqa: PLW0108 - the service is set when the role is known
    relay_task.register(app, lambda: app.service())  # noqa: PLW0108 - as above
    signals.setup_logging.connect(_configure_logging, weak=False)
    return app


def _load() -> Settings:
    try:
        return load_settings()
    except ConfigError as error:
        end_with(error)


def _configure_logging(**_: object) -> None:
    """Keep Celery from making its own log: ours is configured when the role is known."""
    maillog.configure(logging.getLevelName(maillog.LOGGER.getEffectiveLevel()))
