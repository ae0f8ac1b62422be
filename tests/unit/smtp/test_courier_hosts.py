"""Which host is tried, when the next one is, and when none."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from ptt.core.address import parse_domain
from ptt.core.errors import NoSuchDomain, PttError, Unavailable
from ptt.core.outcome import Failed
from ptt.core.routing import Mx
from ptt.core.verdict import Phase
from ptt.smtp.routes import Routes
from ptt.smtp.timeouts import DEAD_S
from tests.letters import DESTINATION, Letter, Zones, keep_order, tell, with_timeout
from tests.scripted import Act, Answer, Script, scripted_server
from tests.servers.ports import free_port
from tests.unit.smtp.conftest import MakeCourier
from tests.waiting import wait_until_async

TWO_HOSTS = Zones(
    mx={"example.test": [Mx(10, "one.example"), Mx(20, "two.example")]},
    addresses={"one.example": ["127.0.0.2"], "two.example": ["127.0.0.3"]},
)

HOST_FAILURES: list[tuple[str, Script]] = [
    ("banner 421", Script(banner=b"421 busy\r\n")),
    ("banner 554", Script(banner=b"554 no\r\n")),
    ("banner close", Script(banner=Act.CLOSE)),
    ("banner reset", Script(banner=Act.RESET)),
    ("banner nonsense", Script(banner=b"hello there\r\n")),
    ("EHLO 451", Script(answers={"EHLO": b"451 later\r\n"})),
    ("EHLO and HELO 550", Script(answers={"EHLO": b"550 no\r\n", "HELO": b"550 no\r\n"})),
    ("EHLO 500 and nonsense to HELO", Script(answers={"EHLO": b"500 x\r\n", "HELO": b"x\r\n"})),
    ("EHLO close", Script(answers={"EHLO": Act.CLOSE})),
    ("EHLO answered twice", Script(answers={"EHLO": b"250 mx.example\r\n550 5.7.1 and more\r\n"})),
    ("MAIL 421", Script(answers={"MAIL": b"421 closing\r\n"})),
    ("MAIL close", Script(answers={"MAIL": Act.CLOSE})),
    ("RCPT 421", Script(answers={"RCPT": b"421 closing\r\n"})),
    ("DATA 421", Script(answers={"DATA": b"421 closing\r\n"})),
    ("DATA reset", Script(answers={"DATA": Act.RESET})),
    ("DATA 250", Script(answers={"DATA": b"250 ok\r\n"})),
]


@pytest.mark.parametrize("script", [case[1] for case in HOST_FAILURES], ids=[case[0] for case in HOST_FAILURES])
async def test_failure_of_the_host_tries_the_next(script: Script, make_courier: MakeCourier) -> None:
    """RFC 5321 section 5.1: what says something of the host and not of the message leads to the next host."""
    async with (
        scripted_server(script, address="127.0.0.2", port=free_port()) as first,
        scripted_server(address="127.0.0.3", port=first.port) as second,
    ):
        outcomes = await make_courier(first.port, resolver=TWO_HOSTS).deliver(DESTINATION, Letter().message)
        assert tell(outcomes) == ["delivered 2.0.0"]
        assert outcomes[0][1].peer.mx_host == "two.example"
        assert (len(first.accepted), len(second.accepted)) == (0, 1)


NO_NEXT: list[tuple[str, dict[str, Answer], str]] = [
    ("MAIL 451", {"MAIL": b"451 4.3.0 x\r\n"}, "deferred 4.3.0"),
    ("MAIL 550", {"MAIL": b"550 5.7.1 x\r\n"}, "failed 5.7.1"),
    ("RCPT 450", {"RCPT": b"450 4.2.0 x\r\n"}, "deferred 4.2.0"),
    ("DATA 554", {"DATA": b"554 5.7.1 x\r\n"}, "failed 5.7.1"),
    ("MAIL 550 and close", {"MAIL": (b"550 5.7.1 x\r\n", Act.CLOSE)}, "failed 5.7.1"),
    ("RCPT 550 and close", {"RCPT": (b"550 5.1.1 x\r\n", Act.CLOSE)}, "failed 5.1.1"),
    ("dot 421", {".": b"421 4.3.2 x\r\n"}, "deferred 4.3.2"),
    ("dot 451", {".": b"451 4.3.0 x\r\n"}, "deferred 4.3.0"),
    ("dot close", {".": Act.CLOSE}, "uncertain"),
    ("dot reset", {".": Act.RESET}, "uncertain"),
    ("dot nonsense", {".": b"ok\r\n"}, "uncertain"),
]


@pytest.mark.parametrize(("answers", "expected"), [c[1:] for c in NO_NEXT], ids=[case[0] for case in NO_NEXT])
async def test_verdict_on_the_message_or_a_sent_dot_tries_no_other_host(
    answers: dict[str, Answer], expected: str, make_courier: MakeCourier
) -> None:
    """After the final dot the first host may have the message: a second one would make two of it."""
    async with (
        scripted_server(Script(answers=answers), address="127.0.0.2", port=free_port()) as first,
        scripted_server(address="127.0.0.3", port=first.port) as second,
    ):
        courier = make_courier(first.port, resolver=TWO_HOSTS)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == [expected]
        assert second.dialogues == []


async def test_host_that_fails_after_a_dot_is_the_last(make_courier: MakeCourier) -> None:
    """Of 150 recipients 100 are served, then the connection is lost: the others wait, no other host is tried."""
    script = Script(answers={"MAIL": [b"250 ok\r\n", Act.CLOSE]})
    async with (
        scripted_server(script, address="127.0.0.2", port=free_port()) as first,
        scripted_server(address="127.0.0.3", port=first.port) as second,
    ):
        letter = Letter(recipients=tuple(f"user{i}@example.test" for i in range(150)))
        outcomes = await make_courier(first.port, resolver=TWO_HOSTS).deliver(DESTINATION, letter.message)
        assert tell(outcomes) == ["delivered 2.0.0"] * 100 + ["deferred"] * 50
        assert second.dialogues == []


async def test_outcomes_of_recipients_before_the_host_failed_stand(make_courier: MakeCourier) -> None:
    """A recipient that was refused for good is not tried again at the next host; the others are."""
    script = Script(answers={"RCPT": [b"250 ok\r\n", b"550 5.1.1 x\r\n", (b"250 ok\r\n", Act.CLOSE)]})
    async with (
        scripted_server(script, address="127.0.0.2", port=free_port()) as first,
        scripted_server(address="127.0.0.3", port=first.port) as second,
    ):
        letter = Letter(recipients=("a@example.test", "b@example.test", "c@example.test"))
        outcomes = await make_courier(first.port, resolver=TWO_HOSTS).deliver(DESTINATION, letter.message)
        assert tell(outcomes) == ["delivered 2.0.0", "failed 5.1.1", "delivered 2.0.0"]
        assert second.accepted[0].recipients == ["<a@example.test>", "<c@example.test>"]


async def test_second_address_of_a_host_is_tried(make_courier: MakeCourier) -> None:
    """RFC 5321 section 5.1: a host with several addresses is tried at two of them at least."""
    zones = Zones(addresses={"mx.example": ["::1", "127.0.0.2", "127.0.0.3"]})
    async with scripted_server(address="127.0.0.3") as server:
        courier = make_courier(server.port, resolver=zones)
        outcomes = await courier.deliver(DESTINATION, Letter().message)
        assert tell(outcomes) == ["delivered 2.0.0"]
        assert outcomes[0][1].peer.address == "127.0.0.3"


async def test_address_literal_is_connected_to_without_dns(make_courier: MakeCourier) -> None:
    """RFC 5321 section 5.1: an address literal is used as it is, without MX."""
    zones = Zones()
    async with scripted_server(address="127.0.0.5") as server:
        literal = parse_domain("[127.0.0.5]")
        outcomes = await make_courier(server.port, resolver=zones).deliver(literal, Letter().message)
        assert tell(outcomes) == ["delivered 2.0.0"]
        assert zones.asked == []


async def test_no_mx_uses_the_domain_itself(make_courier: MakeCourier) -> None:
    """RFC 5321 section 5.1: without MX records the domain's own addresses are used."""
    zones = Zones(mx={"example.test": []}, addresses={"example.test": ["127.0.0.1"]})
    async with scripted_server() as server:
        outcomes = await make_courier(server.port, resolver=zones).deliver(DESTINATION, Letter().message)
        assert tell(outcomes) == ["delivered 2.0.0"]


