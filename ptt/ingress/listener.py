"""The listening sockets, and the register of all connections of this process. RFC 5321 section 3.8, RFC 8314."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ptt.core.errors import ConfigError
from ptt.ingress import replies
from ptt.ingress.connection import HANDSHAKE_TIMEOUT_S, Connection
from ptt.ingress.session import House, Session

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted: a burst of clients must not be refused."""
STOP_TIMEOUT_S = 25.0
"""How long a message that is being received may take once the server stops; 30 s are promised for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where to listen; ``port`` 0 takes any free one."""

    address: str
    port: int
    is_tls_implicit: bool


class Listener:
    """Listens, and knows who is connected."""

    def __init__(self, house: House, max_connections: int) -> None:
        """Prepare.

        Args:
            house: what all sessions share.
            max_connections: one more hears 421.
        """
        self._house = house
        self._max_connections = max_connections
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._has_emptied = asyncio.Event()

    @property
    def connection_count(self) -> int:
        """Tell how many clients are connected."""
        return len(self._connections)

    async def start(self, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Listen.

        Returns:
            The endpoints with the ports that are really bound.

        Raises:
            ConfigError: one cannot be bound; then none is.
        """
        try:
            return tuple([await self._listen(endpoint) for endpoint in endpoints])
        except ConfigError:
            self._close_servers()
            raise

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
        """Take note of a new connection; False if there are too many."""
        if len(self._connections) >= self._max_connections:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """Take note of its end."""
        self._connections.discard(connection)
        if not self._connections:
            self._has_emptied.set()

    async def _listen(self, endpoint: Endpoint) -> Endpoint:
        house = self._house
        loop = asyncio.get_running_loop()
        context = house.tls_context if endpoint.is_tls_implicit else None
        try:
            server = await loop.create_server(
                lambda: Connection(self._serve, self, house.timeout_s, house.policy.hostname),
                endpoint.address,
                endpoint.port,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if context else None,
                backlog=BACKLOG,
                reuse_port=True,  # the processes of one host share the port, and the kernel shares out the clients
            )
        except OSError as error:
            place = f"{endpoint.address} port {endpoint.port}"
            raise ConfigError(f"ingress: listen: {place}: {error.strerror or error}") from error
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return Endpoint(address=endpoint.address, port=port, is_tls_implicit=endpoint.is_tls_implicit)

    async def _serve(self, connection: Connection) -> None:
        await Session(self._house, connection).run()

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
