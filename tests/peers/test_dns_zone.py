"""A key is in the DNS once every authoritative server answers it: real BIND servers, and one that does otherwise."""

from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from ptt.core.errors import Unavailable
from ptt.dns.primary import Primary
from ptt.dns.update import publish_key_record
from ptt.dns.zone import Nameserver, StubResolver, find_lagging, find_nameservers, wait_until_served
from tests.servers.bind import Bind, running_bind, running_secondary
from tests.servers.ports import free_port
from tests.servers.responder import Respond, running_responder

FIRST, SECOND = "127.0.0.1", "127.0.0.3"
NAME = "s1._domainkey.example.test"
RECORD = f"v=DKIM1; k=rsa; p={'A' * 392}"
NO_RESOLVER = StubResolver((FIRST,), 1)
"""Nobody listens there: the primary must know all."""


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """Run a primary that has the record, for a zone with two servers."""
    with running_bind(nameservers=(FIRST, SECOND)) as server:
        primary = Primary(address=server.address, port=server.port, key=server.tsig_key)
        publish_key_record(primary, NAME, RECORD, ttl_s=60)
        yield server


@pytest.fixture
def primary(bind: Bind) -> Primary:
    """Give it as ptt knows it."""
    return Primary(address=bind.address, port=bind.port, key=bind.tsig_key)


@pytest.fixture
def servers(primary: Primary) -> tuple[Nameserver, ...]:
    """Give both servers of the zone."""
    return find_nameservers(NAME, NO_RESOLVER, primary)


def answer(change: Callable[[dns.message.Message], None]) -> Respond:
    """Make a server that is authoritative and knows nothing, but for what the test makes of its replies."""

    def respond(request: bytes, _is_tcp: bool) -> bytes:  # noqa: FBT001 - the hook of a responder
        reply = dns.message.make_response(dns.message.from_wire(request))
        reply.flags |= dns.flags.AA
        change(reply)
        return reply.to_wire()

    return respond


def add(rdtype: str, *texts: str) -> Callable[[dns.message.Message], None]:
    """Add records to a reply."""
    return lambda reply: reply.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", rdtype, *texts))


def split(text: str) -> str:
    """Write a record in strings as a zone file has them."""
    return f'"{text[:200]}" "{text[200:]}"'


def be_resolver(reply: dns.message.Message) -> None:
    """Answer right, and not as an authority."""
    add("TXT", split(RECORD))(reply)
    reply.flags &= ~dns.flags.AA


BAD_SERVERS: dict[str, tuple[Callable[[dns.message.Message], None], str]] = {
    "behind": (lambda reply: reply.set_rcode(dns.rcode.NXDOMAIN), "does not have the record yet"),
    "without TXT": (lambda _reply: None, "does not have the record yet"),
    "old key": (add("TXT", '"v=DKIM1; k=rsa; p=OLD"'), "answers another record"),
    "two keys": (add("TXT", split(RECORD), '"v=DKIM1; k=rsa; p=OLD"'), "answers 2 records"),
    "alias": (add("CNAME", "elsewhere.test."), "answers an alias (CNAME)"),
    "without the zone": (lambda reply: reply.set_rcode(dns.rcode.REFUSED), "answers REFUSED"),
    "broken": (lambda reply: reply.set_rcode(dns.rcode.SERVFAIL), "answers SERVFAIL"),
    "lame": (be_resolver, "is not authoritative (lame delegation)"),
}

UNKNOWN = ("answers REFUSED", "answers SERVFAIL", "is not authoritative (lame delegation)")
"""Such a server tells nobody anything of the record: receivers ask the next one."""


def test_find_nameservers_by_the_primary_gives_all_with_addresses(servers: tuple[Nameserver, ...]) -> None:
    """The zone's own data come first: no resolver is needed for names in the zone."""
    assert servers == (Nameserver("ns1.example.test.", (FIRST,)), Nameserver("ns2.example.test.", (SECOND,)))


def test_find_nameservers_by_the_resolver_gives_the_same(bind: Bind, servers: tuple[Nameserver, ...]) -> None:
    """Without a primary of ours everything is looked up as by anybody."""
    assert find_nameservers(NAME, StubResolver((bind.address,), bind.port)) == servers


def test_find_nameservers_without_resolver_is_temporary() -> None:
    """Nothing is known and nothing is activated."""
    failing = answer(lambda reply: reply.set_rcode(dns.rcode.SERVFAIL))
    with (
        running_responder(FIRST, port := free_port(), failing),
        pytest.raises(Unavailable, match=f"the zone of {NAME}. cannot be found"),
    ):
        find_nameservers(NAME, StubResolver((FIRST,), port))


