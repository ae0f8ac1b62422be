"""The timer of the keys: compares what signs with what the DNS answers, rotates what is old, removes what is over.

Runs in every sign worker. Who holds the lock of a domain does its pass and leaves behind, as the time of the lock file,
when the next one is due: workers that share a folder share the work, and one takes over from another that is gone.
Workers with folders of their own have keys of their own and know nothing of each other.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ptt import maillog
from ptt.core.address import Domain
from ptt.core.errors import ConfigError, PttError, Unavailable
from ptt.core.signature import Algorithm
from ptt.dns.zone import Lag
from ptt.settings import Settings
from ptt.signing.key_files import KeyState
from ptt.signing.keys import SigningKey
from ptt.workers.publication import make_publisher
from ptt.workers.rotation import KeyLife, make_life

TICK_S = 1.0
"""How often it is looked for what is due."""
CONFIRM_S = 3.0
"""How long a wrong answer must last before a key stops signing: servers may be loading the zone just now."""
DEFAULT_EVERY = timedelta(minutes=5)
SUSPENDED_EVERY = timedelta(seconds=15)
"""How often a suspended key is looked at: its mail waits."""
RETRY_S = 60.0
"""Shortest pause between two attempts at a change that failed; it doubles each time."""
MAX_RETRY_S = 3600.0
ROTATION_WAIT_S = 10.0
"""How long the authoritative servers may take to answer a new key within one pass; NOTIFY takes seconds."""
STOP_S = 2.0
"""How long a stop waits for a pass; all that a pass does may be cut short at any place."""


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Does the passes; one thread calls it."""

    life: KeyLife
    every: timedelta = DEFAULT_EVERY
    """Time from one pass to the next."""
    is_checking: bool = True
    """Whether keys are compared with the DNS; without, only rotations and removals are done."""
    rotate_after: timedelta | None = None
    _due: dict[Domain, datetime] = field(default_factory=dict)
    _failures: dict[Domain, int] = field(default_factory=dict)

    def run_due(self) -> None:
        """Do the pass of each domain that is due and that no other process works on."""
        for domain in self.life.ring.list_domains():
            known = self._due.get(domain)
            if known is not None and self._is_ahead(known):
                continue
            try:
                with self.life.hold(domain) as lock:
                    self._due[domain] = self._take_turn(domain, lock, is_first=known is None)
            except Unavailable:
                continue  # a person, or another worker, is at it
            except (ConfigError, OSError) as error:
                maillog.emit("keys.unwritable", maillog.ERROR, signing_domain=domain, reason=str(error))
                self._due[domain] = self.life.now() + self.every

    def _take_turn(self, domain: Domain, lock: int, *, is_first: bool) -> datetime:
        """Do the pass unless another worker has done it; the first one after a start is done in any case."""
        written = datetime.fromtimestamp(os.fstat(lock).st_mtime, UTC)
        if self._is_ahead(written) and not is_first:
            return written
        due_at = self._pass(domain)
        os.utime(lock, (due_at.timestamp(), due_at.timestamp()))
        return due_at

    def _is_ahead(self, due_at: datetime) -> bool:
        # A time that is too far ahead was written before the clock was set back.
        return timedelta() < due_at - self.life.now() <= self.every

    def _pass(self, domain: Domain) -> datetime:
        """Do all that is due for a domain, and tell when to look again."""
        self.life.finish(domain)
        active = self.life.list_active(domain) if self.is_checking else []
        sound = [self._verify(key) for key in active]
        self._change(domain, self._rotate)
        self._change(domain, self._remove)
        return self.life.now() + (self.every if all(sound) else min(self.every, SUSPENDED_EVERY))

    def _verify(self, key: SigningKey) -> bool:
        """Suspend a key whose record is wrong anywhere, resume one that is right everywhere; tell whether it is."""
        try:
            lags = self.life.publisher.find_lags(key)
            if any(lag.is_wrong for lag in lags) and key.status.is_signing:
                lags = self.life.publisher.find_lags(key, wait_s=CONFIRM_S)
        except PttError as error:
            _log("key.unverified", key, maillog.WARNING, reason=str(error))
            return key.status.is_signing
        if not lags:
            if not key.status.is_signing:
                self.life.publisher.resume(key)
            return True
        if wrong := [lag for lag in lags if lag.is_wrong]:
            self._suspend(key, wrong)
        else:
            _log("key.unverified", key, maillog.WARNING, reason=_join(lags))
        return False

    def _suspend(self, key: SigningKey, wrong: list[Lag]) -> None:
        reason, now = _join(wrong), self.life.now()
        if key.status.problem != reason:
            self.life.ring.change_status(key, lambda status: status.suspend(reason, now))
        _log("key.suspended", key, maillog.ERROR, reason=reason)

    def _change(self, domain: Domain, change: Callable[[Domain], None]) -> None:
        try:
            change(domain)
        except PttError as error:
            maillog.emit("rotation.failed", maillog.ERROR, signing_domain=domain, reason=str(error))

    def _rotate(self, domain: Domain) -> None:
        due = [key for key in self._list_newest(domain) if self._is_old(key) and self._may_try(key)]
        if not due:
            return
        # First the time of the next attempt: whatever becomes of this one, the primary is asked once a minute at most.
        self._put_off(domain, due)
        lagging = self.life.rotate(domain, [key.algorithm for key in due])
        if lagging:
            lines = "; ".join(f"{key.record_name}: {lag}" for key, lag in lagging)
            maillog.emit("rotation.failed", maillog.ERROR, signing_domain=domain, reason=lines)
            return
        self._failures.pop(domain, None)

    def _remove(self, domain: Domain) -> None:
        over = [key for key in self.life.list_usable(domain) if key.status.state is KeyState.RETIRING]
        due = [key for key in over if self.life.is_over(key) and self._may_try(key)]
        if due:
            self._put_off(domain, due)
            for key in due:
                self.life.retire(key)
            self._failures.pop(domain, None)

    def _list_newest(self, domain: Domain) -> list[SigningKey]:
        newest: dict[Algorithm, SigningKey] = {}
        for key in self.life.list_active(domain):
            newest.setdefault(key.algorithm, key)
        return list(newest.values())

    def _is_old(self, key: SigningKey) -> bool:
        since = key.status.active_at
        return self.rotate_after is not None and since is not None and since + self.rotate_after <= self.life.now()

    def _may_try(self, key: SigningKey) -> bool:
        return key.status.retry_at is None or key.status.retry_at <= self.life.now()

    def _put_off(self, domain: Domain, keys: list[SigningKey]) -> None:
        failures = self._failures[domain] = self._failures.get(domain, 0) + 1
        retry_at = self.life.now() + timedelta(seconds=min(RETRY_S * 2 ** (failures - 1), MAX_RETRY_S))
        for key in keys:
            self.life.ring.change_status(key, lambda status: replace(status, retry_at=retry_at))


