"""The submission server on loopback, with a spool that keeps what it gets, and a client that sends octets."""

import asyncio
import base64
import functools
import ssl
import tempfile
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trustme

from ptt.core.address import Address, Domain
from ptt.core.envelope import Envelope, QueueId, Submission, parse_envelope
from ptt.core.guessing import Permit, Trust
from ptt.core.ports import Attempt, Tokens
from ptt.core.rates import Quota
from ptt.core.reply import Reply
from ptt.core.scram import ScramVerifier, make_verifier
from ptt.core.user import User
from ptt.ingress.acceptance import Acceptor
from ptt.ingress.answers import Policy
from ptt.ingress.arrival import Endpoint, Network
from ptt.ingress.budget import Budget
from ptt.ingress.crowd import Crowd
from ptt.ingress.guard import Guard
from ptt.ingress.listener import Listener
from ptt.ingress.sasl import MECHANISMS
from ptt.ingress.session import House
from ptt.ingress.tls import CertificateFiles, ServerTls
from ptt.store.decoys import Decoys
from tests.waiting import wait_until_async

HOSTNAME = "mail.example.test"
SEAL_KEY = bytes(range(32))
PASSWORD = b"correct horse"
REPLY_TIMEOUT_S = 30.0

ALICE = User(
    login="alice",
    password_hash="$argon2id$",
    addresses=frozenset({Address("alice", Domain("example.test")), Address('"a b"', Domain("example.test"))}),
    domains=frozenset({Domain("alerts.example.test")}),
    scram=make_verifier(PASSWORD, b"salt of 16 bytes", 4096),
)


@dataclass
class RecordingSpool:
    """Keeps submissions in memory; ``fault`` is raised instead, and ``gate`` is waited for."""

    submissions: list[Submission] = field(default_factory=list)
    fault: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    is_waiting: bool = False
    room: bool = True
    foreseen: Reply | None = None

    def __post_init__(self) -> None:
        """Let everything pass."""
        self.gate.set()

    @property
    def has_room(self) -> bool:
        """Tell what the test says."""
        return self.room

    def foresee_refusal(self, quota: Quota) -> Reply | None:
        """Give what the test says."""
        return self.foreseen and replace(self.foreseen, text=f"{quota.login} {quota.rates.messages_per_hour}")

    async def submit(self, submission: Submission) -> QueueId:
        """Keep the submission."""
        self.is_waiting = True
        await self.gate.wait()
        self.is_waiting = False
        if self.fault is not None:
            raise self.fault
        self.submissions.append(submission)
        return submission.queue_id

    @property
    def contents(self) -> list[bytes]:
        """Give what was accepted."""
        return [submission.content for submission in self.submissions]

    @property
    def envelopes(self) -> list[Envelope]:
        """Give the envelopes of what was accepted."""
        return [parse_envelope(submission.envelope_json) for submission in self.submissions]


@dataclass
class FixedUsers:
    """Users with one password for all; ``fault`` is raised at each login, ``asked`` are the logins."""

    users: dict[str, User] = field(default_factory=lambda: {ALICE.login: ALICE})
    fault: Exception | None = None
    asked: list[str] = field(default_factory=list)
    passwords: list[bytes] = field(default_factory=list)

    async def authenticate(self, login: str, password: bytes, attempt: Attempt) -> User | None:
        """Compare."""
        self.asked.append(login)
        self.passwords.append(password)
        if self.fault is not None:
            raise self.fault
        await attempt.ask()
        return self.users.get(login) if password == PASSWORD else None

    def get_scram(self, login: str, seed: bytes) -> ScramVerifier:
        """Look up."""
        user = self.users.get(login)
        return user.scram if user and user.scram else Decoys().make_verifier(seed)

    def find_certified(self, names: Collection[str]) -> User | None:
        """Look up."""
        return next((user for user in self.users.values() if user.certificates.intersection(names)), None)

    def get_user(self, login: str) -> User | None:
        """Look up."""
        return self.users.get(login)


@dataclass
class CountedGuesses:
    """Counts guesses by network in memory; the rest is for the tests with Redis."""

    most: int = 1000
    stamps: list[tuple[bytes, str]] = field(default_factory=list)
    known: set[tuple[bytes, bytes]] = field(default_factory=set)
    fault: Exception | None = None

    async def ask(self, login: bytes, network: bytes) -> Permit | None:
        """Count."""
        if self.fault is not None:
            raise self.fault
        count = len([stamp for place, stamp in self.stamps if place == network])
        if count >= self.most:
            return None
        self.stamps.append((network, str(len(self.stamps))))
        trust = Trust.KNOWN if (login, network) in self.known else Trust.SUSPECT if count else Trust.FRESH
        return Permit(trust, self.stamps[-1][1])

    async def settle(self, login: bytes, network: bytes, stamp: str, *, is_good: bool) -> None:
        """Take out."""
        self.stamps.remove((network, stamp))
        if is_good:
            self.known.add((login, network))


@dataclass(frozen=True)
class Certificate:
    """A certificate for the loopback address, as files."""

    authority_file: Path
    certificate_file: Path
    key_file: Path

    def trust(self) -> ssl.SSLContext:
        """Make a client's context that trusts it."""
        return ssl.create_default_context(cafile=str(self.authority_file))


