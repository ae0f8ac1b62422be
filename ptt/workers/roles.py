"""From ``-Q name`` to the role: its pool, its concurrency and its service, with no further flag.

A worker has exactly one role: ``-Q sign,relay`` in one process would put the private keys beside the Internet.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from celery import Celery
from celery.apps.worker import Worker
from typing_extensions import override

from ptt import maillog
from ptt.core.errors import MalformedInput, PttError
from ptt.settings import Settings
from ptt.store.connection import RedisAddress
from ptt.store.server import check_server
from ptt.workers.readiness import Checks
from ptt.workers.wiring import end_with, redis_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """How one role runs."""

    pool: str
    """The pool, as Celery names it."""
    concurrency: Callable[[Settings], int]
    prepare: Callable[[Celery, Settings, RedisAddress], None]
    """Builds what the role works with; called before the pool starts."""
    list_checks: Checks = lambda _: ()
    """Lists what can be wrong with its files."""


def choose_role(queues: object, roles: Mapping[str, Role]) -> str:
    """Give the one role that the queues name.

    Raises:
        MalformedInput: if they name none or several.
    """
    names = queues.split(",") if isinstance(queues, str) else [str(name) for name in (queues or ())]  # type: ignore[attr-defined]
    wanted = " or ".join(f"-Q {name}" for name in roles)
    if not names:
        raise MalformedInput(f"celery: -Q: missing: start each worker with {wanted}")
    if len(names) > 1:
        raise MalformedInput(
            f"celery: -Q {','.join(names)}: one worker has one role, so that the private keys stay away from the "
            f"processes that talk to the Internet: start one with {wanted}"
        )
    if names[0] not in roles:
        raise MalformedInput(f"celery: -Q {names[0]}: no such role: {wanted}")
    return names[0]


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program with 0 while it waits: Celery, which obeys it later, has not begun."""

    def end(*_: object) -> NoReturn:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class RoleWorker(Worker):
    """A Celery worker that takes pool and concurrency from its role; made by `PttCelery`."""

    def __init__(self, app: Any = None, hostname: str | None = None, **options: Any) -> None:  # noqa: ANN401 - Celery's own signature
        """Choose the role, check the settings that it needs and Redis, and build its service."""
        application: PttCelery = app or self.app
        try:
            name = choose_role(options.get("queues"), application.roles)
            settings = application.load(name)
            maillog.configure(settings.log.level)
            address = redis_address(settings)
            with ending_on_sigterm():
                check_server(address, allow_unsafe=settings.redis.allow_unsafe)
            role = application.roles[name]
            role.prepare(application, settings, address)
        except PttError as error:
            end_with(error)
        options |= {
            "pool": role.pool,
            "pool_cls": role.pool,
            "concurrency": options.get("concurrency") or role.concurrency(settings),
            # these three publish to channels that a role has no right to
            "without_gossip": True,
            "without_mingle": True,
            "without_heartbeat": True,
            "quiet": True,
        }
        super().__init__(app, hostname, **options) if app else super().__init__(hostname=hostname, **options)

    @override
    def install_platform_tweaks(self, worker: Any) -> None:
        """Install Celery's signal handlers, but for SIGHUP: a reload must not restart the worker."""
        super().install_platform_tweaks(worker)
        # Keys are looked at anew by themselves; there is nothing else to reload in a worker.
        signal.signal(signal.SIGHUP, lambda *_: maillog.emit("worker.reloaded"))


class PttCelery(Celery):
    """The Celery app with our worker."""

    roles: Mapping[str, Role]
    load: Callable[[str], Settings]
    """Loads the settings and checks those that a role needs."""
    service: Any = None
    """What the tasks of the role work with."""

    @cached_property
    @override
    def Worker(self) -> Any:
        """Give the worker class that ``celery worker`` starts."""
        return self.subclass_with_self(RoleWorker, name="Worker", attribute="app")