A = ["127.0.0.9"]
DNS: list[tuple[str, Sequence[Mx] | PttError, dict[str, Sequence[str] | PttError], str]] = [
    ("null MX", [Mx(0, ".")], {"example.test": A}, "failed 5.1.10"),
    ("NXDOMAIN", NoSuchDomain("x"), {"example.test": A}, "failed 5.1.2"),
    ("SERVFAIL", Unavailable("x"), {"example.test": A}, "deferred"),
    ("only we", [Mx(10, "relay.example.org")], {}, "failed 5.4.6"),
    ("no address of the implicit MX", [], {"example.test": []}, "failed 5.4.4"),
    ("MX does not exist, the domain has A", [Mx(1, "a.example")], {"example.test": A}, "failed 5.4.4"),
    ("MX without address", [Mx(1, "a.example")], {"a.example": []}, "failed 5.4.4"),
    ("MX address unavailable", [Mx(1, "a.example")], {"a.example": Unavailable("x")}, "deferred"),
    ("gone, unavailable", [Mx(1, "a.example"), Mx(2, "b.example")], {"a.example": Unavailable("x")}, "deferred"),
    ("refused connection", [Mx(1, "a.example")], {"a.example": A}, "deferred"),
    ("refused connection, then gone", [Mx(1, "a.example"), Mx(2, "b.example")], {"a.example": A}, "deferred"),
]  # fmt: skip


