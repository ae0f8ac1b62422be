"""Connections are kept, counted, closed in time, and a dead one costs nothing."""

import asyncio
from collections.abc import Sequence

import pytest

from ptt.core.address import Domain
from ptt.core.routing import Mx
from tests.letters import DESTINATION, Letter, Zones, tell
from tests.scripted import EXTENSIONS, Act, Answer, Script, scripted_server
from tests.unit.smtp.conftest import MakeCourier
from tests.waiting import wait_until_async

PEERS = pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "one by one"])


async def test_messages_one_after_the_other_share_a_connection(make_courier: MakeCourier) -> None:
    """One greeting for many messages, also of different destinations with the same MX host."""
    zones = Zones(mx={name: [Mx(10, "mx.example")] for name in ("example.test", "other.test")})
    async with scripted_server() as server:
        courier = make_courier(server.port, resolver=zones)
        for destination in ("example.test", "other.test") * 5:
            outcomes = await courier.deliver(Domain(destination), Letter().message)
            assert tell(outcomes) == ["delivered 2.0.0"]
        assert len(server.dialogues) == 1
        assert server.commands[0].count("EHLO relay.example.org") == 1


async def test_messages_at_once_use_no_more_connections_than_allowed(make_courier: MakeCourier) -> None:
    """The peer never sees more connections than the limit; who waits gets one as soon as it is free."""
    async with scripted_server() as server:
        courier = make_courier(server.port, connections_per_host=3, messages_per_connection=7)
        results = await asyncio.gather(*(courier.deliver(DESTINATION, Letter().message) for _ in range(60)))
        assert [tell(outcomes) for outcomes in results] == [["delivered 2.0.0"]] * 60
        assert server.most_open == 3
        assert len(server.accepted) == 60
        assert max(commands.count(".") for commands in server.commands) == 7
        await wait_until_async(
            lambda: all(commands[-1] == "QUIT" for commands in server.commands if commands.count(".") == 7),
            "QUIT on each connection that is used up",
        )


async def test_idle_connection_is_closed_with_quit(make_courier: MakeCourier) -> None:
    """A connection with nothing to send is a burden for the peer: QUIT after a while."""
    async with scripted_server() as server:
        courier = make_courier(server.port, idle_s=0.0)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        await wait_until_async(lambda: server.commands[0][-1] == "QUIT", "QUIT on the idle connection")
        await wait_until_async(lambda: server.open_count == 0, "the idle connection is closed")


async def test_close_quits_idle_and_cuts_busy_connections(make_courier: MakeCourier) -> None:
    """At the end of the process nothing stays open, whatever the peer does."""
    async with scripted_server(Script(), Script(answers={"MAIL": Act.HANG})) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        both = asyncio.gather(*(courier.deliver(DESTINATION, Letter().message) for _ in range(2)))
        await wait_until_async(lambda: len(server.commands) == 2 and len(server.commands[1]) > 1, "one hangs in MAIL")
        await courier.close()
        assert sorted(map(tell, await both)) == [["deferred"], ["delivered 2.0.0"]]
        await wait_until_async(lambda: server.open_count == 0, "all connections are closed")


STALE: list[tuple[str, Answer]] = [
    ("421 and close", (b"421 4.4.2 idle for too long\r\n", Act.CLOSE)),
    ("421", b"421 4.4.2 idle for too long\r\n"),
    ("close", Act.CLOSE),
    ("reset", Act.RESET),
]


@PEERS
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", [case[1] for case in STALE], ids=[case[0] for case in STALE])
async def test_kept_connection_that_dies_before_content_is_replaced(
    answer: Answer, verb: str, extensions: Sequence[str], make_courier: MakeCourier
) -> None:
    """That the peer gives up a kept connection says nothing of the message: a fresh one, in the same attempt."""
    good = {"MAIL": b"250 ok\r\n", "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n"}[verb]
    async with scripted_server(Script(extensions=extensions, answers={verb: [good, answer]}), Script()) as server:
        courier = make_courier(server.port)
        for _ in range(2):
            assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert len(server.dialogues) == 2
        assert len(server.accepted) == 2


async def test_kept_connection_is_replaced_once_only(make_courier: MakeCourier) -> None:
    """A host that closes at each MAIL is not tried for ever."""
    script = Script(answers={"MAIL": [b"250 ok\r\n", Act.CLOSE]})
    async with scripted_server(script, Script(answers={"MAIL": Act.CLOSE})) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["deferred"]
        assert len(server.dialogues) == 2


async def test_kept_connection_that_dies_in_content_is_not_replaced(make_courier: MakeCourier) -> None:
    """A peer that leaves in the midst of the content has a reason, or the network has: the queue tries again."""
    async with scripted_server(Script(extensions=("PIPELINING",), answers={"data": Act.CLOSE})) as server:
        courier = make_courier(server.port)
        small, large = Letter(), Letter(content=b"x" * 900 + b"\r\n" + b"y\r\n" * 2_000_000)
        assert tell(await courier.deliver(DESTINATION, small.message)) == ["delivered 2.0.0"]
        assert tell(await courier.deliver(DESTINATION, large.message)) == ["deferred"]
        assert len(server.dialogues) == 1