def make_certificate(folder: Path) -> Certificate:
    """Write a new certificate into a folder."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost", HOSTNAME)
    certificate = Certificate(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(str(certificate.authority_file))
    issued.private_key_pem.write_to_path(str(certificate.key_file))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(certificate.certificate_file), append=number > 0)
    return certificate


@functools.cache
def shared_certificate() -> Certificate:
    """Give the certificate that all tests of this process share."""
    folder = tempfile.TemporaryDirectory(prefix="ptt-certificate-")
    _folders.append(folder)  # removed at the end of the process
    return make_certificate(Path(folder.name))


_folders: list[tempfile.TemporaryDirectory[str]] = []


@dataclass
class SubmissionServer:
    """A running server: ``port`` speaks STARTTLS, ``tls_port`` TLS from the start."""

    listener: Listener
    budget: Budget
    spool: RecordingSpool
    users: FixedUsers
    guesses: CountedGuesses
    tls: ServerTls
    certificate: Certificate
    port: int
    tls_port: int


@asynccontextmanager
async def running_submission(  # noqa: PLR0913 - limits by name, each with a default
    *,
    timeout_s: float = 20,
    max_message_bytes: int = 200_000,
    max_recipients: int = 100,
    max_connections: int = 50,
    max_per_network: int = 50,
    proxies: tuple[Network, ...] = (),
    held_bytes: int = 10_000_000,
    makes_seven_bit: bool = False,
    certificate: Certificate | None = None,
    client_ca_file: Path | None = None,
    tokens: Tokens | None = None,
) -> AsyncIterator[SubmissionServer]:
    """Run a server; at the end no connection may be left."""
    certificate = certificate or shared_certificate()
    spool, users, guesses, budget = RecordingSpool(), FixedUsers(), CountedGuesses(), Budget(held_bytes)
    tls = ServerTls([CertificateFiles(certificate.certificate_file, certificate.key_file)], client_ca_file)
    house = House(
        policy=Policy(hostname=Domain(HOSTNAME), max_message_bytes=max_message_bytes, max_recipients=max_recipients),
        users=users,
        guard=Guard(guesses, SEAL_KEY, delay_s=0),
        mechanisms=tuple(MECHANISMS),
        tokens=tokens,
        acceptor=Acceptor(hostname=Domain(HOSTNAME), seal_key=SEAL_KEY, spool=spool, makes_seven_bit=makes_seven_bit),
        budget=budget,
        tls_context=tls.context,
        timeout_s=timeout_s,
    )
    listener = Listener(house, Crowd(max_connections, max_per_network))
    endpoints = [
        Endpoint(address="127.0.0.1", port=0, is_tls_implicit=implicit, proxies=proxies) for implicit in (False, True)
    ]
    plain, implicit = await listener.start(endpoints)
    try:
        yield SubmissionServer(listener, budget, spool, users, guesses, tls, certificate, plain.port, implicit.port)
        await wait_until_async(lambda: budget.held_bytes == 0, "no content is held")
    finally:
        await listener.stop(timeout_s=1)


class Client:
    """Sends octets, reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over an open connection."""
        self.reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.writer.write(octets)
        await self.writer.drain()

    async def reply(self) -> str:
        """Read one reply; its lines are joined by LF, without CRLF. Empty at the end of the connection."""
        lines: list[str] = []
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            while line := (await self.reader.readline()).decode():
                assert line.endswith("\r\n"), line
                lines.append(line[:-2])
                if line[3] == " ":
                    break
        return "\n".join(lines)

    async def ask(self, command: str | bytes) -> str:
        """Send one command and read its reply."""
        octets = command if isinstance(command, bytes) else command.encode()
        await self.send(octets + b"\r\n")
        return await self.reply()

    async def replies(self) -> list[str]:
        """Read replies until the server closes."""
        found: list[str] = []
        while reply := await self.reply():
            found.append(reply)
        return found

    async def ask_all(self, commands: Iterable[str]) -> list[str]:
        """Send commands one by one."""
        return [await self.ask(command) for command in commands]

    async def start_tls(self, certificate: Certificate) -> None:
        """Send STARTTLS and make the handshake."""
        assert (await self.ask("STARTTLS")).startswith("220 ")
        await self.writer.start_tls(certificate.trust(), server_hostname="127.0.0.1")

    async def log_in(self) -> None:
        """Say EHLO and log in as Alice."""
        await self.ask("EHLO client.test")
        assert await self.ask(f"AUTH PLAIN {plain('alice', PASSWORD)}") == "235 2.7.0 Authentication successful"

    async def begin(self, *recipients: str) -> None:
        """Open a transaction up to the 354."""
        commands = ["MAIL FROM:<alice@example.test>"]
        commands += [f"RCPT TO:<{recipient}>" for recipient in recipients or ("rita@destination.test",)]
        for reply in await self.ask_all(commands):
            assert reply.startswith("250 "), reply
        assert (await self.ask("DATA")).startswith("354 ")

    async def submit(self, content: bytes) -> str:
        """Submit a message whose octets are sent as they are, with the end of content behind."""
        await self.begin()
        await self.send(content + b".\r\n")
        return await self.reply()


def plain(login: str, password: bytes, authzid: str = "") -> str:
    """Write a PLAIN response."""
    return encode(b"\0".join((authzid.encode(), login.encode(), password)))


def encode(octets: bytes) -> str:
    """Write octets in base64."""
    return base64.b64encode(octets).decode()


@asynccontextmanager
async def connected(server: SubmissionServer, *, implicit: bool = True, greeted: bool = True) -> AsyncIterator[Client]:
    """Connect to a server, by default over TLS, and read its greeting."""
    if implicit:
        streams = await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=server.certificate.trust())
    else:
        streams = await asyncio.open_connection("127.0.0.1", server.port)
    client = Client(*streams)
    try:
        if greeted:
            assert (await client.reply()).startswith(f"220 {HOSTNAME} ESMTP")
        yield client
    finally:
        client.writer.transport.abort()


@asynccontextmanager
async def logged_in(server: SubmissionServer) -> AsyncIterator[Client]:
    """Connect over TLS and log in."""
    async with connected(server) as client:
        await client.log_in()
        yield client
