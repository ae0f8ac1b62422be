"""REQUIRETLS: sent on to who keeps it and proves who it is, or not at all. RFC 8689 section 4.2.1."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from ptt.core.options import Options, TlsDemand
from ptt.core.routing import Mx
from tests.letters import DESTINATION, Letter, Zones, tell
from tests.scripted import Act, Answer, Script, scripted_server
from tests.unit.smtp.conftest import MakeCourier

REQUIRED = Options(tls=TlsDemand.REQUIRED)
OFFER = ("PIPELINING", "8BITMIME", "DSN", "REQUIRETLS")


@dataclass(frozen=True)
class Trust:
    """A server's context by the name that its certificate is for, and the file of who issued them."""

    ca_file: str
    own: ssl.SSLContext
    strange: ssl.SSLContext
    unknown: ssl.SSLContext


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """Give certificates for the right name, for another, and from an issuer that nobody trusts."""
    authority = trustme.CA()
    ca_file: Path = tmp_path_factory.mktemp("trust") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    contexts = []
    own = ("mx.example.test", "mx2.example.test")
    for issuer, names in ((authority, own), (authority, ["mx.other.test"]), (trustme.CA(), own)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert(*names).configure_cert(context)
        contexts.append(context)
    return Trust(str(ca_file), *contexts)


def zones(*hosts: str) -> Zones:
    """Make a DNS in which the destination has these MX hosts, all at one address."""
    records = [Mx(number, host) for number, host in enumerate(hosts)]
    return Zones(mx={"example.test": records}, addresses={host: ["127.0.0.1"] for host in hosts})


OWN = zones("mx.example.test")


async def test_message_goes_to_a_host_that_keeps_it_and_proves_who_it_is(
    trust: Trust, make_courier: MakeCourier
) -> None:
    """The parameter is passed on, and the report of the next host is to bring the header back alone."""
    async with scripted_server(Script(tls=trust.own, extensions=OFFER)) as server:
        courier = make_courier(server.port, resolver=OWN, ca_file=trust.ca_file)
        letter = Letter(options=REQUIRED, ret="FULL")
        assert tell(await courier.deliver(DESTINATION, letter.message)) == ["delivered 2.0.0"]
        assert server.commands[0][3] == "MAIL FROM:<alice@example.org> RET=HDRS REQUIRETLS"
        assert server.dialogues[0].is_tls


@pytest.mark.parametrize(
    ("context", "extensions", "hosts"),
    [
        ("strange", OFFER, ("mx.example.test",)),
        ("unknown", OFFER, ("mx.example.test",)),
        ("own", OFFER[:-1], ("mx.example.test",)),
        ("", OFFER, ("mx.example.test",)),
        ("own", OFFER, ("mx.other.test",)),
        ("own", OFFER, ("mx.notexample.test", "example.test.other.test")),
    ],
)
async def test_message_comes_back_from_hosts_that_cannot_be_trusted(
    trust: Trust, make_courier: MakeCourier, context: str, extensions: Sequence[str], hosts: Sequence[str]
) -> None:
    """Wrong name, unknown issuer, no REQUIRETLS, no TLS, a host of another domain: 5.7.30, and nothing is sent."""
    script = Script(tls=getattr(trust, context) if context else None, extensions=extensions)
    async with scripted_server(script) as server:
        courier = make_courier(server.port, resolver=zones(*hosts), ca_file=trust.ca_file)
        outcomes = await courier.deliver(DESTINATION, Letter(options=REQUIRED).message)
        assert tell(outcomes) == ["failed 5.7.30"]
        # Nobody knows whether other mail would get there, unless a session was ready for it.
        is_ready = context == "own" and hosts == ("mx.example.test",)
        assert [outcome.scope for _, outcome in outcomes] == ["host" if is_ready else "attempt"]  # type: ignore[union-attr]
        assert not any(command.startswith("MAIL") for commands in server.commands for command in commands)
        # The same host is good enough for mail that asks for nothing.
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]


@pytest.mark.parametrize(
    "answer", [b"454 4.7.0 not now\r\n", Act.CLOSE, (b"220 go\r\n", Act.CLOSE)], ids=["454", "close", "handshake"]
)
async def test_broken_starttls_defers_and_never_goes_on_in_clear(
    trust: Trust, make_courier: MakeCourier, answer: Answer
) -> None:
    """What may pass is waited for; the destination is not backed off from, for other mail may go there."""
    async with scripted_server(Script(tls=trust.own, extensions=OFFER, answers={"STARTTLS": answer})) as server:
        courier = make_courier(server.port, resolver=OWN, ca_file=trust.ca_file)
        ((_, outcome),) = await courier.deliver(DESTINATION, Letter(options=REQUIRED).message)
        assert type(outcome).__name__ == "Deferred"
        assert outcome.scope == "attempt"  # type: ignore[union-attr]
        assert not any(command.startswith("MAIL") for commands in server.commands for command in commands)


async def test_next_host_is_tried_when_the_first_lacks_it(trust: Trust, make_courier: MakeCourier) -> None:
    """One host of the domain that keeps it is enough."""
    lacking = Script(tls=trust.own, extensions=OFFER[:-1])
    keeping = Script(tls=trust.own, extensions=OFFER)
    async with scripted_server(lacking, keeping) as server:
        resolver = zones("mx.example.test", "mx2.example.test")
        courier = make_courier(server.port, resolver=resolver, ca_file=trust.ca_file)
        outcomes = await courier.deliver(DESTINATION, Letter(options=REQUIRED).message)
        assert tell(outcomes) == ["delivered 2.0.0"]
        assert len(server.dialogues) == 2


async def test_connection_that_was_not_verified_is_never_used(trust: Trust, make_courier: MakeCourier) -> None:
    """A kept connection of ordinary mail proves nothing; one that is verified serves both kinds apart."""
    async with scripted_server(Script(tls=trust.own, extensions=OFFER)) as server:
        courier = make_courier(server.port, resolver=OWN, ca_file=trust.ca_file)
        for options in (Options(), REQUIRED, Options(), REQUIRED):
            assert tell(await courier.deliver(DESTINATION, Letter(options=options).message)) == ["delivered 2.0.0"]
        assert len(server.dialogues) == 2


async def test_limits_of_the_host_are_kept(make_courier: MakeCourier) -> None:
    """RFC 9422 section 4: no more recipients in a transaction and no more messages on a connection than it names."""
    async with scripted_server(Script(extensions=("PIPELINING", "LIMITS RCPTMAX=2 MAILMAX=2"))) as server:
        courier = make_courier(server.port)
        letter = Letter(recipients=[f"r{number}@example.test" for number in range(5)])
        assert tell(await courier.deliver(DESTINATION, letter.message)) == ["delivered 2.0.0"] * 5
        assert [len(one.recipients) for one in server.accepted] == [2, 2, 1]
        await courier.deliver(DESTINATION, Letter().message)
        assert len(server.dialogues) == 2
