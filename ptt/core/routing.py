"""Which hosts and addresses of a destination are tried, in which order. RFC 5321 sections 5.1 and 5.2, RFC 7505."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import chain, zip_longest

from ptt.core.address import Domain
from ptt.core.errors import PttError

IPAddress = IPv4Address | IPv6Address

MAX_HOSTS = 10
"""How many MX hosts one attempt looks at: a zone with 1,000 MX records must not hold a worker for hours."""

MAX_ADDRESSES = 4
"""How many addresses of one host are tried; RFC 5321 section 5.1 asks for two at least."""

_PRIVATE_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by a carrier's customers
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; cloud metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",  # reserved and broadcast
    )
)
_PRIVATE_V6 = tuple(
    IPv6Network(network)
    for network in (
        "::/96",  # unspecified, loopback, IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped: no AAAA record has a reason to hold one
        "64:ff9b:1::/48",  # NAT64 of a local network
        "100::/64",  # discard
        "2001::/32",  # Teredo: hides an IPv4 address
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, order=True)
class Mx:
    """One MX record; the exchange ``.`` or the empty name is the null MX (RFC 7505)."""

    preference: int
    exchange: str


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one mail host: what one connection goes to."""

    mx_host: str
    address: IPAddress


class NullMx(PttError):  # noqa: N818 - the standard's name (RFC 7505)
    """The domain says that it takes no mail: 556 5.1.10, never retried."""


def decide_hosts(
    destination: Domain, records: Sequence[Mx], shuffle: Callable[[list[str]], None], own_name: str = ""
) -> tuple[str, ...]:
    """Order the MX hosts of a destination.

    Args:
        destination: the domain, for the implicit MX.
        records: all its MX records, maybe none.
        shuffle: shuffles a list in place.
        own_name: our own host name: hosts at and behind it are cut, lest mail loop.

    Returns:
        Host names in the order to try, at most MAX_HOSTS; empty if only we ourselves are left.

    Raises:
        NullMx: if the domain takes no mail.
    """
    if not records:
        return (destination,)  # RFC 5321 section 5.1: an empty list is an implicit MX of preference 0.
    hosts = [(record.preference, record.exchange.rstrip(".").lower()) for record in sorted(records)]
    # RFC 7505 section 3: the root as exchange means no mail; beside a usable MX it is a mistake and left out.
    if not any(name for _, name in hosts):
        raise NullMx(destination)
    own_name = own_name.rstrip(".").lower()
    own = min((preference for preference, name in hosts if name == own_name), default=None)
    groups: dict[int, list[str]] = {}
    for preference, name in hosts:
        # RFC 5321 section 5.1: with our own name in the list, only hosts that are preferred to us may be tried.
        if name and (own is None or preference < own):
            groups.setdefault(preference, []).append(name)
    for group in groups.values():
        shuffle(group)  # RFC 5321 section 5.1: the sender MUST randomise among equal preferences.
    return tuple(dict.fromkeys(chain.from_iterable(groups.values())))[:MAX_HOSTS]


def is_own_host(mx_host: str, destination: Domain) -> bool:
    """Tell whether a mail host bears the name of the domain it serves, or one below it.

    The threat: who forges the answer to an MX query sends the mail to a host of his own, for whose name he has a
    certificate. Nobody has one for a name of the domain but who holds the domain.
    """
    return f".{mx_host.lower().rstrip('.')}".endswith(f".{destination}")


def decide_addresses(addresses: Sequence[IPAddress]) -> tuple[IPAddress, ...]:
    """Order the addresses of one host: IPv6 and IPv4 in turn, so that a network without one loses one try only.

    Args:
        addresses: all AAAA and A records, in the order of the DNS.

    Returns:
        Those to try, at most MAX_ADDRESSES.
    """
    by_version = ([a for a in addresses if a.version == version] for version in (6, 4))
    in_turn = chain.from_iterable(zip_longest(*by_version))
    return tuple(dict.fromkeys(address for address in in_turn if address is not None))[:MAX_ADDRESSES]


def is_private(address: IPAddress) -> bool:
    """Tell whether mail to the address could reach a machine that is not on the public Internet.

    The threat: whoever owns a domain chooses its MX, and so could make the relay talk to services behind the firewall.
    """
    if isinstance(address, IPv4Address):
        return any(address in network for network in _PRIVATE_V4)
    if address in _NAT64:
        return is_private(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour:  # RFC 3056: the IPv4 address is a part of it
        return is_private(address.sixtofour)
    return any(address in network for network in _PRIVATE_V6)


def parse_literal(destination: Domain) -> IPAddress | None:
    """Give the address of an address literal such as ``[192.0.2.1]``, or None for a name (RFC 5321 section 4.1.3)."""
    if not destination.startswith("["):
        return None
    return ip_address(destination.strip("[]").removeprefix("IPv6:"))
