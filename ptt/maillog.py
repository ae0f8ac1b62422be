"""The event log: one JSON line on stderr per event, always the same fields; the only emitter of events.

Never content, AUTH data or keys. Control characters never reach the log: JSON escapes them.
"""

import contextvars
import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from typing_extensions import override

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR
LOGGER = logging.getLogger("ptt")
QUIET_LOGGERS = ("mail.log", "asyncio", "amqp", "kombu", "celery")
"""Loggers of our libraries, from which only warnings are taken."""

queue_id_var: contextvars.ContextVar[str] = contextvars.ContextVar("queue_id", default="")
"""The message in hand: bound at the start of a task or session, added to each line."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Give ``ts``, ``level``, ``event`` and the event's own fields."""
        fields: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log.line"),
        }
        if queue_id := queue_id_var.get():
            fields["queue_id"] = queue_id
        own = getattr(record, "fields", None)
        fields |= {"logger": record.name, "text": record.getMessage()} if own is None else own
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(fields, default=str)


def configure(level: str = "info") -> None:
    """Send all logging of this process to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # aiosmtpd logs each line of a message at DEBUG: content must never reach the log.
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def emit(event: str, level: int = logging.INFO, *, exc_info: bool = False, **fields: object) -> None:
    """Emit one event.

    Args:
        event: ``noun.verbed``.
        level: a level of the logging module.
        exc_info: whether to add the exception that is being handled.
        fields: from the list in docs/glossary.md; empty ones are left out.
    """
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, exc_info=exc_info, extra={"event": event, "fields": _keep(fields)})


def announce(event: str, **fields: object) -> None:
    """Emit an event whatever the level of the log is: supervisors wait for it."""
    extra = {"event": event, "fields": _keep(fields)}
    LOGGER.handle(LOGGER.makeRecord(LOGGER.name, logging.INFO, "", 0, event, (), None, extra=extra))


def _keep(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None and value != ""}
