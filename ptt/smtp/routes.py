"""From a destination to the addresses to try, one after the other, each looked up when it is needed.

RFC 5321 section 5, RFC 7505.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from ptt.core.address import Domain
from ptt.core.errors import NoSuchDomain, Unavailable
from ptt.core.outcome import Peer
from ptt.core.ports import Resolver
from ptt.core.routing import IPAddress, NullMx, Target, decide_addresses, decide_hosts, is_private, parse_literal
from ptt.core.verdict import Failure, Fault, decide_fault

DNS_S = 30.0
"""Seconds that one attempt waits for the DNS in all: ten hosts with slow servers must not add up."""

Candidate = Target | Failure
"""Somewhere to go, or why a host or the whole destination cannot be gone to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Finds targets; keeps nothing."""

    resolver: Resolver
    own_name: str
    shuffle: Callable[[list[str]], None]
    allow_private_addresses: bool
    timeout_s: float = DNS_S

    async def find(self, destination: Domain) -> AsyncGenerator[Candidate, None]:
        """Give the targets of a destination in the order to try them, and in between what stands against others."""
        address = parse_literal(destination)
        if address is not None:
            yield self._admit(destination, address)
            return
        clock = asyncio.get_running_loop().time
        started = clock()
        hosts = await self._find_hosts(destination)
        spent_s = clock() - started
        if not isinstance(hosts, tuple):
            yield hosts
            return
        for host in hosts:
            if spent_s >= self.timeout_s:
                yield decide_fault(Fault.DNS_UNAVAILABLE, peer=Peer(mx_host=host), detail="too slow")
                return
            started = clock()
            candidates = await self._find_addresses(host)
            spent_s += clock() - started
            for candidate in candidates:
                yield candidate

    async def _find_hosts(self, destination: Domain) -> tuple[str, ...] | Failure:
        try:
            records = await self.resolver.resolve_mx(destination)
            hosts = decide_hosts(destination, records, self.shuffle, self.own_name)
        except NullMx:
            return decide_fault(Fault.NULL_MX)
        except NoSuchDomain:
            return decide_fault(Fault.NO_SUCH_DOMAIN)
        except Unavailable as error:
            return decide_fault(Fault.DNS_UNAVAILABLE, detail=str(error))
        # RFC 5321 section 5.1: if only we ourselves are left, mail would loop.
        return hosts or decide_fault(Fault.LOOP)

    async def _find_addresses(self, host: str) -> list[Candidate]:
        peer = Peer(mx_host=host)
        try:
            addresses = decide_addresses(await self.resolver.resolve_addresses(host))
        except NoSuchDomain:
            addresses = ()
        except Unavailable as error:
            return [decide_fault(Fault.DNS_UNAVAILABLE, peer=peer, detail=str(error))]
        if not addresses:
            return [decide_fault(Fault.NO_ADDRESS, peer=peer)]
        return [self._admit(host, address) for address in addresses]

    def _admit(self, host: str, address: IPAddress) -> Candidate:
        if is_private(address) and not self.allow_private_addresses:
            return decide_fault(Fault.PRIVATE_ADDRESS, peer=Peer(mx_host=host, address=str(address)))
        return Target(host, address)