@pytest.mark.parametrize(("mx", "addresses", "expected"), [case[1:] for case in DNS], ids=[case[0] for case in DNS])
async def test_answer_of_the_dns_decides_when_nobody_can_be_asked(
    mx: Sequence[Mx] | PttError,
    addresses: dict[str, Sequence[str] | PttError],
    expected: str,
    make_courier: MakeCourier,
) -> None:
    """RFC 5321 section 5.1, RFC 7505: what the DNS says for certain is final, what it cannot say now is not."""
    courier = make_courier(free_port(), resolver=Zones(mx={"example.test": mx}, addresses=addresses))
    outcomes = await courier.deliver(DESTINATION, Letter(recipients=("a@example.test", "b@example.test")).message)
    assert tell(outcomes) == [expected] * 2


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["0.0.0.0"], ["10.0.0.1", "fe80::1"]]
)
async def test_private_address_is_never_connected_to(addresses: list[str], make_courier: MakeCourier) -> None:
    """Whoever owns a domain chooses its MX: the relay must not be made to talk to what is behind the firewall."""
    async with scripted_server(address="127.0.0.1") as server:
        zones = Zones(addresses={"mx.example": addresses})
        courier = make_courier(server.port, resolver=zones, allow_private_addresses=False)
        outcomes = await courier.deliver(DESTINATION, Letter().message)
        assert tell(outcomes) == ["failed 5.4.6"]
        literal = await courier.deliver(parse_domain("[127.0.0.1]"), Letter().message)
        assert tell(literal) == ["failed 5.4.6"]
        assert server.dialogues == []


async def test_private_address_beside_a_host_that_may_come_back_is_deferred(make_courier: MakeCourier) -> None:
    """One MX in a private range does not make mail fail while another MX may still take it."""
    zones = Zones(
        mx={"example.test": [Mx(1, "gone.example"), Mx(2, "mx.example")]}, addresses={"gone.example": Unavailable("x")}
    )
    courier = make_courier(free_port(), resolver=zones, allow_private_addresses=False)
    assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["deferred"]


async def test_host_that_swallows_connections_is_given_up_and_the_next_tried(make_courier: MakeCourier) -> None:
    """A host that answers no SYN, as behind a firewall, must not hold the message for the minutes of the system."""
    async with scripted_server(address="127.0.0.3", port=free_port()) as second:
        with socket.socket() as full:
            full.bind(("127.0.0.2", second.port))
            full.listen(0)
            # The queue of connections that nobody accepts is filled: Linux drops further SYNs.
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.settimeout(0)
                filler.connect_ex(("127.0.0.2", second.port))
            courier = make_courier(second.port, resolver=TWO_HOSTS, timeouts=with_timeout(2, Phase.CONNECT))
            outcomes = await courier.deliver(DESTINATION, Letter().message)
            for filler in fillers:
                filler.close()
        assert tell(outcomes) == ["delivered 2.0.0"]
        assert outcomes[0][1].peer.mx_host == "two.example"


