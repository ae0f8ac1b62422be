"""What a wake-up of the sign role does: claim, check the seal, sign, split by destination, record."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from celery import Celery

from ptt import maillog
from ptt.core.address import Address, Domain
from ptt.core.envelope import decide_hold_s, parse_envelope, parse_time_ms
from ptt.core.errors import MalformedInput, NoUsableKey, PttError
from ptt.core.seal import is_sealed
from ptt.core.wakeup import SIGN_TASK
from ptt.store.entries import SignEntry, check_version
from ptt.store.sign_queue import Signed, SignQueue

MAX_ROUNDS = 100
"""Most claims for one wake-up: a stop must not wait for an endless stream of mail."""
KEY_WAIT_S = 60.0
"""How long mail of a domain without an active key waits before it is looked at again."""


class Signer(Protocol):
    """Makes the signature fields."""

    def find_domain(self, content: bytes) -> Domain:
        """Give the domain whose keys sign a message; raises MalformedInput."""

    def sign(self, content: bytes, *, signed_at: datetime) -> bytes:
        """Give the DKIM-Signature fields of a message; raises NoUsableKey or MalformedInput."""


class SignService:
    """Signs what is due; one in each process of the pool."""

    def __init__(
        self,
        queue: SignQueue,
        signer: Signer,
        seal_key: bytes,
        now: Callable[[], datetime],
        max_age_s: float,
    ) -> None:
        """Work on this queue with these keys; a message that waits for a key longer than ``max_age_s`` is parked."""
        self._max_age_s = max_age_s
        self._queue = queue
        self._signer = signer
        self._seal_key = seal_key
        self._now = now

    def serve(self) -> None:
        """Serve one wake-up: sign until nothing is due."""
        try:
            self._queue.begin()
            for _ in range(MAX_ROUNDS):
                entries, parked = self._queue.claim()
                for queue_id in parked:
                    maillog.emit(
                        "recipient.parked", maillog.ERROR, queue_id=queue_id, reason="its workers died", stage="sign"
                    )
                if not entries:
                    return
                self._sign_batch(entries)
        except PttError as error:
            # Redis is away: leases end by themselves, and a sweep wakes again.
            maillog.emit("redis.unavailable", maillog.WARNING, reason=str(error))

    def _sign_batch(self, entries: Sequence[SignEntry]) -> None:
        signed = [one for one in map(self._try_sign, entries) if one is not None]
        for one, recorded in zip(signed, self._queue.record(signed), strict=True):
            if recorded:
                maillog.emit("message.signed", queue_id=one.queue_id, destinations=len(one.recipients))
            else:  # it took too long, or ingress has taken the message back
                maillog.emit("lease.lost", maillog.WARNING, queue_id=one.queue_id, stage="sign")

    def _try_sign(self, entry: SignEntry) -> Signed | None:
        token = maillog.queue_id_var.set(entry.queue_id)
        try:
            return self._sign(entry)
        except MalformedInput as error:
            self._park(entry, str(error), str(error))
        except NoUsableKey as error:
            self._wait_for_key(entry, str(error))
        except PttError:
            raise
        except Exception:  # noqa: BLE001 - one bad message must not stop the others; its claims are counted
            maillog.emit("sign.failed", maillog.ERROR, exc_info=True)
        finally:
            maillog.queue_id_var.reset(token)
        return None

    def _wait_for_key(self, entry: SignEntry, reason: str) -> None:
        options = parse_envelope(entry.envelope_json).options
        held_s = decide_hold_s(entry.queue_id, options)
        age_s = self._now().timestamp() - parse_time_ms(entry.queue_id) / 1000 - held_s
        if age_s < self._max_age_s:
            self._queue.put_back(entry.queue_id, KEY_WAIT_S, reason)
            maillog.emit("key.missing", maillog.ERROR, reason=reason, delay_s=KEY_WAIT_S)
            return
        # Not even the report on it could be signed: a person decides, and the rest of the queue is not filled by it.
        self._park(entry, reason, f"{reason} in {age_s:.0f} s")

    def _park(self, entry: SignEntry, reason: str, told: str) -> None:
        if self._queue.park(entry.queue_id, reason):
            maillog.emit("recipient.parked", maillog.ERROR, reason=told, stage="sign")
        else:  # taken back by ingress, its content with it
            maillog.emit("lease.lost", maillog.WARNING, stage="sign")

    def _sign(self, entry: SignEntry) -> Signed:
        content = self._queue.read(entry)
        check_sealed(entry, content, self._seal_key)
        recipients: dict[Domain, list[Address]] = {}
        envelope = parse_envelope(entry.envelope_json)
        for recipient in envelope.recipients:
            recipients.setdefault(recipient.domain, []).append(recipient)
        signature = self._signer.sign(content, signed_at=self._now())
        return Signed(entry.queue_id, signature, recipients, envelope.options.priority)


def check_sealed(entry: SignEntry, content: bytes, seal_key: bytes) -> None:
    """Check that an ingress accepted exactly this message.

    Raises:
        MalformedInput: if none did, or its data version is unknown.
    """
    check_version(entry.version)
    # What no ingress sealed is never signed: Redis is a store, not an authority.
    if hashlib.sha256(content).digest() != entry.content_sha256:
        raise MalformedInput("content does not match its digest")
    if not is_sealed(seal_key, entry.queue_id, entry.envelope_json, entry.content_sha256, entry.seal):
        raise MalformedInput("seal is wrong")


class Servant(Protocol):
    """What a wake-up of the sign role is served by."""

    def serve(self) -> None:
        """Serve one wake-up."""


def register(app: Celery, get_service: Callable[[], Servant]) -> None:
    """Register the task of the sign role."""

    @app.task(name=SIGN_TASK)
    def sign() -> None:
        """Serve one wake-up."""
        get_service().serve()
