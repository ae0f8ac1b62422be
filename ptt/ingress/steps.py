"""What a dialogue answers to a command: a reply, or a step that only the connection can take."""

from dataclasses import dataclass, field

from ptt.core.address import Address
from ptt.core.notify import RecipientRequest
from ptt.core.path import MailCommand
from ptt.core.reply import Reply
from ptt.core.user import User


@dataclass(slots=True)
class Transaction:
    """A mail transaction: the user as of MAIL, what MAIL said, and each recipient once with what was asked for it."""

    user: User
    mail: MailCommand
    recipients: dict[Address, RecipientRequest] = field(default_factory=dict)
    is_chunked: bool = False
    """Whether BDAT has begun to bring the content."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """Start the TLS handshake."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Run a SASL exchange; ``initial`` is the initial response as it stands in the command, if any."""

    mechanism: str
    initial: str | None


@dataclass(frozen=True, slots=True)
class ReceiveContent:
    """Read the content of this transaction."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class ReceiveChunk:
    """Read so many octets of the content of this transaction; the message is complete with the last."""

    transaction: Transaction
    size_bytes: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class SkipChunk:
    """Throw away so many octets and say the reply."""

    reply: Reply
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Greet:
    """Say these lines, all with code 250."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Say the reply and close the connection."""

    reply: Reply


Answer = Reply | Greet | StartTls | Authenticate | ReceiveContent | ReceiveChunk | SkipChunk | Close