async def test_dead_host_is_connected_to_once_for_many_messages(make_courier: MakeCourier) -> None:
    """50 messages for a host that does not greet wait once, not one after the other."""
    async with scripted_server(Script(banner=Act.HANG)) as server:
        courier = make_courier(server.port, timeouts=with_timeout(0.2, Phase.GREETING), connections_per_host=5)
        results = await asyncio.gather(*(courier.deliver(DESTINATION, Letter().message) for _ in range(50)))
        assert [tell(outcomes) for outcomes in results] == [["deferred"]] * 50
        assert len(server.dialogues) <= 5


async def test_dead_host_is_not_tried_again_at_once(make_courier: MakeCourier) -> None:
    """The next message hears what the one before it was told."""
    async with scripted_server(Script(banner=b"451 restarting\r\n"), Script()) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["deferred 451"]
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["deferred 451"]
        assert len(server.dialogues) == 1
    assert DEAD_S == 30


async def test_dead_host_is_tried_again_after_a_while(make_courier: MakeCourier) -> None:
    """The memory of a dead host is short: it must not outlive the host's restart by more than seconds."""
    async with scripted_server(Script(banner=b"451 restarting\r\n"), Script()) as server:
        courier = make_courier(server.port, dead_s=0.1)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["deferred 451"]
        clock = asyncio.get_running_loop().time
        over_at = clock() + 0.1
        await wait_until_async(lambda: clock() > over_at, "the memory of the dead host is over")
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]


async def test_more_addresses_than_the_limit_are_not_tried(make_courier: MakeCourier) -> None:
    """A zone of 40 addresses must not make one attempt connect 40 times."""
    names = [f"h{i}.example" for i in range(10)]
    zones = Zones(
        mx={"example.test": [Mx(i, name) for i, name in enumerate(names)]},
        addresses={name: [f"127.1.{i}.{j}" for j in range(4)] for i, name in enumerate(names)},
    )
    outcomes = await make_courier(free_port(), resolver=zones).deliver(DESTINATION, Letter().message)
    assert tell(outcomes) == ["deferred"]
    assert zones.asked == ["MX example.test", "A h0.example", "A h1.example", "A h2.example"]


async def test_slow_dns_ends_the_search() -> None:
    """Ten hosts whose addresses come slowly must not add up to minutes."""
    zones = Zones(mx={"example.test": [Mx(1, "a.example"), Mx(2, "b.example")]})
    routes = Routes(
        resolver=zones, own_name="", shuffle=keep_order, allow_private_addresses=True, timeout_s=0
    )  # nothing is in time
    candidates = [candidate async for candidate in routes.find(DESTINATION)]
    assert [getattr(candidate, "reason", "") for candidate in candidates] == ["the DNS cannot be asked: too slow"]
    assert zones.asked == ["MX example.test"]


async def test_source_address_is_used(make_courier: MakeCourier) -> None:
    """A relay with several addresses sends from the one it is told to, if the IP versions agree."""
    async with scripted_server() as server:
        sources = (ip_address("2001:db8::1"), ip_address("127.0.0.77"))
        courier = make_courier(server.port, source_addresses=sources)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert server.clients == ["127.0.0.77"]


async def test_all_banners_final_fails(make_courier: MakeCourier) -> None:
    """Only if each host refuses for good is the message refused for good."""
    async with (
        scripted_server(Script(banner=b"554 5.7.1 no\r\n"), address="127.0.0.2", port=free_port()) as first,
        scripted_server(Script(banner=b"521 5.3.2 no mail\r\n"), address="127.0.0.3", port=first.port),
    ):
        outcomes = await make_courier(first.port, resolver=TWO_HOSTS).deliver(DESTINATION, Letter().message)
        assert isinstance(outcomes[0][1], Failed)
        assert tell(outcomes) == ["failed 5.3.2"]
