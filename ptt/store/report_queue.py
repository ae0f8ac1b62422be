"""The sign role's view of what is to be reported: claim, read, record. Synchronous, for a prefork process."""

from dataclasses import dataclass
from typing import ClassVar

from ptt.core.address import Address
from ptt.core.envelope import QueueId, Submission
from ptt.core.wakeup import RELAY_WAKEUP
from ptt.store import keys
from ptt.store.entries import ReportEntry, format_recipients, parse_report_claim
from ptt.store.scripts import SCRIPTS, Call
from ptt.store.stage_queue import StageQueue

REPORT_BYTES = 131_072
"""Most octets of recorded outcomes in one report; what is over comes in the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReport:
    """A report that is ready to be sent."""

    submission: Submission
    signature: bytes
    recipient: Address


class ReportQueue(StageQueue):
    """Messages whose senders are to be told something."""

    stage: ClassVar[keys.Stage] = keys.REPORT
    field_prefix = "report_"
    parked_event = "dsn.parked"

    def claim(self) -> tuple[list[ReportEntry], list[QueueId]]:
        """Lease messages whose report is due.

        Returns:
            The messages, and the queue-ids of those that were parked because three workers died on them.

        Raises:
            Unavailable: Redis is away.
        """
        claimed, parked = self._claim("claim_report", REPORT_BYTES)
        return list(map(parse_report_claim, claimed)), parked

    def read(self, entry: ReportEntry) -> bytes:
        """Give the whole content of a claimed message.

        Raises:
            Unavailable: Redis is away.
        """
        return self._read_content(entry.message)

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
        (result,) = self._run(Call(SCRIPTS["report"], names, arguments))
        return result in (1, 2)
