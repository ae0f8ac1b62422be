"""The listening sockets, and the register of all connections of this process. RFC 5321 section 3.8, RFC 8314."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from ptt.core.errors import ConfigError
from ptt.ingress import replies
from ptt.ingress.arrival import Endpoint, arrive
from ptt.ingress.connection import Connection
from ptt.ingress.crowd import Crowd
from ptt.ingress.session import House, Session

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted: a burst of clients must not be refused."""
MAX_TURNED_AWAY = 64
"""Connections over the limit that may wait for their 421 at once, which over TLS takes a handshake; one more is cut."""
STOP_TIMEOUT_S = 25.0
"""How long a message that is being received may take once the server stops; 30 s are promised for all."""


class Listener:
    """Listens, and knows who is connected."""

    def __init__(self, house: House, crowd: Crowd) -> None:
        """Prepare.

        Args:
            house: what all sessions share.
            crowd: the places for clients; who finds none hears 421.
        """
        self._house = house
        self._crowd = crowd
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._has_emptied = asyncio.Event()

    @property
    def connection_count(self) -> int:
        """Tell how many clients are connected."""
        return len(self._connections)

    async def start(self, endpoints: Sequence[Endpoint], inherited: Sequence[socket.socket] = ()) -> list[Endpoint]:
        """Listen.

        Args:
            endpoints: where.
            inherited: sockets as systemd hands them over; each serves the endpoint whose address and port it has.

        Returns:
            The endpoints with the ports that are really bound.

        Raises:
            ConfigError: one cannot be bound, or an inherited socket belongs to none; then none is.
        """
        sockets = {one.getsockname()[:2]: one for one in inherited}
        try:
            bound = [
                await self._listen(endpoint, sockets.pop((endpoint.address, endpoint.port), None))
                for endpoint in endpoints
            ]
            for address, port in sockets:
                raise ConfigError(f"ingress: listen: has no {address} port {port}, for which a socket was handed over")  # noqa: TRY301 - closes as the others
        except ConfigError:
            self._close_servers()
            raise
        return bound

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop listening; sessions between two commands hear 421, those in DATA may finish, what is left is cut."""
        self._close_servers()
        self._has_emptied.clear()
        for connection in tuple(self._connections):
            connection.dismiss(replies.STOPPING)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._connections:
                    await self._has_emptied.wait()
        for connection in tuple(self._connections):
            connection.abort()

    def admit(self, connection: Connection) -> bool:
        """Take note of a new connection; False if it must be cut at once."""
        if not self._crowd.enter(connection) and len(self._connections) - len(self._crowd) >= MAX_TURNED_AWAY:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """Take note of its end."""
        self._crowd.leave(connection)
        self._connections.discard(connection)
        if not self._connections:
            self._has_emptied.set()

    async def _listen(self, endpoint: Endpoint, inherited: socket.socket | None) -> Endpoint:
        loop = asyncio.get_running_loop()

        async def serve(connection: Connection) -> None:
            await arrive(connection, endpoint, self._crowd, self._house)
            await Session(self._house, connection).run()

        def make_connection() -> Connection:
            return Connection(serve, self, self._house.timeout_s, self._house.policy.hostname)

        # reuse_port: the processes of one host share the port, and the kernel shares out the clients.
        where = (
            {"sock": inherited} if inherited else {"host": endpoint.address, "port": endpoint.port, "reuse_port": True}
        )
        try:
            server = await loop.create_server(make_connection, backlog=BACKLOG, **where)
        except OSError as error:
            place = f"{endpoint.address} port {endpoint.port}"
            raise ConfigError(f"ingress: listen: {place}: {error.strerror or error}") from error
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return replace(endpoint, port=port)

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
