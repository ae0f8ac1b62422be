"""What the sign role does about recorded outcomes: make the report, sign it, and queue it, once.

The relay hands over outcomes, never a report: its words are cleaned and capped, the message that is returned must carry
its seal, and the recipients must be those of the sealed envelope.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ptt import maillog
from ptt.core.dsn import ReportedOutcome, is_wanted, parse_reported
from ptt.core.dsn_message import Dsn, Original, Reporter, make_dsn
from ptt.core.envelope import Envelope, Submission, format_envelope, parse_envelope
from ptt.core.errors import MalformedInput, NoUsableKey, PttError
from ptt.core.notify import NO_REQUEST
from ptt.core.seal import compute_seal, derive_report_id
from ptt.store.entries import ReportEntry
from ptt.store.report_queue import ReportQueue, SignedReport
from ptt.tasks.sign import KEY_WAIT_S, MAX_ROUNDS, Signer, SignService, check_sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportService:
    """Makes the reports that are due; one in each process of the pool."""

    queue: ReportQueue
    signer: Signer
    seal_key: bytes
    hostname: str
    """Our name in reports; the domain of the author if it is empty."""
    now: Callable[[], datetime]

    def serve(self) -> None:
        """Make reports until none is due."""
        try:
            for _ in range(MAX_ROUNDS):
                entries, parked = self.queue.claim()
                for queue_id in parked:
                    maillog.emit("dsn.parked", maillog.ERROR, queue_id=queue_id, reason="its workers died")
                if not entries:
                    return
                for entry in entries:
                    self._try_report(entry)
        except PttError as error:
            # Redis is away: leases end by themselves, and a sweep wakes again.
            maillog.emit("redis.unavailable", maillog.WARNING, reason=str(error))

    def _try_report(self, entry: ReportEntry) -> None:
        token = maillog.queue_id_var.set(entry.message.queue_id)
        try:
            self._report(entry)
        except MalformedInput as error:
            self.queue.park(entry.message.queue_id, str(error))
            maillog.emit("dsn.parked", maillog.ERROR, reason=str(error))
        except NoUsableKey as error:
            self.queue.put_back(entry.message.queue_id, KEY_WAIT_S, str(error))
            maillog.emit("key.missing", maillog.ERROR, reason=str(error), delay_s=KEY_WAIT_S)
        except PttError:
            raise
        except Exception:  # noqa: BLE001 - one bad message must not stop the others; its claims are counted
            maillog.emit("dsn.failed", maillog.ERROR, exc_info=True)
        finally:
            maillog.queue_id_var.reset(token)

    def _report(self, entry: ReportEntry) -> None:
        content = self.queue.read(entry)
        check_sealed(entry.message, content, self.seal_key)
        envelope = parse_envelope(entry.message.envelope_json)
        outcomes = select_outcomes(entry.records, envelope)
        dsn = self._make(entry, envelope, content, outcomes)
        signature = self.signer.sign(dsn.content, signed_at=self.now())
        submission = self._seal(entry, dsn)
        report = SignedReport(submission=submission, signature=signature, recipient=dsn.envelope.recipients[0])
        if self.queue.record(entry, report):
            self._tell(entry, submission, outcomes)
        else:
            maillog.emit("lease.lost", maillog.WARNING, stage="report")

    def _make(self, entry: ReportEntry, envelope: Envelope, content: bytes, outcomes: Sequence[ReportedOutcome]) -> Dsn:
        domain = self.signer.find_domain(content)
        reporter = Reporter(
            queue_id=derive_report_id(self.seal_key, entry.message.queue_id, entry.first, entry.first_at_ms),
            hostname=self.hostname or domain,
            author_domain=domain,
            reported_at=self.now(),
        )
        original = Original(
            queue_id=entry.message.queue_id,
            envelope=envelope,
            content=content,
            accepted_at=datetime.fromtimestamp(entry.accepted_at_ms // 1000, UTC),
        )
        return make_dsn(original, outcomes, reporter)

    def _seal(self, entry: ReportEntry, dsn: Dsn) -> Submission:
        queue_id = derive_report_id(self.seal_key, entry.message.queue_id, entry.first, entry.first_at_ms)
        envelope_json, digest = format_envelope(dsn.envelope), hashlib.sha256(dsn.content).digest()
        return Submission(
            queue_id=queue_id,
            envelope_json=envelope_json,
            content=dsn.content,
            content_sha256=digest,
            seal=compute_seal(self.seal_key, queue_id, envelope_json, digest),
            priority=dsn.envelope.options.priority,
        )

    def _tell(self, entry: ReportEntry, submission: Submission, outcomes: Sequence[ReportedOutcome]) -> None:
        maillog.emit(
            "dsn.created",
            queue_id=submission.queue_id,
            original=entry.message.queue_id,
            recipients=len(outcomes),
            actions=",".join(sorted({outcome.action for outcome in outcomes})),
            size_bytes=len(submission.content),
        )


@dataclass(frozen=True, slots=True)
class SignRole:
    """Serves a wake-up of the sign role: mail first, then reports."""

    signing: SignService
    reports: ReportService

    def serve(self) -> None:
        """Serve one wake-up."""
        self.signing.serve()
        self.reports.serve()


def select_outcomes(records: Sequence[bytes], envelope: Envelope) -> Sequence[ReportedOutcome]:
    """Read what the relay recorded, as far as the sealed envelope bears it out.

    Raises:
        MalformedInput: a record is none, or nothing in them may be reported.
    """
    if envelope.reverse_path is None:
        raise MalformedInput("a report on a message with the null reverse-path")
    recipients = set(envelope.recipients)
    outcomes = [
        outcome
        for record in records
        for outcome in parse_reported(record)
        if outcome.recipient in recipients
        and is_wanted(outcome.action, envelope.requests.get(outcome.recipient, NO_REQUEST), envelope.options.deadline)
    ]
    if not outcomes:
        raise MalformedInput("nothing that may be reported was recorded")
    return outcomes