async def test_kept_connection_that_dies_after_a_dot_is_not_replaced(make_courier: MakeCourier) -> None:
    """A fresh connection in the same attempt is only for messages of which nothing was sent to the end."""
    script = Script(answers={"MAIL": [b"250 ok\r\n", b"250 ok\r\n", Act.CLOSE]})
    async with scripted_server(script, Script()) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        letter = Letter(recipients=tuple(f"user{i}@example.test" for i in range(150)))
        outcomes = await courier.deliver(DESTINATION, letter.message)
        assert tell(outcomes) == ["delivered 2.0.0"] * 100 + ["deferred"] * 50
        assert len(server.dialogues) == 1


async def test_kept_connection_closed_by_the_peer_is_not_used(make_courier: MakeCourier) -> None:
    """A connection that the peer closed while it was idle is seen to be dead before anything is written."""
    script = Script(answers={".": (b"250 2.0.0 ok\r\n", Act.CLOSE)})
    async with scripted_server(script) as server:
        courier = make_courier(server.port)
        for _ in range(3):
            assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
            await wait_until_async(lambda: server.open_count == 0, "the server has closed")
        assert [commands.count(".") for commands in server.commands] == [1, 1, 1]


async def test_kept_connection_with_421_waiting_is_not_used(make_courier: MakeCourier) -> None:
    """RFC 5321 section 3.8: 421 may come with no command asking for it."""
    script = Script(answers={".": b"250 2.0.0 ok\r\n421 4.4.2 closing\r\n"})
    async with scripted_server(script) as server:
        courier = make_courier(server.port)
        for _ in range(3):
            assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert [commands.count(".") for commands in server.commands] == [1, 1, 1]


async def test_server_of_one_message_per_connection_takes_all(make_courier: MakeCourier) -> None:
    """Many at once to a server that answers 421 to each second MAIL: all arrive, each on its own connection."""
    script = Script(answers={"MAIL": [b"250 ok\r\n", (b"421 4.7.0 one per connection\r\n", Act.CLOSE)]})
    async with scripted_server(script) as server:
        courier = make_courier(server.port, connections_per_host=3)
        results = await asyncio.gather(*(courier.deliver(DESTINATION, Letter().message) for _ in range(30)))
        assert [tell(outcomes) for outcomes in results] == [["delivered 2.0.0"]] * 30
        assert server.most_open <= 3
        assert len(server.accepted) == 30


async def test_server_of_few_connections_gets_no_more(make_courier: MakeCourier) -> None:
    """A server that answers 421 to the third connection takes all mail over the two it likes."""
    busy = Script(banner=(b"421 4.7.0 too many connections\r\n", Act.CLOSE))
    async with scripted_server(Script(), Script(), busy) as server:
        courier = make_courier(server.port, connections_per_host=5)
        results = await asyncio.gather(*(courier.deliver(DESTINATION, Letter().message) for _ in range(30)))
        assert [tell(outcomes) for outcomes in results] == [["delivered 2.0.0"]] * 30
        assert [commands.count(".") > 0 for commands in server.commands] == [True, True, False, False, False]


async def test_cancelled_delivery_leaves_its_place_to_others(make_courier: MakeCourier) -> None:
    """A worker that stops in the midst of it, in use or waiting in line, blocks nobody."""
    async with scripted_server(Script(answers={"MAIL": Act.HANG}), Script()) as server:
        courier = make_courier(server.port, connections_per_host=1)
        tasks = [asyncio.create_task(courier.deliver(DESTINATION, Letter().message)) for _ in range(3)]
        await wait_until_async(lambda: server.commands and len(server.commands[0]) > 1, "the first hangs in MAIL")
        for task in tasks[:2]:
            task.cancel()
        assert tell(await asyncio.wait_for(tasks[2], 20)) == ["delivered 2.0.0"]
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        results = await asyncio.gather(*tasks[:2], return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)


async def test_tarpit_does_not_slow_mail_to_others(make_courier: MakeCourier) -> None:
    """20 hosts that never answer hold 20 connections and nothing else."""
    names = [f"tarpit{i}.test" for i in range(20)]
    zones = Zones(
        mx={**{name: [Mx(1, name)] for name in names}, "example.test": [Mx(1, "mx.example")]},
        addresses={**{name: [f"127.0.1.{i + 1}"] for i, name in enumerate(names)}, "mx.example": ["127.0.0.1"]},
    )
    hanging = [Script(answers={"MAIL": Act.HANG})] * 20
    async with scripted_server(*hanging, Script(), address="0.0.0.0") as server:
        courier = make_courier(server.port, resolver=zones)
        stuck = [asyncio.create_task(courier.deliver(Domain(name), Letter().message)) for name in names]
        await wait_until_async(lambda: len(server.dialogues) == 20, "20 connections hang")
        results = await asyncio.gather(*(courier.deliver(DESTINATION, Letter().message) for _ in range(100)))
        assert [tell(outcomes) for outcomes in results] == [["delivered 2.0.0"]] * 100
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
