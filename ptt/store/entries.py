"""What a claim hands out: one message for the sign role, or one message of one destination for the relay role."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from ptt.core.address import Address, Domain
from ptt.core.envelope import QueueId
from ptt.core.errors import MalformedInput
from ptt.store.keys import DATA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class SignEntry:
    """A message to sign; ``content`` is empty when it lies in ``chunks`` pieces."""

    queue_id: QueueId
    version: int
    envelope_json: bytes
    content_sha256: bytes
    seal: bytes
    chunks: int
    content: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEntry:
    """A message with outcomes to report."""

    message: SignEntry
    accepted_at_ms: int
    first: int
    """Number of the first record, from 1."""
    first_at_ms: int
    """When that was recorded, milliseconds since 1970."""
    records: tuple[bytes, ...]
    """What the relay wrote down, in its order."""

    @property
    def last(self) -> int:
        """Give the number of the last record."""
        return self.first + len(self.records) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayEntry:
    """A message to deliver to the recipients of one destination that are left."""

    queue_id: QueueId
    destination: Domain
    version: int
    envelope_json: bytes
    signature: bytes
    chunks: int
    content: bytes
    size_bytes: int
    recipients: tuple[Address, ...]
    age_s: float
    attempts: int
    token: str
    """What marks this claim as the owner: one of its own, so that no earlier claim of the same worker passes for it."""
    in_doubt: tuple[Address, ...]
    """For whom an earlier worker may have sent the final dot before it died: some may have the message already."""
    claims: int = 0
    """How many workers died on it before: it is under suspicion of having killed them."""
    due_in_s: float = 0
    """How long until it would have been due; negative if it is so since then."""
    failures: int = 0
    """How often in a row no host of the destination could be reached: if any, this message is the probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a worker can take besides messages of good repute."""

    suspects: int = 10
    """Messages whose worker died once."""
    last_tries: int = 1
    """Messages that are parked if their worker dies once more."""
    may_probe: bool = True
    """Whether it may find out if a destination that backs off can be reached again."""


ANY = Room()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a relay worker was given."""

    entries: Sequence[RelayEntry] = ()
    parked: Sequence[QueueId] = ()
    """Set aside because three workers died on them."""
    left: int = 0
    """How many are due and there was no `Room` for."""


def format_recipients(recipients: Sequence[Address]) -> bytes:
    """Write the local parts of recipients of one destination."""
    return json.dumps([recipient.local for recipient in recipients], separators=(",", ":"), ensure_ascii=False).encode()


def parse_recipients(data: bytes, destination: Domain) -> tuple[Address, ...]:
    """Read what `format_recipients` wrote.

    Raises:
        MalformedInput: if it is no such list.
    """
    try:
        return tuple(Address(str(local), destination) for local in json.loads(data))
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedInput(f"not a list of recipients: {error}") from error


def check_version(version: int) -> None:
    """Check that an entry has the data version that this program knows.

    Raises:
        MalformedInput: it has not.
    """
    if version != DATA_VERSION:
        raise MalformedInput(f"data version {version} is unknown")


def parse_claim(result: object) -> tuple[Sequence[Sequence[bytes]], Sequence[bytes]]:
    """Split the answer of a claim script into rows and the queue-ids of parked messages."""
    claimed, parked = cast("tuple[Sequence[Sequence[bytes]], Sequence[bytes]]", result)
    return claimed, parked


def parse_sign_claim(row: Sequence[bytes]) -> SignEntry:
    """Read one row of claim_sign.lua."""
    queue_id, version, envelope_json, sha256, seal, chunks, content, size = row
    return SignEntry(
        queue_id=QueueId(queue_id.decode()),
        version=int(version),
        envelope_json=envelope_json,
        content_sha256=sha256,
        seal=seal,
        chunks=int(chunks),
        content=content,
        size_bytes=int(size),
    )


def parse_report_claim(row: Sequence[bytes]) -> ReportEntry:
    """Read one row of claim_report.lua."""
    accepted_ms, first = int(row[8]), int(row[9])
    records = [record.partition(b" ") for record in cast("Sequence[bytes]", row[10])]
    return ReportEntry(
        message=parse_sign_claim(row[:8]),
        accepted_at_ms=accepted_ms,
        first=first,
        first_at_ms=int(records[0][0]),
        records=tuple(record for _, _, record in records),
    )


def parse_relay_claim(row: Sequence[bytes], destination: Domain, token: str) -> RelayEntry:
    """Read one row of claim_relay.lua."""
    (queue_id, version, envelope_json, signature, chunks, content, size, recipients, age_ms, attempts, *rest) = row
    in_doubt, claims, failures, due_ms = rest
    # Nobody can tell what another version wrote there: `check_version` refuses it, alone and not with its whole batch.
    is_known = int(version) == DATA_VERSION
    return RelayEntry(
        queue_id=QueueId(queue_id.decode()),
        destination=destination,
        version=int(version),
        envelope_json=envelope_json,
        signature=signature,
        chunks=int(chunks),
        content=content,
        size_bytes=int(size) + len(signature),
        recipients=parse_recipients(recipients, destination) if is_known else (),
        age_s=int(age_ms) / 1000,
        attempts=int(attempts),
        token=token,
        in_doubt=parse_recipients(in_doubt, destination) if in_doubt and is_known else (),
        claims=int(claims),
        failures=int(failures),
        due_in_s=int(due_ms) / 1000,
    )
