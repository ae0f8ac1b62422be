"""What the shells ask of each other, so that none has to know the other's library."""

from collections.abc import Collection, Sequence
from typing import Protocol

from ptt.core.address import Address, Domain
from ptt.core.envelope import QueueId, Submission
from ptt.core.guessing import Permit, Trust
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Outcome
from ptt.core.rates import Quota
from ptt.core.reply import Reply
from ptt.core.routing import IPAddress, Mx
from ptt.core.scram import ScramVerifier
from ptt.core.user import User


class Spool(Protocol):
    """Where ingress leaves what it accepted."""

    @property
    def has_room(self) -> bool:
        """Tell whether new mail is welcome: what lies here already must keep the room that its delivery needs."""

    def foresee_refusal(self, quota: Quota) -> Reply | None:
        """Give the reply that a message of this user would meet, if the user is known to be over a limit."""

    async def submit(self, submission: Submission) -> QueueId:
        """Make the message durable and wake the sign role; it may be answered with 250 once this returns.

        Returns:
            The queue-id under which it lies: of the first one, if it was submitted before (`Submission.fingerprint`).

        Raises:
            Unavailable: it is not known to be durable within the deadline; the client must hear 451.
            Refused: the spool takes nothing now (452), or nothing more of this user (451, 452).
        """


class Guesses(Protocol):
    """The count of wrong guesses at passwords, shared by all ingress processes; names are keyed hashes."""

    async def ask(self, login: bytes, network: bytes) -> Permit | None:
        """Count a guess, and give leave to check it; None if there were too many.

        Raises:
            Unavailable: the count cannot be asked.
        """

    async def settle(self, login: bytes, network: bytes, stamp: str, *, is_good: bool) -> None:
        """Take a guess out of the count: it was right, or nobody has checked it.

        Raises:
            Unavailable: the count cannot be asked.
        """


class Attempt(Protocol):
    """One attempt to log in, as those see it who check it."""

    @property
    def seed(self) -> bytes:
        """32 octets, always the same for a login and known to nobody outside: what decoys are made from."""

    async def ask(self) -> Trust:
        """Ask for leave to check a guess that is not known to be right; it counts as wrong from now on.

        Raises:
            Refused: there were too many.
        """

    def settle(self, *, is_good: bool) -> None:
        """Say that the guess was right, or that nobody has checked it after all."""


class Tokens(Protocol):
    """Access tokens of an OAuth server."""

    @property
    def scope(self) -> str:
        """Give the scope that a token needs, or nothing."""

    def check(self, token: str) -> str:
        """Give the login that a good token is for.

        Raises:
            MalformedInput: the token is no good; the text is for the log.
        """


class Users(Protocol):
    """Who may log in."""

    async def authenticate(self, login: str, password: bytes, attempt: Attempt) -> User | None:
        """Give the user if login and password are right and the user is enabled, else None, in the same time.

        Raises:
            Unavailable: no snapshot of the users repository has ever been read (454 4.7.0).
            Refused: the attempt may not be checked.
        """

    def get_scram(self, login: str, seed: bytes) -> ScramVerifier:
        """Give what SCRAM needs of the user's password, or something like it that no password fits.

        Raises:
            Unavailable: no snapshot of the users repository has ever been read (454 4.7.0).
        """

    def find_certified(self, names: Collection[str]) -> User | None:
        """Give the enabled user whom one of these names of a client certificate belongs to, if it is one alone."""

    def get_user(self, login: str) -> User | None:
        """Give the user as of the newest snapshot, or None if gone or disabled."""


class Resolver(Protocol):
    """The DNS as the relay needs it."""

    async def resolve_mx(self, domain: Domain) -> Sequence[Mx]:
        """Give all MX records, maybe none.

        Raises:
            NoSuchDomain: NXDOMAIN.
            Unavailable: SERVFAIL, timeout or nonsense: try later.
        """

    async def resolve_addresses(self, name: str) -> Sequence[IPAddress]:
        """Give the AAAA and A records of a host, maybe none.

        Raises:
            NoSuchDomain: NXDOMAIN.
            Unavailable: SERVFAIL, timeout or nonsense: try later.
        """


class Courier(Protocol):
    """Delivers one message to one destination."""

    async def deliver(self, destination: Domain, message: OutboundMessage) -> Sequence[tuple[Address, Outcome]]:
        """Make one attempt and give one outcome for each recipient of the message, in their order.

        Raises:
            LeaseLost: the message's commit said so; nothing was sent, nothing may be recorded.
        """

    async def close(self) -> None:
        """Close all connections; no delivery is under way."""
