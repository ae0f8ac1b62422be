"""The sign role's view of the spool: claim, read, record. Synchronous, for a prefork process."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from redis.exceptions import RedisError

from ptt.core.address import Address, Domain
from ptt.core.envelope import QueueId
from ptt.core.wakeup import RELAY_WAKEUP
from ptt.store import keys
from ptt.store.connection import RedisAddress, connect
from ptt.store.entries import SignEntry, format_recipients, parse_claim, parse_sign_claim
from ptt.store.restart import RestartGuard
from ptt.store.runner import Runner
from ptt.store.scripts import SCRIPTS, Call, translate

BATCH = 50
BATCH_BYTES = 8_388_608
"""Most octets in one claim: a worker's memory and its lease must both suffice for it."""
MAX_CLAIMS = 3
"""A message that three workers died on is parked, so that it stops killing workers."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A message with its signature fields, split by destination."""

    queue_id: QueueId
    signature: bytes
    recipients: Mapping[Domain, Sequence[Address]]
    priority: int = 0


class SignQueue:
    """Messages that wait to be signed."""

    def __init__(self, address: RedisAddress, lease_s: float) -> None:
        """Make a client; it connects when it is used."""
        self._runner = Runner(connect(address))
        self._broker_db = address.broker_db
        self._lease_ms = int(lease_s * 1000)
        self._guard = RestartGuard()
        self._token = secrets.token_hex(8)

    def begin(self) -> None:
        """Take note that this wake-up is being served."""
        self._runner.run([Call(SCRIPTS["begin"], (), (self._broker_db, "sign"))])

    def claim(self) -> tuple[list[SignEntry], list[QueueId]]:
        """Lease up to 50 messages that are due.

        Returns:
            The messages, and the queue-ids of those that were parked because three workers died on them.

        Raises:
            Unavailable: Redis is away.
        """
        restarted_ms = self._guard.ask(self._runner.client)
        arguments = (self._token, BATCH, BATCH_BYTES, self._lease_ms, restarted_ms, MAX_CLAIMS, keys.MAX_EVENTS)
        (result,) = self._runner.run([Call(SCRIPTS["claim_sign"], (keys.SIGN, keys.PARKED, keys.EVENTS), arguments)])
        claimed, parked = parse_claim(result)
        return [parse_sign_claim(row) for row in claimed], [QueueId(name.decode()) for name in parked]

    def read(self, entry: SignEntry) -> bytes:
        """Give the whole content of a claimed message.

        Raises:
            Unavailable: Redis is away.
        """
        return read_content(self._runner, entry)

    def record(self, signed: Iterable[Signed]) -> list[bool]:
        """Keep signatures, queue the messages at their destinations and wake the relay role.

        Returns:
            For each message whether it was recorded; False when its lease is lost.

        Raises:
            Unavailable: Redis is away; the leases end and another worker signs again.
        """
        return [result == 1 for result in self._runner.run([self._signed_call(one) for one in signed])]

    def put_back(self, queue_id: QueueId, delay_s: float, reason: str) -> None:
        """Let a message wait that cannot be signed now."""
        names = keys.Fields("")
        fields = (names.owner, names.claims, names.newest)
        arguments = (queue_id, self._token, int(delay_s * 1000), reason, *fields)
        self._runner.run([Call(SCRIPTS["put_back"], (keys.message(queue_id), keys.SIGN), arguments)])

    def park(self, queue_id: QueueId, reason: str) -> None:
        """Park a message that must never be signed."""
        names = (keys.message(queue_id), keys.SIGN, keys.PARKED, keys.EVENTS)
        arguments = (queue_id, self._token, reason, keys.MAX_EVENTS, "", "", "recipient.parked")
        self._runner.run([Call(SCRIPTS["park_unsigned"], names, arguments)])

    def _signed_call(self, signed: Signed) -> Call:
        pairs = [
            part
            for destination, recipients in signed.recipients.items()
            for part in (destination, format_recipients(recipients))
        ]
        return Call(
            SCRIPTS["signed"],
            (keys.message(signed.queue_id), keys.delivery(signed.queue_id), keys.SIGN, keys.DESTINATIONS),
            (
                signed.queue_id,
                self._token,
                signed.signature,
                self._broker_db,
                keys.WAKE_TTL_MS,
                RELAY_WAKEUP,
                keys.lead_ms(signed.priority),
                *pairs,
            ),
        )


def read_content(runner: Runner, entry: SignEntry) -> bytes:
    """Give the whole content of a message.

    Raises:
        Unavailable: Redis is away.
    """
    if not entry.chunks:
        return entry.content
    try:
        chunks = cast("list[bytes]", runner.client.lrange(keys.content(entry.queue_id), 0, -1))
    except (RedisError, OSError) as error:
        raise translate(error) from error
    return b"".join(chunks)
