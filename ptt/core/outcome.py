"""What became of one attempt at one recipient: Delivered, Deferred or Failed. RFC 5321 section 4.2.1."""

from dataclasses import dataclass
from enum import StrEnum

from ptt.core.reply import Reply


class Scope(StrEnum):
    """How far a failure reaches: what else there is no point in trying now."""

    ATTEMPT = "attempt"
    """It says nothing of any host: none was asked for mail, or the fault is our own."""
    RECIPIENT = "recipient"
    MESSAGE = "message"
    HOST = "host"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom the attempt spoke to, as far as it got."""

    mx_host: str = ""
    address: str = ""
    tls: str = ""
    """TLS version and cipher, empty in clear."""
    takes_requests: bool = False
    """Whether it offers DSN, and so reports success itself where that was asked for (RFC 3461 section 5.2.1)."""
    takes_deadlines: bool = False
    """Whether it offers DELIVERBY, and so keeps to the deadline itself (RFC 2852)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The remote server took responsibility (RFC 5321 section 6.1)."""

    reply: Reply
    peer: Peer = Peer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """To be tried again; ``uncertain`` when the final dot was sent and no reply came back."""

    reason: str
    scope: Scope
    reply: Reply | None = None
    peer: Peer = Peer()
    uncertain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Final: not to be tried again."""

    reason: str
    scope: Scope
    reply: Reply
    peer: Peer = Peer()
    is_remote: bool = True
    """Whether a server said ``reply``; else it is our own."""
    last_reply: Reply | None = None
    """What a server said last before we gave up, if ``reply`` is our own."""


Outcome = Delivered | Deferred | Failed
