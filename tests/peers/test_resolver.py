"""The resolver against a real BIND, and against servers that lie, stall or talk nonsense."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from typing_extensions import override

from ptt.core.address import Domain
from ptt.core.errors import NoSuchDomain, Unavailable
from ptt.core.routing import Mx
from ptt.dns import resolver as module
from ptt.dns.resolver import DnsResolver
from tests.servers.bind import Bind, running_bind
from tests.servers.ports import free_port
from tests.servers.responder import running_responder

DOMAIN = Domain("example.test")
LONG = "a-rather-long-name-of-a-mail-host-that-fills-the-packet"
RECORDS = [
    "@ MX 10 mx1", "@ MX 5 MX2.Example.Test.", "@ A 192.0.2.9", "mx1 A 192.0.2.1", "mx1 AAAA 2001:db8::1",
    "mx2 A 192.0.2.2", "null MX 0 .", "only-a A 192.0.2.3", "alias CNAME mx1", "mail CNAME target",
    "target MX 7 mx1", "loop CNAME loop2", "loop2 CNAME loop", "dangling CNAME nothing",
    *[f"many MX {number} {LONG}-{number}.other.test." for number in range(60)],
    *[f"wide A 192.0.2.{number}" for number in range(100)],
]  # fmt: skip


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """Run one BIND for the tests of this file."""
    with running_bind(records=RECORDS) as server:
        yield server


@pytest.fixture
async def resolver(bind: Bind) -> AsyncIterator[DnsResolver]:
    """Give a resolver that asks it."""
    resolver = DnsResolver(nameservers=[bind.address], port=bind.port)
    yield resolver
    await resolver.close()


async def test_mx_of_a_domain_are_all_given(resolver: DnsResolver) -> None:
    """RFC 5321 section 5.1: preference and exchange, in lower case and without the final dot."""
    assert sorted(await resolver.resolve_mx(DOMAIN)) == [Mx(5, "mx2.example.test"), Mx(10, "mx1.example.test")]
    assert await resolver.resolve_mx(Domain("null.example.test")) == [Mx(0, ".")]
    assert await resolver.resolve_mx(Domain("only-a.example.test")) == []
    assert await resolver.resolve_mx(Domain("mail.example.test")) == [Mx(7, "mx1.example.test")]


async def test_addresses_of_a_host_are_of_both_versions(resolver: DnsResolver) -> None:
    """RFC 5321 section 5.2: AAAA and A; a CNAME is followed."""
    both = [ip_address("2001:db8::1"), ip_address("192.0.2.1")]
    assert await resolver.resolve_addresses("mx1.example.test") == both
    assert await resolver.resolve_addresses("alias.example.test") == both
    assert await resolver.resolve_addresses("mx2.example.test") == [ip_address("192.0.2.2")]
    assert await resolver.resolve_addresses("null.example.test") == []


@pytest.mark.parametrize(
    "name", ["nothing.example.test", "dangling.example.test", "a..example.test", "x" * 64 + ".test"]
)
async def test_name_that_does_not_exist_raises(name: str, resolver: DnsResolver) -> None:
    """RFC 8020: NXDOMAIN is of the name, whatever type was asked for."""
    with pytest.raises(NoSuchDomain):
        await resolver.resolve_mx(Domain(name))
    with pytest.raises(NoSuchDomain):
        await resolver.resolve_addresses(name)


@pytest.mark.parametrize("name", ["loop.example.test", "other.test"])
async def test_loop_and_refusal_are_unavailable(name: str, resolver: DnsResolver) -> None:
    """A CNAME loop and a server that does not serve the zone say nothing for certain."""
    with pytest.raises(Unavailable):
        await resolver.resolve_mx(Domain(name))
    with pytest.raises(Unavailable):
        await resolver.resolve_addresses(name)


async def test_answer_too_large_for_udp_comes_over_tcp(resolver: DnsResolver) -> None:
    """RFC 7766: a truncated answer is asked for again over TCP."""
    assert len(await resolver.resolve_mx(Domain("many.example.test"))) == 60
    assert len(await resolver.resolve_addresses("wide.example.test")) == 100


Reply = Callable[[dns.message.QueryMessage], dns.message.Message | bytes | None]
Answer = Callable[[dns.message.QueryMessage], dns.message.Message]


@asynccontextmanager
async def asking(
    reply: Reply, *, timeout_s: float = 40.0, over_tcp: Reply | None = None, max_answers: int = 100
) -> AsyncIterator[DnsResolver]:
    """Give a resolver whose server answers by ``reply``, over TCP by ``over_tcp``; QUERIES lists what it is asked."""
    port = free_port()

    def respond(request: bytes, is_tcp: bool) -> bytes | None:  # noqa: FBT001 - the hook of a responder
        query = dns.message.from_wire(request)
        assert isinstance(query, dns.message.QueryMessage)
        QUERIES.append(query.question[0].to_text())
        answer = (over_tcp or reply)(query) if is_tcp else reply(query)
        return answer.to_wire() if isinstance(answer, dns.message.Message) else answer

    QUERIES.clear()
    with running_responder("127.0.0.1", port, respond):
        resolver = DnsResolver(
            nameservers=["127.0.0.1"], port=port, timeout_s=timeout_s, try_s=timeout_s / 4, max_answers=max_answers
        )
        yield resolver
        await resolver.close()


QUERIES: list[str] = []
"""What the responder was asked since `asking` began."""


def answer_with(
    *records: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR, authority: str = "", ttl: int = 300
) -> Answer:
    """Answer each query with these records of its name and type."""

    def reply(query: dns.message.QueryMessage) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.set_rcode(rcode)
        question = query.question[0]
        if records:
            response.answer.append(dns.rrset.from_text(question.name, ttl, "IN", question.rdtype, *records))
        if authority:
            response.authority.append(dns.rrset.from_text("example.test.", ttl, "IN", *authority.split(maxsplit=1)))
        return response

    return reply


SOA = "SOA ns1.example.test. x.example.test. 1 1 1 1 300"


@pytest.mark.parametrize(
    "reply",
    [
        answer_with(rcode=dns.rcode.SERVFAIL),
        answer_with(rcode=dns.rcode.REFUSED),
        answer_with(rcode=dns.rcode.NOTIMP),
        answer_with(authority="NS ns1.elsewhere.test."),
        lambda _: None,
        lambda _: b"nonsense",
        lambda query: query.to_wire()[:2] + b"\xff" * 40,
    ],
    ids=["SERVFAIL", "REFUSED", "NOTIMP", "referral", "silence", "nonsense", "garbage after the id"],
)
async def test_failure_is_unavailable_in_time_and_remembered(reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says nothing for certain is Unavailable; the time has an end; the next question does not wait again."""
    monkeypatch.setattr(module, "FAILURE_S", 60)
    replies = [reply]

    def answer(query: dns.message.QueryMessage) -> dns.message.Message | bytes | None:
        return replies[-1](query)

    async with asking(answer, timeout_s=1) as resolver:
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable):
                await resolver.resolve_mx(DOMAIN)
            with pytest.raises(Unavailable):
                await resolver.resolve_addresses("mx.example.test")
            with pytest.raises(Unavailable):
                await resolver.resolve_mx(Domain("other.test"))
        replies.append(answer_with("10 mx.example.test."))
        for _ in range(20):
            with pytest.raises(Unavailable):
                await resolver.resolve_mx(Domain("other.test"))


