"""Messages to deliver, and a DNS made of data to route them by."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from typing_extensions import override

from ptt.core.address import Address, Domain, ReversePath, parse_address
from ptt.core.envelope import QueueId
from ptt.core.errors import NoSuchDomain, PttError
from ptt.core.notify import RecipientRequest
from ptt.core.options import NO_OPTIONS, Options
from ptt.core.outbound import OutboundMessage
from ptt.core.outcome import Outcome
from ptt.core.ports import Resolver
from ptt.core.routing import IPAddress, Mx
from ptt.core.verdict import Phase
from ptt.smtp.courier import CourierOptions
from ptt.smtp.timeouts import make_timeouts

DESTINATION = Domain("example.test")
CONTENT = b"From: a@example.org\r\nTo: b@example.test\r\nSubject: hello\r\n\r\nHello\r\n.\r\n..two dots\r\nbye\r\n"
SENDER = parse_address("alice@example.org")


@dataclass(kw_only=True)
class Zones(Resolver):
    """A DNS in which ``example.test`` has one MX at 127.0.0.1, unless the test says otherwise.

    An exception in place of records is raised.
    """

    mx: Mapping[str, Sequence[Mx] | PttError] = field(default_factory=lambda: {"example.test": [Mx(10, "mx.example")]})
    addresses: Mapping[str, Sequence[str] | PttError] = field(default_factory=lambda: {"mx.example": ["127.0.0.1"]})
    asked: list[str] = field(default_factory=list)

    @override
    async def resolve_mx(self, domain: Domain) -> Sequence[Mx]:
        """Give the MX records that the test set."""
        self.asked.append(f"MX {domain}")
        records = self.mx.get(domain, NoSuchDomain(domain))
        if isinstance(records, PttError):
            raise records
        return records

    @override
    async def resolve_addresses(self, name: str) -> Sequence[IPAddress]:
        """Give the addresses that the test set."""
        self.asked.append(f"A {name}")
        addresses = self.addresses.get(name, NoSuchDomain(name))
        if isinstance(addresses, PttError):
            raise addresses
        return [ip_address(address) for address in addresses]


@dataclass(kw_only=True)
class Letter:
    """A message for a test: what it holds and what its commit does."""

    recipients: Sequence[str] = ("bob@example.test",)
    reverse_path: ReversePath = SENDER
    content: bytes = CONTENT
    part_bytes: int = 1_000_000
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    requests: Mapping[str, RecipientRequest] = field(default_factory=dict)
    options: Options = NO_OPTIONS
    size_bytes: int | None = None
    commit_error: PttError | None = None
    read_error: PttError | None = None
    """Raised after the content was read, in place of its end."""
    commits: int = 0
    committed: list[tuple[list[str], list[str]]] = field(default_factory=list)
    """For each commit whom its dot was for, and whom an earlier one had delivered to."""
    before_commit: Callable[[], Awaitable[None]] | None = None

    @property
    def message(self) -> OutboundMessage:
        """Give it as the relay hands it over."""
        return OutboundMessage(
            queue_id=QueueId("01234567890123456789"),
            reverse_path=self.reverse_path,
            recipients=tuple(parse_address(recipient, smtputf8=True) for recipient in self.recipients),
            size_bytes=len(self.content) if self.size_bytes is None else self.size_bytes,
            body=self.body,
            smtputf8=self.smtputf8,
            ret=self.ret,
            envid=self.envid,
            requests={parse_address(recipient): request for recipient, request in self.requests.items()},
            options=self.options,
            read=self._read,
            commit=self._commit,
        )

    async def _read(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), self.part_bytes):
            yield self.content[start : start + self.part_bytes]
        if self.read_error is not None:
            raise self.read_error

    async def _commit(self, in_doubt: Sequence[Address], delivered: Sequence[Address]) -> None:
        assert in_doubt
        assert not {*in_doubt} & {*delivered}
        self.commits += 1
        self.committed.append(([str(one) for one in in_doubt], [str(one) for one in delivered]))
        if self.before_commit is not None:
            await self.before_commit()
        if self.commit_error is not None:
            raise self.commit_error


def keep_order(names: list[str]) -> None:
    """Shuffle nothing: hosts of equal preference are tried by name."""


def make_options(port: int, resolver: Resolver | None = None) -> CourierOptions:
    """Give the options for a server on a loopback address, with the timeouts of the RFC."""
    return CourierOptions(
        hostname="relay.example.org",
        resolver=resolver or Zones(),
        smtp_port=port,
        allow_private_addresses=True,
        shuffle=keep_order,
    )


def with_timeout(seconds: float, *phases: Phase) -> Mapping[Phase, float]:
    """Give the timeouts of the RFC but for these phases, in which the peer of a test is silent.

    A peer that answers at all may then be as slow as a busy machine makes it.
    """
    return {**make_timeouts(), **dict.fromkeys(phases, seconds)}


def tell(outcomes: Sequence[tuple[Address, Outcome]]) -> list[str]:
    """Give each outcome in a word, with the enhanced status or code of its reply: ``failed 5.1.1``."""
    words = []
    for _, outcome in outcomes:
        name = "uncertain" if getattr(outcome, "uncertain", False) else type(outcome).__name__.lower()
        status = (outcome.reply.enhanced_status or str(outcome.reply.code)) if outcome.reply else ""
        words.append(f"{name} {status}".strip())
    return words
