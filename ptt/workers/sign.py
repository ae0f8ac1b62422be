"""The sign role: builds the signer in each process of the pool; sweeps and keeps the keys from the main process."""

import ctypes
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache, partial

from celery import Celery, signals

from ptt import maillog
from ptt.core.errors import ConfigError
from ptt.settings import Settings
from ptt.signing.key_files import list_exposed
from ptt.signing.keys import KeyRing
from ptt.signing.memory import forbid_dumps
from ptt.signing.signer import GRACE_S, Signer
from ptt.store.connection import RedisAddress
from ptt.store.report_queue import ReportQueue
from ptt.store.sign_queue import SignQueue
from ptt.store.sweep import SweepThread
from ptt.tasks.report import ReportService, SignRole
from ptt.tasks.sign import SignService
from ptt.workers.keeper import KeeperThread, make_keeper
from ptt.workers.readiness import Check
from ptt.workers.roles import Role
from ptt.workers.wiring import check_redis_files, make_policies, read_seal_key

_PR_SET_PDEATHSIG = 1


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the composition root gives the others their clock


def prepare(app: Celery, settings: Settings, address: RedisAddress) -> None:
    """Read what can be wrong before the pool starts, and tell the app how each process gets its service.

    Raises:
        ConfigError: the seal key cannot be read, or a private key is not for us alone.
    """
    forbid_dumps()
    seal_key = read_seal_key(settings)
    keys_dir = settings.signing.keys_dir
    assert keys_dir is not None  # noqa: S101 - load_settings has checked what the role needs
    check_exposed(settings)

    @cache
    def build() -> SignRole:
        # Called in the process of the pool: a connection, a token or a parsed key must not cross a fork.
        lifetime_s = int(settings.relay.max_age_s) + GRACE_S
        signer = Signer(KeyRing(keys_dir), lifetime_s=lifetime_s, policies=make_policies(settings))
        lease_s = settings.queue.lease_s
        return SignRole(
            SignService(SignQueue(address, lease_s), signer, seal_key, _now, settings.relay.max_age_s),
            ReportService(
                queue=ReportQueue(address, lease_s),
                signer=signer,
                seal_key=seal_key,
                hostname=settings.ehlo_hostname,
                now=_now,
            ),
        )

    app.service = build  # type: ignore[attr-defined]
    sweep = SweepThread(address)
    keeper = KeeperThread(make_keeper(settings, _now))

    @signals.worker_process_init.connect(weak=False)
    def die_with_parent(**_: object) -> None:
        # kill -9 of the main process must not leave signers behind that nobody supervises.
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    @signals.worker_ready.connect(weak=False)
    def start(**_: object) -> None:
        sweep.start()
        keeper.start()
        maillog.announce("sign.started", processes=concurrency(settings))

    @signals.worker_shutting_down.connect(weak=False)
    def stop(**_: object) -> None:
        sweep.stop()
        keeper.stop()


def list_checks(settings: Settings) -> Iterator[Check]:
    """List what can be wrong with the files."""
    yield check_redis_files(settings)
    yield Check(("ingress.seal_key_file",), partial(read_seal_key, settings))
    yield Check(("signing.keys_dir",), partial(check_exposed, settings))
    yield Check(
        ("signing.keys_dir", "signing.rotate_after_days", "dns_update.tsig_key_name", "dns_update.tsig_secret_file"),
        partial(make_keeper, settings, _now),
    )


def check_exposed(settings: Settings) -> None:
    """See whether each private key is for us alone.

    Raises:
        ConfigError: one line for each that is not.
    """
    keys_dir = settings.signing.keys_dir
    if keys_dir is not None and (exposed := list_exposed(keys_dir)):
        raise ConfigError(*exposed)


def concurrency(settings: Settings) -> int:
    """Give the number of signing processes."""
    return settings.signing.processes or os.cpu_count() or 1


ROLE = Role(pool="prefork", concurrency=concurrency, prepare=prepare, list_checks=list_checks)
