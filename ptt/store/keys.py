"""Every name of a Redis key, hash field and stream, with what lives under it and how long.

A name holds the data version, so that two versions of ptt never misread each other's entries. Two databases of one
server: the spool (1) is the truth, the broker (0) holds wake-ups only and may be flushed at any time.

Spool database:
    ptt1:m:<queue-id>      hash: envelope, seal, content, rest or number of chunks, state before signing, signature;
                           until the last recipient has a final state; a withdrawn one leaves its name, which expires
    ptt1:d:<queue-id>      hash: state per destination once it is signed, and what is to be reported; goes with the
                           message; apart from it, so that the relay role can write here and not there
    ptt1:c:<queue-id>      list: content in chunks when it is large; an upload that was never spooled expires
    ptt1:sign              sorted set: queue-id -> when to look (ms): waiting for the sign role, or leased until then
    ptt1:q:<destination>   sorted set: queue-id -> when to look (ms): waiting for the relay role, or leased until then
    ptt1:destinations      sorted set: destination -> when the sweep looks at it (ms)
    ptt1:backoff:<destination>   hash, while none of its hosts can be reached: until (ms), failures in a row,
                           since (ms), reason; expires a day after it was to be tried again
    ptt1:reports           sorted set: queue-id -> when to look (ms): has outcomes to report, or is leased until then
    ptt1:parked            sorted set: "<queue-id> <destination>" -> since (ms): given up until a person decides;
                           without destination when it was not signed, "!report" when no report could be made
    ptt1:done:<queue-id>   the message is done and its name stays taken; expires
    ptt1:rate:<login>      hash: what a user has sent in the hour and the day that run; expires with them
    ptt1:same:<digest>     queue-id of the first of equal submissions; expires
    ptt1:events            stream, capped: attempts with their outcomes, and what people did, for tracing
Broker database:
    sign, relay            lists of wake-ups, as kombu reads them
    ptt1:wake:sign, ptt1:wake:relay:<destination>    a wake-up is pending; expires

Fields beside those that ingress writes once: `Fields` names those that change. What is to be reported: d:<number> are
records, of which "recorded" were written and "reported" are done with; n:<destination> says that the sender was told of
the delay; report_owner, _claims, _newest and _parked are what `Fields` names for the rest. "open" counts the
destinations that are left, and one more while something is to be reported.

When to look is a whole number, but for a lease that was left to its owner after a restart of Redis: a quarter more for
each time.
"""

from dataclasses import dataclass
from typing import Final, Literal

from ptt.core.address import Domain
from ptt.core.envelope import QueueId
from ptt.core.options import MAX_PRIORITY

REPORT: Final = "!report"
"""The stage of what is to be reported of a message; no domain has such a name."""
Stage = Domain | Literal["", "!report"]
"""Where a message is: at a destination; before it is signed and split by destination; or its report."""

DATA_VERSION = 1
PREFIX = f"ptt{DATA_VERSION}:"

SIGN = f"{PREFIX}sign"
DESTINATIONS = f"{PREFIX}destinations"
REPORTS = f"{PREFIX}reports"
PARKED = f"{PREFIX}parked"
EVENTS = f"{PREFIX}events"
WAKE = f"{PREFIX}wake:"
GUESSES = f"{PREFIX}guess:"
KNOWN = f"{PREFIX}known:"
DONE = f"{PREFIX}done:"

MESSAGE = f"{PREFIX}m:"
DELIVERY = f"{PREFIX}d:"
CONTENT = f"{PREFIX}c:"
QUEUE = f"{PREFIX}q:"
RATE = f"{PREFIX}rate:"
BACKOFF = f"{PREFIX}backoff:"
SAME = f"{PREFIX}same:"

PERMANENT = (SIGN, DESTINATIONS, REPORTS, PARKED, EVENTS)
"""Keys that may stay without a TTL in an empty spool; all others go with their message."""

