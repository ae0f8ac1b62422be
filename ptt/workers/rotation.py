"""What happens to the keys of one domain in their life: rotation, the way back, retirement.

Each step is recorded before the next one begins, so that whoever repeats it after a crash goes on where it was. A key
is active until its successor is; the record of an old key stays until no signature made with it is valid any more.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from ptt.core.address import Domain
from ptt.core.errors import NoUsableKey, RotationRefused
from ptt.core.signature import Algorithm, Selector
from ptt.dns.zone import Lag
from ptt.settings import Settings
from ptt.signing.key_files import KeyState, KeyStatus
from ptt.signing.key_lock import locking
from ptt.signing.key_making import find_kind, generate_private_key
from ptt.signing.keys import KeyRing, SigningKey
from ptt.signing.signer import GRACE_S
from ptt.workers.publication import Publisher
from ptt.workers.rollback import find_last_rotation

_WAITING = frozenset({KeyState.CREATED, KeyState.PUBLISHED})

Lagging = Sequence[tuple[SigningKey, Lag]]
"""Which server does not answer the record of which key: nothing was changed that mail depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLife:
    """Changes the states of keys; callers hold the lock of the domain, see `hold`."""

    publisher: Publisher
    now: Callable[[], datetime]
    wait_s: float
    """How long the authoritative servers may take to answer a new record."""
    keep: timedelta
    """How long the record of a key stays after its last signature: as long as x= says that signatures are valid."""

    @property
    def ring(self) -> KeyRing:
        """Give the keys."""
        return self.publisher.ring

    def hold(self, domain: Domain) -> AbstractContextManager[int]:
        """Take the lock of a domain.

        Raises:
            Unavailable: another process has it now.
        """
        return locking(self.ring.get_folder(domain))

    def list_usable(self, domain: Domain) -> list[SigningKey]:
        """Give all keys of a domain but those that are refused."""
        return [key for key in self.ring.list_keys(domain) if isinstance(key, SigningKey)]

    def list_active(self, domain: Domain) -> list[SigningKey]:
        """Give the keys that sign, or would but for a suspension; the newest first."""
        active = [key for key in self.list_usable(domain) if key.status.state is KeyState.ACTIVE]
        return sorted(active, key=_get_age, reverse=True)

    def rotate(self, domain: Domain, algorithms: Collection[Algorithm] = tuple(Algorithm)) -> Lagging:
        """Put a new key in the place of the active one of each algorithm, once all servers answer all new records.

        Called again after a crash or a lag, it goes on with the keys that it made.

        Raises:
            NoUsableKey: the domain has no active key of these algorithms.
            Unavailable: the primary or the servers cannot be asked; the old keys go on.
            UpdateRefused: the primary does not take a record; the old keys go on.
        """
        self.finish(domain)
        active = [key for key in self.list_active(domain) if key.algorithm in algorithms]
        newest = {key.algorithm: key for key in reversed(active)}
        if not newest:
            raise NoUsableKey(f"no active key of {domain} to rotate")
        successors = [self._find_successor(key) for key in newest.values()]
        for key in successors:
            self.publisher.send(key, at=self.now(), is_new=True)
        return self._replace(active, successors)

    def roll_back(self, domain: Domain) -> Lagging:
        """Undo the last rotation: exactly the keys that it replaced sign again, and their successors are retiring.

        Raises:
            RotationRefused: there was none, or not all of these keys can come back.
            Unavailable: the servers cannot be found.
            UpdateRefused: the primary has no zone of the key.
        """
        rotation = find_last_rotation(domain, self.list_usable(domain))
        active = [key for key in rotation.successors if key.status.state is KeyState.ACTIVE]
        return self._replace(active, rotation.replaced)

    def activate(self, key: SigningKey) -> Lagging:
        """Let one key sign in the place of the others of its algorithm, publishing it if it is not in the DNS.

        Raises:
            RotationRefused: the key was declared void.
            Unavailable: the primary or the servers cannot be asked.
            UpdateRefused: the primary does not take the record.
        """
        if revoked_at := key.status.revoked_at:
            raise RotationRefused(
                f"{key.selector} was declared void at {revoked_at:%Y-%m-%d %H:%M} UTC and never signs again: "
                f"`ptt key create {key.domain}` makes another"
            )
        others = [other for other in self.list_active(key.domain) if other.algorithm is key.algorithm]
        if any(lag.is_wrong for lag in self.publisher.find_lags(key)):
            self.publisher.send(key, at=self.now())
        return self._replace([other for other in others if other.selector != key.selector], [key])

    def retire(self, key: SigningKey, *, is_forced: bool = False) -> KeyState:
        """Let a key sign no more; its record is removed when no signature is valid any more.

        Returns:
            The state that it has now.

        Raises:
            RotationRefused: it is the last one that signs for its domain, unless ``is_forced``.
            Unavailable: the primary does not answer.
            UpdateRefused: the primary does not remove the record.
        """
        match key.status.state:
            case KeyState.ACTIVE:
                self._check_not_last(key, is_forced=is_forced)
                self.publisher.reach(key, KeyState.RETIRING, at=self.now())
                return KeyState.RETIRING
            case KeyState.RETIRING if not self.is_over(key):
                return KeyState.RETIRING
            case KeyState.PUBLISHED | KeyState.RETIRING:
                self.publisher.withdraw(key)
                self.publisher.reach(key, KeyState.RETIRED, at=self.now())
            case KeyState.CREATED:
                self.publisher.reach(key, KeyState.RETIRED, at=self.now())
            case KeyState.RETIRED:
                pass
        return KeyState.RETIRED

    def revoke(self, key: SigningKey, *, is_forced: bool = False) -> None:
        """Declare a key void at once: others may have it. What it signed verifies no more (RFC 6376 section 3.6.1).

        Raises:
            RotationRefused: it is the last one that signs for its domain, unless ``is_forced``.
            Unavailable: the primary does not answer; the key signs no more.
            UpdateRefused: the primary does not take the record; the key signs no more.
        """
        if key.status.state is KeyState.ACTIVE:
            self._check_not_last(key, is_forced=is_forced)
        # First the state: whatever becomes of the record, and of us, the key must not come back.
        self.publisher.declare_void(key, at=self.now())
        self.publisher.revoke(key)
        self.publisher.reach(key, KeyState.RETIRED, at=self.now())

    def is_over(self, key: SigningKey) -> bool:
        """Tell whether the record of a retiring key may go."""
        end = self.get_end(key)
        return end is not None and end <= self.now()

    def get_end(self, key: SigningKey) -> datetime | None:
        """Tell when the record of a retiring key may go."""
        return key.status.retiring_at and key.status.retiring_at + self.keep

    def finish(self, domain: Domain) -> None:
        """Finish what a crash in the midst of a rotation left: an active key whose successor signs is retiring."""
        active = self.list_active(domain)
        signing = {key.selector for key in active if key.status.is_signing}
        for key in active:
            if key.status.successor in signing:
                self.publisher.reach(key, KeyState.RETIRING, at=self.now())

    def _find_successor(self, key: SigningKey) -> SigningKey:
        # One that an earlier attempt, or a person, has made for this is taken before a new one.
        waiting = [
            other
            for other in self.list_usable(key.domain)
            if other.algorithm is key.algorithm and other.status.state in _WAITING
        ]
        if waiting:
            return max(waiting, key=_get_age)
        private_key = generate_private_key(find_kind(key.private_key))
        return self.ring.add_key(key.domain, None, private_key, created_at=self.now())

    def _replace(self, active: Sequence[SigningKey], successors: Sequence[SigningKey]) -> Lagging:
        """Let the successors sign instead of the active keys of their algorithms, if all servers answer all of them."""
        lagging = [(key, lag) for key in successors for lag in self.publisher.find_lags(key, wait_s=self.wait_s)]
        if lagging:
            return lagging
        names, now = {key.algorithm: key.selector for key in successors}, self.now()
        for key in active:
            self.ring.change_status(key, partial(_name_successor, names[key.algorithm], now))
        # Both sign for a moment: a crash in between must not leave the domain without a key. `finish` goes on.
        for key in successors:
            if key.status.state is not KeyState.ACTIVE:
                self.publisher.let_sign(key, at=now)
        for key in active:
            self.publisher.reach(key, KeyState.RETIRING, at=now)
        return ()

    def _check_not_last(self, key: SigningKey, *, is_forced: bool) -> None:
        others = [other for other in self.list_active(key.domain) if other.selector != key.selector]
        if not is_forced and not any(other.status.is_signing for other in others):
            raise RotationRefused(
                f"{key.selector} is the last key that signs for {key.domain}: its mail would wait; rotate it instead"
            )


def make_life(settings: Settings, publisher: Publisher, now: Callable[[], datetime], *, wait_s: float) -> KeyLife:
    """Build what the settings describe."""
    keep = timedelta(seconds=settings.relay.max_age_s + GRACE_S)
    return KeyLife(publisher=publisher, now=now, wait_s=wait_s, keep=keep)


def _name_successor(selector: Selector, at: datetime, status: KeyStatus) -> KeyStatus:
    return replace(status, successor=selector, replaced_at=at)


def _get_age(key: SigningKey) -> tuple[float, str]:
    made = key.status.created_at or key.status.active_at
    return (made.timestamp() if made else 0.0, key.selector)