def test_find_nameservers_outside_the_zone_asks_the_resolver(primary: Primary) -> None:
    """The primary knows no address of servers elsewhere."""
    with running_bind(("elsewhere.test",)) as other, running_bind(records=["@ NS ns1.elsewhere.test."]) as outside:
        primary = Primary(address=outside.address, port=outside.port, key=outside.tsig_key)
        found = find_nameservers(NAME, StubResolver((other.address,), other.port), primary)
    assert found == (Nameserver("ns1.elsewhere.test.", (FIRST,)), Nameserver("ns1.example.test.", (FIRST,)))


def test_record_on_a_real_secondary_is_found_after_its_transfer(
    bind: Bind, primary: Primary, servers: tuple[Nameserver, ...]
) -> None:
    """NOTIFY and a zone transfer bring the record there; until then it is waited for."""
    name = "moved._domainkey.example.test"
    with running_secondary(bind, SECOND):
        publish_key_record(primary, name, RECORD, ttl_s=60)
        assert wait_until_served(servers, bind.port, name, RECORD, wait_s=15) == ()


@pytest.mark.parametrize(("change", "reason"), BAD_SERVERS.values(), ids=BAD_SERVERS.keys())
def test_record_that_one_server_does_not_answer_is_not_there_yet(
    bind: Bind, servers: tuple[Nameserver, ...], change: Callable[[dns.message.Message], None], reason: str
) -> None:
    """A receiver may ask just this server: the line names it and says what it does."""
    with running_responder(SECOND, bind.port, answer(change)):
        lagging = find_lagging(servers, bind.port, NAME, RECORD)
    assert [str(lag).removeprefix(f"ns2.example.test. ({SECOND}) ") for lag in lagging] == [reason]
    assert [lag.is_wrong for lag in lagging] == [reason not in UNKNOWN]


def test_record_with_a_silent_server_is_not_there_yet(bind: Bind, servers: tuple[Nameserver, ...]) -> None:
    """Nobody listens at the second address: the wait is bounded, and the server is named."""
    lagging = wait_until_served(servers, bind.port, NAME, RECORD, wait_s=0)
    assert [str(lag) for lag in lagging] == ["ns2.example.test. (127.0.0.3) does not answer"]
    assert not lagging[0].is_wrong


def test_record_that_comes_late_is_waited_for(bind: Bind, servers: tuple[Nameserver, ...]) -> None:
    """A server that lags behind twice and then has the record ends the wait."""
    behind = [True, True]
    late = answer(lambda reply: None if behind and behind.pop() else add("TXT", split(RECORD))(reply))
    with running_responder(SECOND, bind.port, late):
        assert wait_until_served(servers, bind.port, NAME, RECORD, wait_s=10) == ()
    assert not behind


def test_record_too_large_for_udp_is_read_by_tcp(bind: Bind, servers: tuple[Nameserver, ...]) -> None:
    """A truncated answer is asked for again over TCP (RFC 7766 section 5)."""
    transports = []

    def respond(request: bytes, is_tcp: bool) -> bytes:  # noqa: FBT001 - the hook of a responder
        transports.append(is_tcp)
        if is_tcp:
            return bind.forward(request, is_tcp)
        reply = dns.message.make_response(dns.message.from_wire(request))
        reply.flags |= dns.flags.TC | dns.flags.AA
        return reply.to_wire()

    with running_responder(SECOND, bind.port, respond):
        assert find_lagging(servers, bind.port, NAME, RECORD) == ()
    assert transports == [False, True]


def test_server_with_a_dead_address_and_a_good_one_is_good(bind: Bind) -> None:
    """Resolvers go on to the next address."""
    server = Nameserver("ns.example.test.", (SECOND, FIRST))
    assert find_lagging((server,), bind.port, NAME, RECORD) == ()


def test_server_without_address_is_named() -> None:
    """A name server without A and AAAA answers nobody."""
    assert [str(lag) for lag in find_lagging((Nameserver("ns.test.", ()),), 53, NAME, RECORD)] == [
        "ns.test. has no address"
    ]


def test_zone_without_servers_is_not_taken_for_complete() -> None:
    """All of none is no proof."""
    assert [str(lag) for lag in find_lagging((), 53, NAME, RECORD)] == [f"no authoritative server is known for {NAME}"]