@pytest.mark.parametrize(
    ("reply", "count"),
    [
        (answer_with("10 mx.example.test."), 1),
        (answer_with(authority=SOA), 1),
        (answer_with(rcode=dns.rcode.NXDOMAIN, authority=SOA), 1),
        (answer_with("10 mx.example.test.", ttl=0), 5),
    ],
    ids=["records", "no records", "NXDOMAIN", "TTL 0"],
)
async def test_answer_is_kept_for_its_ttl(reply: Reply, count: int) -> None:
    """RFC 1035 section 3.2.1, RFC 2308 section 5: kept as long as it may be, and not at all if the TTL is 0."""
    async with asking(reply) as resolver:
        for _ in range(5):
            try:
                await resolver.resolve_mx(DOMAIN)
            except NoSuchDomain:
                continue
        assert len(QUERIES) == count


async def test_answers_above_the_limit_are_forgotten_the_oldest_first() -> None:
    """The names come from strangers' mail: what is kept of them is bounded."""
    async with asking(answer_with("10 mx.example.test."), max_answers=2) as resolver:
        for name in "abcbca":
            await resolver.resolve_mx(Domain(f"{name}.test"))
        assert [f"{name}.test. IN MX" for name in "abca"] == QUERIES


async def test_same_question_at_once_is_asked_once() -> None:
    """50 messages for one domain make one query; that one of them is cancelled does not matter to the others."""
    async with asking(answer_with("10 mx.example.test.")) as resolver:
        tasks = [asyncio.create_task(resolver.resolve_mx(DOMAIN)) for _ in range(50)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [[Mx(10, "mx.example.test")]] * 49
        assert QUERIES == ["example.test. IN MX"]


async def test_one_type_unavailable_is_no_matter_if_the_other_answers() -> None:
    """A server that fails for AAAA, as some do, must not keep mail from the host's A."""

    def reply(query: dns.message.QueryMessage) -> dns.message.Message:
        is_a = query.question[0].rdtype == dns.rdatatype.A
        return (answer_with("192.0.2.1") if is_a else answer_with(rcode=dns.rcode.SERVFAIL))(query)

    async with asking(reply) as resolver:
        assert await resolver.resolve_addresses("mx.example.test") == [ip_address("192.0.2.1")]


async def test_one_type_unavailable_and_the_other_empty_is_unavailable() -> None:
    """No A and an unknown AAAA is not yet "no address": to say so would make mail fail for good."""

    def reply(query: dns.message.QueryMessage) -> dns.message.Message:
        is_a = query.question[0].rdtype == dns.rdatatype.A
        return (answer_with(authority=SOA) if is_a else answer_with(rcode=dns.rcode.SERVFAIL))(query)

    async with asking(reply) as resolver:
        with pytest.raises(Unavailable):
            await resolver.resolve_addresses("mx.example.test")


async def test_nxdomain_for_one_type_only_is_no_proof() -> None:
    """Some servers say NXDOMAIN for AAAA although the name has an A, or exists without one."""

    def reply(query: dns.message.QueryMessage) -> dns.message.Message:
        is_a = query.question[0].rdtype == dns.rdatatype.A
        return (answer_with(authority=SOA) if is_a else answer_with(rcode=dns.rcode.NXDOMAIN, authority=SOA))(query)

    async with asking(reply) as resolver:
        assert await resolver.resolve_addresses("mx.example.test") == []


async def test_truncated_answer_with_tcp_refused_is_unavailable() -> None:
    """Half of the records are not the records."""

    def truncate(query: dns.message.QueryMessage) -> dns.message.Message:
        response = answer_with("10 mx.example.test.")(query)
        response.flags |= dns.flags.TC
        return response

    async with asking(truncate, over_tcp=lambda _: None, timeout_s=1) as resolver:
        with pytest.raises(Unavailable):
            await resolver.resolve_mx(DOMAIN)
    async with asking(truncate, over_tcp=answer_with("10 real.example.test.")) as resolver:
        assert await resolver.resolve_mx(DOMAIN) == [Mx(10, "real.example.test")]


async def test_forged_packet_does_not_end_the_question() -> None:
    """CVE-2023-29483: a packet of another id, or for another question, is dropped and the true answer waited for."""
    port = free_port()

    class Forger(asyncio.DatagramProtocol):
        """Sends two forgeries, then the truth."""

        @override
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        @override
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            query = dns.message.from_wire(data)
            assert isinstance(query, dns.message.QueryMessage)
            truth = answer_with("10 mx.example.test.")(query)
            wire = truth.to_wire()
            (number,) = struct.unpack("!H", wire[:2])
            other = dns.message.make_query("evil.test", "MX", id=query.id)
            forged = answer_with("0 evil.test.")(other)
            for packet in (struct.pack("!H", number ^ 1) + wire[2:], forged.to_wire(), b"\0", wire):
                self.transport.sendto(packet, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Forger, local_addr=("127.0.0.1", port))
    resolver = DnsResolver(nameservers=["127.0.0.1"], port=port, timeout_s=20)
    assert await resolver.resolve_mx(DOMAIN) == [Mx(10, "mx.example.test")]
    await resolver.close()
    transport.close()


async def test_second_nameserver_answers_for_a_dead_first() -> None:
    """Resolvers are there in numbers so that one may be away."""
    port = free_port()
    with running_responder("127.0.0.3", port, lambda request, _: _answer(request)):
        resolver = DnsResolver(nameservers=["127.0.0.2", "127.0.0.3"], port=port, timeout_s=20, try_s=0.2)
        assert await resolver.resolve_mx(DOMAIN) == [Mx(10, "mx.example.test")]
        await resolver.close()


def _answer(request: bytes) -> bytes:
    query = dns.message.from_wire(request)
    assert isinstance(query, dns.message.QueryMessage)
    response = answer_with("10 mx.example.test.")(query)
    return response.to_wire()


async def test_close_ends_what_is_being_asked() -> None:
    """At the end of the process no question is left behind."""
    async with asking(lambda _: None, timeout_s=60) as resolver:
        waiting = asyncio.create_task(resolver.resolve_mx(DOMAIN))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await resolver.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
