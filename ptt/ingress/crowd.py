"""How many clients may be connected to a process: in all, and from one network."""

import ipaddress
from collections import Counter
from collections.abc import Hashable

_IPV6_NETWORK_BITS = 64
"""RFC 4291 section 2.5.4: one host has a whole /64 of addresses, so that is what counts as one."""


class Crowd:
    """The places of one process; each visitor has one at most."""

    def __init__(self, max_total: int, max_per_network: int) -> None:
        """Start empty.

        Args:
            max_total: places in all.
            max_per_network: places for one IPv4 address or one IPv6 /64: one client must not take them all.
        """
        self._max_total = max_total
        self._max_per_network = max_per_network
        self._networks: dict[Hashable, str] = {}
        self._per_network: Counter[str] = Counter()

    def __len__(self) -> int:
        """Tell how many have a place."""
        return len(self._networks)

    def __contains__(self, visitor: Hashable) -> bool:
        """Tell whether a visitor has a place."""
        return visitor in self._networks

    def enter(self, visitor: Hashable) -> bool:
        """Take a place, for somebody whose address is not known yet; False if there is none."""
        if len(self._networks) >= self._max_total:
            return False
        self._networks[visitor] = ""
        return True

    def settle(self, visitor: Hashable, address: str) -> bool:
        """Count the place for the network of this IP address; False, and no place, if it has its share already."""
        network = name_network(address)
        if self._per_network[network] >= self._max_per_network:
            self.leave(visitor)
            return False
        self._networks[visitor] = network
        self._per_network[network] += 1
        return True

    def leave(self, visitor: Hashable) -> None:
        """Give the place back, if there is one."""
        network = self._networks.pop(visitor, "")
        if not network:
            return
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]


def name_network(address: str) -> str:
    """Name what one client is taken to be: an IPv4 address, or the /64 of an IPv6 one."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:  # noqa: PLR2004 - IP version
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
