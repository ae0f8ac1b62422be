"""One message on its way to one destination, as the relay hands it to the SMTP client."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ptt.core.address import Address, ReversePath
from ptt.core.envelope import QueueId
from ptt.core.notify import RecipientRequest
from ptt.core.options import NO_OPTIONS, Options


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundMessage:
    """What one SMTP transaction sends: an envelope for one destination and the way to the content."""

    queue_id: QueueId
    reverse_path: ReversePath
    recipients: tuple[Address, ...]
    size_bytes: int
    """Octets of the whole message, signature fields included, before dot-stuffing (RFC 1870)."""
    body: str
    smtputf8: bool
    read: Callable[[], AsyncIterator[bytes]]
    """Starts reading the message from its first octet: RFC 5322 with CRLF, in parts of any size, not dot-stuffed.

    Raises Unavailable from the iterator when the spool is away: the connection must then be cut before the dot.
    """
    commit: Callable[[Sequence[Address], Sequence[Address]], Awaitable[None]]
    """Awaited right before each final dot: the last moment at which the attempt can be given up without a double.

    Called with whom the dot is for, and with whom an earlier transaction of this attempt has delivered to: so a crash
    leaves exactly the first in doubt and repeats none of the second.
    Raises LeaseLost or Unavailable: the final dot must then not be sent, and the connection must be cut.
    """
    ret: str = ""
    """RET as in `ptt.core.envelope.Envelope`."""
    envid: str = ""
    """ENVID likewise."""
    requests: Mapping[Address, RecipientRequest] = field(default_factory=dict)
    """NOTIFY and ORCPT likewise."""
    options: Options = NO_OPTIONS
    """What was asked of the way."""