WAKE_TTL_MS = 10_000
"""A wake-up that was popped by a worker that then died hides later ones for this long at most."""
UPLOAD_TTL_S = 3600
"""Chunks of a message that was never spooled are dropped after this."""
REPORT_WAIT_MS = 2_000
"""How long outcomes are collected before they are reported: a message to a hundred dead domains makes one report."""
WITHDRAWN_TTL_MS = 1_000_000
"""How long a withdrawn name stays taken: longer than TCP tries to deliver what a broken connection had on its way
(924 s with Linux's 15 retransmissions, tcp(7))."""
DONE_TTL_MS = 60_000
"""How long the name of a message that is done stays taken: far longer than ingress repeats a command."""
RESTART_GRACE_MS = 30_000
"""How long after a start of Redis a lease from before is not taken over: longer than the slowest renewal or repeated
record takes to arrive."""
MAX_GRACES = 2
"""How often in a row a lease that nobody renews is left to its owner: a Redis that restarts every few seconds must not
keep a message for a dead worker for ever. Three at most: each is a quarter in the score."""
WITHDRAWAL_MS = 3_000
"""How long after a start of Redis mail from before is not signed: ingress comes back within a second, and takes back
what it answered with 451. What is accepted meanwhile is signed at once, and what is held keeps its place."""
LOST_CLAIM_MS = 60_000
"""How long ago the lease of a claim whose answer was lost may have ended, for it to be taken back: longer than Redis is
usually away. A longer outage leaves it to the sweep, as that of a dead worker."""
MAX_LOST_LOOKS = 20_000
"""Messages that are looked at to find lost claims: far more than all workers may own of one queue, and few enough not
to hold up Redis."""
MAX_LOOKS = 10
"""How often a claim looks again when all that it looked at is left to its owners: it must not hold up Redis."""
BACKOFF_TTL_MS = 86_400_000
"""How long after its time a back-off is forgotten that nobody asked about: its queue is empty."""
PRIORITY_STEP_MS = 60_000
"""What a step of priority is worth: mail goes ahead of what is one step less urgent and came a minute before it. So the
urgent is first, and the least urgent waits at most 18 minutes longer for its turn than it would."""
RETURNED_SHARE = 0.2
"""The share of each claim for what comes due at its own time: a retry, a lease that ended, what was given back. Its
place is behind the plain mail of the next nine minutes, and a queue that is never empty would not let it go before."""
MAX_EVENTS = 50_000
"""Events kept in the stream: a queue of failures must not fill the memory with their history."""


def lead_ms(priority: int) -> int:
    """Give by how much a place in a queue lies before the present: nothing for the least urgent (RFC 6710)."""
    return (priority + MAX_PRIORITY) * PRIORITY_STEP_MS


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of the fields that tell of one stage, in the hash that `state` names."""

    stage: Stage

    @property
    def owner(self) -> str:
        """The token of the worker that owns it now."""
        return self._name("o", "owner")

    @property
    def claims(self) -> str:
        """How often it was claimed without an outcome."""
        return self._name("k", "claims")

    @property
    def reason(self) -> str:
        """Why it is held or parked."""
        return self._name("p", "parked")

    @property
    def recipients(self) -> str:
        """Who is left; only at a destination, else the envelope tells."""
        return f"r:{self.stage}"

    @property
    def attempts(self) -> str:
        """How many attempts counted."""
        return f"a:{self.stage}"

    @property
    def in_doubt(self) -> str:
        """For whom a final dot may have been sent."""
        return f"x:{self.stage}"

    @property
    def held(self) -> str:
        """That it is held, not parked."""
        return f"h:{self.stage}"

    @property
    def wanted(self) -> str:
        """Why it is to be held when its worker gives it back."""
        return f"w:{self.stage}"

    @property
    def newest(self) -> str:
        """The newest reason why it waits."""
        return "report_newest" if self.stage == REPORT else f"l:{self.stage}"

    def _name(self, letter: str, word: str) -> str:
        if self.stage == REPORT:
            return f"report_{word}"
        return f"{letter}:{self.stage}" if self.stage else word


def message(queue_id: QueueId) -> str:
    """Name the hash of a message."""
    return MESSAGE + queue_id


def delivery(queue_id: QueueId) -> str:
    """Name the hash of a message's delivery."""
    return DELIVERY + queue_id


def state(queue_id: QueueId, stage: Stage) -> str:
    """Name the hash with the fields of one stage."""
    return delivery(queue_id) if stage else message(queue_id)


def rate(login: str) -> str:
    """Name the counts of a user."""
    return RATE + login


def content(queue_id: QueueId) -> str:
    """Name the chunk list of a message."""
    return CONTENT + queue_id


def backoff(destination: Domain) -> str:
    """Name the back-off of a destination."""
    return BACKOFF + destination


def queue(stage: Stage) -> str:
    """Name the queue of a stage."""
    if stage == REPORT:
        return REPORTS
    return QUEUE + stage if stage else SIGN
