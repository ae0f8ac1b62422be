"""The relay role: builds queue, resolver and courier in each process of the pool."""

import random
from collections.abc import Iterator
from functools import cache, partial

from celery import Celery, signals

from ptt import maillog
from ptt.dns.resolver import DnsResolver
from ptt.settings import Settings
from ptt.smtp.courier import CourierOptions, SmtpCourier
from ptt.smtp.timeouts import DEAD_S, make_timeouts
from ptt.smtp.tls import make_verified_context
from ptt.store.connection import RedisAddress
from ptt.store.relay_queue import RelayQueue
from ptt.tasks.attempt import AttemptPolicy
from ptt.tasks.relay import RelayService
from ptt.workers.readiness import Check
from ptt.workers.roles import Role
from ptt.workers.wiring import check_redis_files


def prepare(app: Celery, settings: Settings, address: RedisAddress) -> None:
    """Tell the app how each process gets its service, and how many there are."""
    relay = settings.relay
    policy = AttemptPolicy(
        retry_schedule_s=relay.retry_schedule_s,
        max_age_s=relay.max_age_s,
        delay_notice_after_s=relay.delay_notice_after_s,
        holds_uncertain=relay.uncertain == "hold",
        jitter=lambda: random.uniform(-1, 1),  # noqa: S311 - spreads load, guards nothing
    )

    @cache
    def build() -> RelayService:
        # Called in the process that works with it: a connection or a token must not cross a fork.
        resolver = _make_resolver(settings)
        courier = SmtpCourier(
            CourierOptions(
                hostname=settings.ehlo_hostname,
                resolver=resolver,
                smtp_port=relay.smtp_port,
                source_addresses=relay.source_addresses,
                allow_private_addresses=relay.allow_private_addresses,
                connections_per_host=relay.connections_per_host,
                messages_per_connection=relay.messages_per_connection,
                timeouts=make_timeouts(relay.timeout_scale),
                dead_s=DEAD_S * relay.timeout_scale,
                ca_file=_name_ca_file(settings),
            ),
        )
        lease_s = settings.queue.lease_s
        return RelayService(RelayQueue(address, lease_s), courier, policy, lease_s, resolver.close)

    app.service = build  # type: ignore[attr-defined]
    app.processes = relay.processes  # type: ignore[attr-defined]

    @signals.worker_ready.connect(weak=False)
    def started(**_: object) -> None:
        maillog.announce("relay.started", hostname=settings.ehlo_hostname, processes=relay.processes)


def list_checks(settings: Settings) -> Iterator[Check]:
    """List what can be wrong with the files."""
    yield check_redis_files(settings)
    yield Check(("relay.ca_file",), partial(make_verified_context, _name_ca_file(settings)))
    yield Check(("relay.resolvers",), partial(_make_resolver, settings))


def _make_resolver(settings: Settings) -> DnsResolver:
    relay = settings.relay
    return DnsResolver(nameservers=[str(server) for server in relay.resolvers], port=relay.resolver_port)


def _name_ca_file(settings: Settings) -> str | None:
    return str(settings.relay.ca_file) if settings.relay.ca_file else None


def concurrency(settings: Settings) -> int:
    """Give the number of destinations that are worked on at once."""
    return settings.relay.destinations


ROLE = Role(pool="ptt.workers.pool:ProcessPool", concurrency=concurrency, prepare=prepare, list_checks=list_checks)
