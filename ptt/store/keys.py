"""Every name of a Redis key, hash field and stream, with what lives under it and how long.

A name holds the data version, so that two versions of ptt never misread each other's entries. Two databases of one
server: the spool (1) is the truth, the broker (0) holds wake-ups only and may be flushed at any time.

Spool database:
    ptt1:m:<queue-id>      hash: envelope, seal, content or number of chunks, signature fields, state per destination;
                           until the last recipient has a final state; a withdrawn one leaves its name, which expires
    ptt1:c:<queue-id>      list: content in chunks when it is large; an upload that was never spooled expires
    ptt1:sign              sorted set: queue-id -> when to look (ms): waiting for the sign role, or leased until then
    ptt1:q:<destination>   sorted set: queue-id -> when to look (ms): waiting for the relay role, or leased until then
    ptt1:destinations      sorted set: destination -> when the sweep looks at it (ms)
    ptt1:parked            sorted set: "<queue-id> <destination>" -> since (ms): given up until a person decides
    ptt1:events            stream, capped: outcomes, for tracing
Broker database:
    sign, relay            lists of wake-ups, as kombu reads them
    ptt1:wake:sign, ptt1:wake:relay:<destination>    a wake-up is pending; expires
"""

from ptt.core.address import Domain
from ptt.core.envelope import QueueId

DATA_VERSION = 1
PREFIX = f"ptt{DATA_VERSION}:"

SIGN = f"{PREFIX}sign"
DESTINATIONS = f"{PREFIX}destinations"
PARKED = f"{PREFIX}parked"
EVENTS = f"{PREFIX}events"
WAKE = f"{PREFIX}wake:"

MESSAGE = f"{PREFIX}m:"
CONTENT = f"{PREFIX}c:"
QUEUE = f"{PREFIX}q:"

PERMANENT = (SIGN, DESTINATIONS, PARKED, EVENTS)
"""Keys that may stay without a TTL in an empty spool; all others go with their message."""

WAKE_TTL_MS = 10_000
"""A wake-up that was popped by a worker that then died hides later ones for this long at most."""
UPLOAD_TTL_S = 3600
"""Chunks of a message that was never spooled are dropped after this."""
WITHDRAWN_TTL_MS = 1_000_000
"""How long a withdrawn name stays taken: longer than TCP tries to deliver what a broken connection had on its way
(924 s with Linux's 15 retransmissions, tcp(7))."""
MAX_EVENTS = 50_000
"""Events kept in the stream: a queue of failures must not fill the memory with their history."""


def message(queue_id: QueueId) -> str:
    """Name the hash of a message."""
    return MESSAGE + queue_id


def content(queue_id: QueueId) -> str:
    """Name the chunk list of a message."""
    return CONTENT + queue_id


def queue(destination: Domain) -> str:
    """Name the queue of a destination."""
    return QUEUE + destination
