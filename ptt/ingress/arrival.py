"""From a TCP connection to a client that may speak SMTP: whose connection it is, whether there is room, TLS.

RFC 8314 section 3.3 (TLS from the first octet). What is cheap comes first: a client that there is no room for makes no
more handshakes than a few, and one that says nothing is gone after one timeout.
"""

import asyncio
import ipaddress
from dataclasses import dataclass

from ptt.core.errors import MalformedInput
from ptt.core.proxy import MAX_V2, SIGNATURE, parse_proxy_header
from ptt.ingress import replies
from ptt.ingress.connection import Connection
from ptt.ingress.crowd import Crowd
from ptt.ingress.endings import Disconnected, Dismissed
from ptt.ingress.handshake import HANDSHAKE_TIMEOUT_S
from ptt.ingress.names import format_peer
from ptt.ingress.session import House

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAX_HEADER = MAX_V2 + len(SIGNATURE) + 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where to listen; ``port`` 0 takes any free one."""

    address: str
    port: int
    is_tls_implicit: bool
    proxies: tuple[Network, ...] = ()
    """If any: connections come from these networks only, and begin with a PROXY header."""


async def arrive(connection: Connection, endpoint: Endpoint, crowd: Crowd, house: House) -> None:
    """Bring a connection to where the greeting is due.

    Args:
        connection: just accepted; if there is room for it, `Crowd.enter` gave it a place.
        endpoint: where it came in.
        crowd: the places.
        house: for its TLS.

    Raises:
        Dismissed: there is no room for it.
        Disconnected: it does not say in time, and in the right form, what it has to say first.
    """
    if endpoint.proxies:
        connection.peer_address = await _read_client_address(connection, endpoint.proxies)
    is_welcome = connection in crowd and crowd.settle(connection, connection.peer_address)
    if endpoint.is_tls_implicit:
        await connection.enter_tls(house.tls_context)
    else:
        connection.come_in()
    if not is_welcome:
        raise Dismissed(replies.TOO_MANY_CONNECTIONS)


async def _read_client_address(connection: Connection, proxies: tuple[Network, ...]) -> str:
    # The threat: whoever reaches the port gives himself any address, in the log and in Received.
    peer = ipaddress.ip_address(connection.peer_address)
    if not any(peer in network for network in proxies):
        raise Disconnected
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            while (header := parse_proxy_header(connection.inbox.peek(_MAX_HEADER))) is None:
                await connection.receive()
    except (MalformedInput, TimeoutError) as error:
        raise Disconnected from error
    connection.inbox.take(header.size_bytes)
    return format_peer((header.address,)) if header.address else connection.peer_address
