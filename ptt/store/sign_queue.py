"""The sign role's view of the spool: claim, read, record. Synchronous, for a prefork process."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ptt.core.address import Address, Domain
from ptt.core.envelope import QueueId
from ptt.core.wakeup import RELAY_WAKEUP
from ptt.store import keys
from ptt.store.entries import SignEntry, format_recipients, parse_sign_claim
from ptt.store.scripts import SCRIPTS, Call
from ptt.store.stage_queue import StageQueue


@dataclass(frozen=True, slots=True)
class Signed:
    """A message with its signature fields, split by destination."""

    queue_id: QueueId
    signature: bytes
    recipients: Mapping[Domain, Sequence[Address]]
    priority: int = 0


class SignQueue(StageQueue):
    """Messages that wait to be signed."""

    stage: ClassVar[keys.Stage] = ""
    field_prefix = ""
    parked_event = "recipient.parked"

    def begin(self) -> None:
        """Take note that this wake-up is being served."""
        self._run(Call(SCRIPTS["begin"], (), (self._broker_db, "sign")))

    def claim(self) -> tuple[list[SignEntry], list[QueueId]]:
        """Lease up to 50 messages that are due.

        Returns:
            The messages, and the queue-ids of those that were parked because three workers died on them.

        Raises:
            Unavailable: Redis is away.
        """
        claimed, parked = self._claim("claim_sign")
        return [parse_sign_claim(row) for row in claimed], parked

    def read(self, entry: SignEntry) -> bytes:
        """Give the whole content of a claimed message.

        Raises:
            Unavailable: Redis is away.
        """
        return self._read_content(entry)

    def record(self, signed: Iterable[Signed]) -> list[bool]:
        """Keep signatures, queue the messages at their destinations and wake the relay role.

        Returns:
            For each message whether it was recorded; False when its lease is lost.

        Raises:
            Unavailable: Redis is away; the leases end and another worker signs again.
        """
        return [result == 1 for result in self._run(*map(self._signed_call, signed))]

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
