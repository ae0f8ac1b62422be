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
class SkipContent:
    """Say the reply and throw away so many octets."""

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


Answer = Reply | Greet | StartTls | Authenticate | ReceiveContent | SkipContent | Close
