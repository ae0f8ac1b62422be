"""The named steps of a message's life at which the rig kills the process that takes them.

Each is a function of ptt by its importable name: the hooks of ``tests/chaos/hooks.py`` wrap it from outside, so that
the product knows nothing of this. A name that is gone fails the run before it starts.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ptt.store.scripts import SCRIPTS

ROLES = ("ingress", "sign", "relay", "up")


def always(*_: object, **__: object) -> bool:
    """Take each call."""
    return True


@dataclass(frozen=True, slots=True)
class Point:
    """One step."""

    name: str
    place: str
    """``module:function`` or ``module:Class.method``."""
    after: bool
    """Whether the process dies when the call has returned, not when it begins."""
    when: Callable[..., bool] = always
    """Which calls count; gets their arguments."""
    trigger: str = ""
    """What the rig has to do for it to be reached: ``hangup``, ``stop`` or ``start``; mail alone if empty."""
    is_early: bool = False
    """Whether it is taken only when a process begins: so it may die of it at once."""

    @property
    def role(self) -> str:
        """Give the role whose process takes the step."""
        return self.name.partition(".")[0]


def runs(script: str) -> Callable[..., bool]:
    """Take calls that run this script."""
    assert script in SCRIPTS, f"tests/chaos/points.py: there is no script {script} any more"

    def is_it(_: object, calls: Any, *__: object) -> bool:
        return any(getattr(one, "call", one).script.name == script for one in calls)

    return is_it


def _before(name: str, place: str, when: Callable[..., bool] = always, trigger: str = "") -> Point:
    return Point(name, place, after=False, when=when, trigger=trigger)


def _after(name: str, place: str, when: Callable[..., bool] = always, trigger: str = "") -> Point:
    return Point(name, place, after=True, when=when, trigger=trigger)


def _answers(octets: bytes) -> Callable[..., bool]:
    return lambda connection: any(octets in piece for piece in vars(connection)["_outbox"])


def _is_left(_: object, __: object, attempt: Any) -> bool:
    return bool(attempt.remaining)


def _is_to_be_told(_: object, __: object, attempt: Any) -> bool:
    return bool(attempt.records.final)


POINTS = (
    # ingress: from the login to what follows our 250
    Point("ingress.logged_in", "ptt.ingress.session:Session._log_in", after=True, is_early=True),
    _before("ingress.data_begun", "ptt.ingress.session:Session._receive_content"),
    _after("ingress.data_received", "ptt.ingress.session:Session._receive_content"),
    _after("ingress.sealed", "ptt.ingress.acceptance:Acceptor._seal"),
    _before("ingress.before_spool", "ptt.store.spool:RedisSpool.submit"),
    _after("ingress.chunks_uploaded", "ptt.store.spool:RedisSpool._upload"),
    _before("ingress.before_script", "ptt.store.batch:Batch._transact", runs("spool")),
    _after("ingress.after_script", "ptt.store.batch:Batch._transact", runs("spool")),
    _after("ingress.spooled", "ptt.store.spool:RedisSpool.submit"),
    _before("ingress.before_250", "ptt.ingress.connection:Connection._flush", _answers(b"queued as")),
    _after("ingress.after_250", "ptt.ingress.connection:Connection._flush", _answers(b"queued as")),
    # sign: a batch, and a report
    _before("sign.before_begin", "ptt.store.sign_queue:SignQueue.begin"),
    _after("sign.begun", "ptt.store.sign_queue:SignQueue.begin"),
    _after("sign.claimed", "ptt.store.sign_queue:SignQueue.claim"),
    _after("sign.content_read", "ptt.store.sign_queue:SignQueue.read"),
    _after("sign.seal_checked", "ptt.tasks.sign:check_sealed"),
    _after("sign.signed", "ptt.signing.signer:Signer.sign"),
    _before("sign.before_record", "ptt.store.runner:Runner.run", runs("signed")),
    _after("sign.recorded", "ptt.store.runner:Runner.run", runs("signed")),
    _before("sign.before_report", "ptt.tasks.report:ReportService._report"),
    _after("sign.report_built", "ptt.tasks.report:make_dsn"),
    _before("sign.before_report_stored", "ptt.store.report_queue:ReportQueue.record"),
    _after("sign.report_stored", "ptt.store.report_queue:ReportQueue.record"),
    _before("sign.before_sweep", "ptt.store.runner:Runner.run", runs("sweep_sign")),
    _after("sign.swept", "ptt.store.runner:Runner.run", runs("sweep_sign")),
    # relay: from the wake-up to the record
    _before("relay.before_begin", "ptt.store.relay_queue:RelayQueue.begin"),
    _after("relay.begun", "ptt.store.relay_queue:RelayQueue.begin"),
    _after("relay.claimed", "ptt.store.relay_queue:RelayQueue.claim"),
    _after("relay.resolved", "ptt.dns.resolver:DnsResolver.resolve_mx"),
    _after("relay.connected", "ptt.smtp.session:Session._connect"),
    _after("relay.greeted", "ptt.smtp.session:Session._greet"),
    _after("relay.in_tls", "ptt.smtp.session:Session._start_tls"),
    _after("relay.mail_answered", "ptt.smtp.transaction:Transaction._take_mail"),
    _after("relay.rcpt_answered", "ptt.smtp.transaction:Transaction._take_rcpt"),
    _after("relay.data_answered", "ptt.smtp.transaction:Transaction._take_data"),
    _after("relay.block_sent", "ptt.smtp.transaction:Transaction._send_block"),
    _before("relay.before_commit", "ptt.store.relay_queue:RelayQueue.commit"),
    _after("relay.committed", "ptt.store.relay_queue:RelayQueue.commit"),
    _before("relay.before_dot", "ptt.smtp.transaction:Transaction._send_dot"),
    _after("relay.dot_sent", "ptt.smtp.attempt:Attempt.note_dot"),
    _after("relay.dot_answered", "ptt.smtp.transaction:Transaction._send_dot"),
    _before("relay.before_record", "ptt.store.relay_queue:RelayQueue.record"),
    _after("relay.recorded", "ptt.store.relay_queue:RelayQueue.record"),
    _before("relay.before_deferral", "ptt.store.relay_queue:RelayQueue.record", _is_left),
    _after("relay.deferred", "ptt.store.relay_queue:RelayQueue.record", _is_left),
    _before("relay.before_failure", "ptt.store.relay_queue:RelayQueue.record", _is_to_be_told),
    _after("relay.failed", "ptt.store.relay_queue:RelayQueue.record", _is_to_be_told),
    _after("relay.renewed", "ptt.store.relay_queue:RelayQueue.renew"),
    _before("relay.before_sweep", "ptt.store.relay_queue:RelayQueue.sweep"),
    _after("relay.swept", "ptt.store.relay_queue:RelayQueue.sweep"),
    # reload, stop and start
    _before("ingress.before_reload", "ptt.ingress.tls:ServerTls.reload", trigger="hangup"),
    _after("ingress.certificate_reloaded", "ptt.ingress.tls:ServerTls.reload", trigger="hangup"),
    _before("ingress.stopping", "ptt.ingress.listener:Listener.stop", trigger="stop"),
    _after("sign.sweep_stopped", "ptt.store.sweep:SweepThread.stop", trigger="stop"),
    _before("relay.stopping", "ptt.tasks.relay:RelayService.stop", trigger="stop"),
    _after("relay.stopped", "ptt.tasks.relay:RelayService.stop", trigger="stop"),
    _after("up.child_ended", "ptt.workers.child:Child._live"),
    _before("up.stopping", "ptt.workers.supervisor:Supervisor._stop", trigger="stop"),
    _after("up.server_loaded", "ptt.workers.supervisor:wait_until_loaded", trigger="start"),
)


def find(place: str) -> tuple[Any, str, Any]:
    """Give owner, name and function of a place.

    Raises:
        AssertionError: there is none by this name any more.
    """
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    try:
        owner: Any = importlib.import_module(module)
        for one in owners:
            owner = getattr(owner, one)
        return owner, name, vars(owner)[name]
    except (ImportError, AttributeError, KeyError) as error:
        raise AssertionError(f"tests/chaos/points.py: {place} is gone: {error!r}") from error
