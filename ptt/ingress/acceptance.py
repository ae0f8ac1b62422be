"""From content and envelope to a sealed submission in the spool, and the reply that takes responsibility for it.

RFC 5321 section 4.2.5: after the 250 the message is ours; so it is said only when the spool has it on disk.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ptt import maillog
from ptt.core.address import Domain
from ptt.core.envelope import Envelope, QueueId, Submission, format_envelope, format_queue_id
from ptt.core.errors import Refused, Unavailable
from ptt.core.headers import Author, Stamp, asks_no_tls, prepare_content
from ptt.core.notify import NO_REQUEST
from ptt.core.ports import Spool
from ptt.core.rates import UNLIMITED, Quota, Rates, choose_rates, refuse_for_ever
from ptt.core.reply import Reply
from ptt.core.seal import compute_seal
from ptt.core.seven_bit import make_seven_bit
from ptt.core.user import User
from ptt.core.wishes import decide_options
from ptt.domain_names import to_a_labels
from ptt.ingress import replies
from ptt.ingress.fingerprint import compute_fingerprint
from ptt.ingress.steps import Transaction

THREAD_BYTES = 1_048_576
"""Larger content is checked and hashed in a thread: 25 MB would stop all other sessions for a tenth of a second."""
_RANDOM_BITS = 55


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who submits."""

    name: str
    """What it said in EHLO."""
    address: str
    tls: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptor:
    """Takes responsibility for messages."""

    hostname: Domain
    seal_key: bytes
    spool: Spool
    rates: Rates = UNLIMITED
    """What a user may send whose file says nothing."""
    knows_repeats: bool = False
    """Whether the spool knows a submission that is made again."""
    makes_seven_bit: bool = False
    """Whether 8-bit parts are re-encoded."""

    def foresee_refusal(self, user: User) -> Reply | None:
        """Give what a message of this user would be refused with, as far as that is known without asking anybody."""
        if not self.spool.has_room:
            return replies.NO_STORAGE
        return self.spool.foresee_refusal(self._make_quota(user, 1))

    async def accept(self, content: bytes, transaction: Transaction, client: Client) -> Reply:
        """Check, complete, seal and spool one message.

        Args:
            content: as `ptt.core.headers.prepare_content` wants it.
            transaction: envelope and user.
            client: for Received and the log.

        Returns:
            250, or 451 when the spool is away.

        Raises:
            Refused: by a rule for messages, or by the spool.
        """
        quota = self._make_quota(transaction.user, len(transaction.recipients))
        if refusal := refuse_for_ever(quota):
            raise Refused(refusal)
        now = time.time()
        queue_id = format_queue_id(int(now * 1000), secrets.randbits(_RANDOM_BITS))
        maillog.queue_id_var.set(queue_id)
        stamp = Stamp(
            hostname=self.hostname,
            queue_id=queue_id,
            client_name=client.name,
            client_address=client.address,
            tls=client.tls,
            received_at=datetime.fromtimestamp(int(now), UTC),
            priority=transaction.mail.wishes.priority,
        )
        if len(content) > THREAD_BYTES:
            submission = await asyncio.to_thread(self._prepare, content, transaction, stamp)
        else:
            submission = self._prepare(content, transaction, stamp)
        try:
            kept_as = await self.spool.submit(replace(submission, quota=quota))
        except Unavailable as error:
            maillog.emit("spool.unavailable", logging.ERROR, reason=str(error))
            return replies.UNAVAILABLE
        if kept_as == queue_id:
            _emit_accepted(submission, transaction, client)
        else:
            # The client never saw the first answer, or asks twice to be sure: it hears the same again.
            maillog.emit("message.repeated", user=transaction.user.login, original=kept_as)
        return Reply(250, "2.0.0", f"queued as {kept_as}")

    def _make_quota(self, user: User, recipients: int) -> Quota:
        return Quota(login=user.login, recipients=recipients, rates=choose_rates(user, self.rates))

    def _prepare(self, content: bytes, transaction: Transaction, stamp: Stamp) -> Submission:
        mail, user = transaction.mail, transaction.user
        fingerprint = compute_fingerprint(content, transaction) if self.knows_repeats else b""
        author = Author(may_send_as=user.may_send_as, smtputf8=mail.smtputf8, to_ascii=to_a_labels)
        content, set_aside = prepare_content(content, author, stamp)
        if set_aside:
            maillog.emit("header.corrected", user=user.login, set_aside=set_aside)
        if self.makes_seven_bit and not content.isascii():
            content = make_seven_bit(content)
        now_s = stamp.received_at.timestamp()
        options = decide_options(mail.wishes, now_s, asks_no_tls=asks_no_tls(content))
        envelope = Envelope(
            user=user.login,
            reverse_path=mail.reverse_path,
            recipients=tuple(transaction.recipients),
            # RFC 6152 section 2: what counts is what the message is, whatever the client called it.
            body="7BIT" if content.isascii() else "8BITMIME",
            smtputf8=mail.smtputf8,
            ret=mail.ret,
            envid=mail.envid,
            requests={one: asked for one, asked in transaction.recipients.items() if asked != NO_REQUEST},
            options=options,
        )
        return self._seal(stamp.queue_id, envelope, content, fingerprint)

    def _seal(self, queue_id: QueueId, envelope: Envelope, content: bytes, fingerprint: bytes) -> Submission:
        envelope_json, digest = format_envelope(envelope), hashlib.sha256(content).digest()
        return Submission(
            queue_id=queue_id,
            envelope_json=envelope_json,
            content=content,
            content_sha256=digest,
            seal=compute_seal(self.seal_key, queue_id, envelope_json, digest),
            release_at=envelope.options.release_at,
            priority=envelope.options.priority,
            fingerprint=fingerprint,
        )


def _emit_accepted(submission: Submission, transaction: Transaction, client: Client) -> None:
    maillog.emit(
        "message.accepted",
        user=transaction.user.login,
        reverse_path=str(transaction.mail.reverse_path or "<>"),
        recipients=len(transaction.recipients),
        size_bytes=len(submission.content),
        client_address=client.address,
        tls=client.tls,
    )
