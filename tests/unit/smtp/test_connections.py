"""Bounds of what is kept, and cancellation at each point where a place is held."""

import asyncio
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address

import pytest

from ptt.core.routing import Target
from ptt.smtp.connections import Connections, Limits
from ptt.smtp.faults import SessionLost
from ptt.smtp.session import Dialler, Line
from ptt.smtp.timeouts import make_timeouts
from ptt.smtp.tls import TlsPolicy, make_opportunistic_context
from tests.scripted import Act, Script, ScriptedServer, scripted_server
from tests.waiting import wait_until_async

ANY = "0.0.0.0"
MakeConnections = Callable[..., Connections]


@pytest.fixture
async def make_connections() -> AsyncIterator[MakeConnections]:
    """Make `Connections` that are closed at the end: ``make_connections(connections_per_host, max_idle, max_dead)``."""
    made: list[Connections] = []

    def make(connections_per_host: int = 5, max_idle: int = 100, max_dead: int = 100) -> Connections:
        dialler = Dialler(
            hostname="relay.example.org",
            timeouts=make_timeouts(1),
            tls_contexts={TlsPolicy.OPPORTUNISTIC: make_opportunistic_context()},
        )
        limits = Limits(
            connections_per_host=connections_per_host,
            messages_per_connection=100,
            idle_s=100,
            dead_s=100,
            max_idle=max_idle,
            max_dead=max_dead,
        )
        made.append(Connections(dialler, limits))
        return made[-1]

    yield make
    for connections in made:
        await connections.close()


def make_line(server: ScriptedServer, number: int = 1) -> Line:
    """Give the line to the n-th loopback address."""
    target = Target("mx.example", ip_address(f"127.0.0.{number}"))
    return Line(target=target, port=server.port, tls=TlsPolicy.OPPORTUNISTIC)


async def test_idle_sessions_above_the_limit_are_closed_the_oldest_first(make_connections: MakeConnections) -> None:
    """Mail to ten thousand domains must not leave as many connections."""
    async with scripted_server(address=ANY) as server:
        connections = make_connections(max_idle=3)
        for number in range(1, 9):
            connections.release(await connections.acquire(make_line(server, number)))
        await wait_until_async(lambda: server.open_count == 3, "all but three are closed")
        assert [commands[-1] for commands in server.commands] == ["QUIT"] * 5 + ["EHLO relay.example.org"] * 3
        connections.release(await connections.acquire(make_line(server, 8)))
        assert len(server.dialogues) == 8


async def test_dead_hosts_above_the_limit_are_forgotten_the_oldest_first(make_connections: MakeConnections) -> None:
    """The names of dead hosts come from strangers, who have any number of them."""
    async with scripted_server(Script(banner=b"421 no\r\n"), address=ANY) as server:
        connections = make_connections(max_dead=2)
        for number in (1, 2, 3, 2, 3, 1, 3, 1):
            with pytest.raises(SessionLost):
                await connections.acquire(make_line(server, number))
        assert len(server.dialogues) == 4


async def test_a_refusal_for_good_is_heard_by_each_message_itself(make_connections: MakeConnections) -> None:
    """What fails a message for good must come from the host, not from our memory of what it told another."""
    async with scripted_server(Script(banner=b"554 no\r\n"), Script()) as server:
        connections = make_connections()
        with pytest.raises(SessionLost):
            await connections.acquire(make_line(server))
        connections.release(await connections.acquire(make_line(server)))


async def test_cancelled_while_connecting_frees_the_place(make_connections: MakeConnections) -> None:
    """A worker that stops while a host does not greet leaves the place to who waits."""
    async with scripted_server(Script(banner=Act.HANG), Script()) as server:
        connections = make_connections(1)
        tasks = [asyncio.create_task(connections.acquire(make_line(server))) for _ in range(2)]
        await wait_until_async(lambda: len(server.dialogues) == 1, "the first connects")
        tasks[0].cancel()
        session = await asyncio.wait_for(tasks[1], 20)
        assert session.is_usable
        connections.release(session)


@pytest.mark.parametrize("is_usable", [True, False], ids=["with a session", "without"])
async def test_cancelled_when_the_place_was_just_given_passes_it_on(
    make_connections: MakeConnections, *, is_usable: bool
) -> None:
    """A place that was handed to a task which is cancelled in the same moment goes to the next in line."""
    async with scripted_server() as server:
        connections = make_connections(1)
        session = await connections.acquire(make_line(server))
        waiting = [asyncio.create_task(connections.acquire(make_line(server))) for _ in range(2)]
        await asyncio.sleep(0)
        if not is_usable:
            session.abort()
        connections.release(session)
        waiting[0].cancel()
        last = await asyncio.wait_for(waiting[1], 20)
        assert (last is session) is is_usable
        connections.release(last)


async def test_cancelled_while_replacing_frees_the_place(make_connections: MakeConnections) -> None:
    """The same while a used session is closed for a fresh one."""
    async with scripted_server(Script(answers={"QUIT": Act.HANG}), Script()) as server:
        connections = make_connections(1)
        connections.release(await connections.acquire(make_line(server)))
        task = asyncio.create_task(connections.acquire(make_line(server), fresh=True))
        await wait_until_async(lambda: server.commands[0][-1] == "QUIT", "QUIT is said")
        task.cancel()
        session = await asyncio.wait_for(connections.acquire(make_line(server)), 20)
        assert len(server.dialogues) == 2
        connections.release(session)


async def test_fresh_session_is_never_a_used_one(make_connections: MakeConnections) -> None:
    """Asked for a fresh session, a used one is closed and another opened in its place."""
    async with scripted_server() as server:
        connections = make_connections(1)
        used = await connections.acquire(make_line(server))
        connections.release(used)
        fresh = await connections.acquire(make_line(server), fresh=True)
        assert fresh is not used
        assert server.commands[0][-1] == "QUIT"
        assert server.most_open == 1
        connections.release(fresh)


async def test_sessions_of_another_policy_are_not_shared(make_connections: MakeConnections) -> None:
    """A connection in clear never stands in for one that asks for TLS."""
    async with scripted_server() as server:
        connections = make_connections()
        line = make_line(server)
        clear = Line(target=line.target, port=line.port, tls=TlsPolicy.CLEAR)
        connections.release(await connections.acquire(clear))
        connections.release(await connections.acquire(line))
        assert len(server.dialogues) == 2