class KeeperThread:
    """Runs a keeper in the main process of a sign worker."""

    def __init__(self, keeper: Keeper) -> None:
        """Prepare; `start` begins."""
        self._keeper = keeper
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def start(self) -> None:
        """Begin with a pass over all domains."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no further pass."""
        self._stopping.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join(timeout=STOP_S)

    def _run(self) -> None:
        while True:
            try:
                self._keeper.run_due()
            except Exception:  # noqa: BLE001 - the keys that are there go on; the next pass may do better
                maillog.emit("keys.failed", maillog.ERROR, exc_info=True)
            if self._stopping.wait(TICK_S):
                return


def make_keeper(settings: Settings, now: Callable[[], datetime]) -> Keeper:
    """Build the keeper that the settings describe.

    Raises:
        ConfigError: something in them is missing, or the TSIG secret cannot be read.
    """
    signing, publisher = settings.signing, make_publisher(settings)
    if signing.rotate_after_days and publisher.primary is None:
        raise ConfigError("signing.rotate_after_days: needs dns_update.server: keys must publish themselves")
    if publisher.primary is not None:
        # One attempt: the pass comes again by itself, and the primary is not to be pressed.
        publisher = replace(publisher, primary=replace(publisher.primary, attempts=1))
    return Keeper(
        life=make_life(settings, publisher, now, wait_s=ROTATION_WAIT_S),
        every=timedelta(seconds=signing.check_s) or DEFAULT_EVERY,
        is_checking=signing.check_s > 0,
        rotate_after=timedelta(days=signing.rotate_after_days) or None,
    )


def _log(event: str, key: SigningKey, level: int, reason: str = "") -> None:
    maillog.emit(event, level, signing_domain=key.domain, selector=key.selector, reason=reason)


def _join(lags: list[Lag] | tuple[Lag, ...]) -> str:
    return "; ".join(map(str, lags))
