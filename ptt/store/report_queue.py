"""The sign role's view of what is to be reported: claim, read, record. Synchronous, for a prefork process."""

import secrets
from dataclasses import dataclass

from ptt.core.address import Address
from ptt.core.envelope import QueueId, Submission
from ptt.core.wakeup import RELAY_WAKEUP
from ptt.store import keys
from ptt.store.connection import RedisAddress, connect
from ptt.store.entries import ReportEntry, format_recipients, parse_claim, parse_report_claim
from ptt.store.restart import RestartGuard
from ptt.store.runner import Runner
from ptt.store.scripts import SCRIPTS, Call
from ptt.store.sign_queue import BATCH, BATCH_BYTES, MAX_CLAIMS, read_content

REPORT_BYTES = 131_072
"""Most octets of recorded outcomes in one report; what is over comes in the next."""
_FIELDS = "report_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReport:
    """A report that is ready to be sent."""

    submission: Submission
    signature: bytes
    recipient: Address


class ReportQueue:
    """Messages whose senders are to be told something."""

    def __init__(self, address: RedisAddress, lease_s: float) -> None:
        """Make a client; it connects when it is used."""
        self._runner = Runner(connect(address))
        self._broker_db = address.broker_db
        self._lease_ms = int(lease_s * 1000)
        self._guard = RestartGuard()
        self._token = secrets.token_hex(8)

    def claim(self) -> tuple[list[ReportEntry], list[QueueId]]:
        """Lease messages whose report is due.

        Returns:
            The messages, and the queue-ids of those that were parked because three workers died on them.

        Raises:
            Unavailable: Redis is away.
        """
        restarted_ms = self._guard.ask(self._runner.client)
        limits = (BATCH, BATCH_BYTES, self._lease_ms, restarted_ms, MAX_CLAIMS, keys.MAX_EVENTS, REPORT_BYTES)
        names = (keys.REPORTS, keys.PARKED, keys.EVENTS)
        (result,) = self._runner.run([Call(SCRIPTS["claim_report"], names, (self._token, *limits))])
        claimed, parked = parse_claim(result)
        return list(map(parse_report_claim, claimed)), [QueueId(name.decode()) for name in parked]

    def read(self, entry: ReportEntry) -> bytes:
        """Give the whole content of a claimed message.

        Raises:
            Unavailable: Redis is away.
        """
        return read_content(self._runner, entry.message)

    def record(self, entry: ReportEntry, report: SignedReport) -> bool:
        """Queue a report in the same step that forgets what it tells of.

        Returns:
            Whether it was recorded; False when the lease is lost, or it was recorded before.

        Raises:
            Unavailable: Redis is away; the lease ends and another worker makes the same report again.
        """
        queue_id, submission, destination = entry.message.queue_id, report.submission, report.recipient.domain
        names = (
            keys.delivery(queue_id),
            keys.REPORTS,
            keys.message(submission.queue_id),
            keys.delivery(submission.queue_id),
            keys.queue(destination),
            keys.DESTINATIONS,
        )
        arguments = (
            queue_id,
            self._token,
            entry.last,
            submission.queue_id,
            submission.envelope_json,
            submission.content_sha256,
            submission.seal,
            len(submission.content),
            submission.content,
            report.signature,
            destination,
            format_recipients([report.recipient]),
            self._broker_db,
            keys.WAKE_TTL_MS,
            RELAY_WAKEUP,
            keys.lead_ms(submission.priority),
        )
        (result,) = self._runner.run([Call(SCRIPTS["report"], names, arguments)])
        return result in (1, 2)

    def put_back(self, entry: ReportEntry, delay_s: float, reason: str) -> None:
        """Let a report wait that cannot be signed now."""
        queue_id = entry.message.queue_id
        fields = (f"{_FIELDS}owner", f"{_FIELDS}claims", f"{_FIELDS}newest")
        arguments = (queue_id, self._token, int(delay_s * 1000), reason, *fields)
        self._runner.run([Call(SCRIPTS["put_back"], (keys.delivery(queue_id), keys.REPORTS), arguments)])

    def park(self, entry: ReportEntry, reason: str) -> None:
        """Park a message that must never be reported on; its delivery goes on."""
        queue_id = entry.message.queue_id
        names = (keys.delivery(queue_id), keys.REPORTS, keys.PARKED, keys.EVENTS)
        arguments = (queue_id, self._token, reason, keys.MAX_EVENTS, _FIELDS, keys.REPORT, "dsn.parked")
        self._runner.run([Call(SCRIPTS["park_unsigned"], names, arguments)])
