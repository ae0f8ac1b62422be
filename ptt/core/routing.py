"""In which order the hosts of a destination are tried. RFC 5321 section 5.1, RFC 7505."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ptt.core.address import Domain

IPAddress = IPv4Address | IPv6Address

MAX_HOSTS = 10
"""How many MX hosts one attempt looks at: a zone with 1,000 MX records must not hold a worker for hours."""


@dataclass(frozen=True, slots=True, order=True)
class Mx:
    """One MX record; the exchange ``.`` or the empty name is the null MX (RFC 7505)."""

    preference: int
    exchange: str


@dataclass(frozen=True, slots=True)
class MxHost:
    """A host to try with its addresses, in the order to try them."""

    name: str
    addresses: tuple[IPAddress, ...]


class NullMx(Exception):  # noqa: N818 - the standard's name (RFC 7505)
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
    names = [record.exchange.rstrip(".").lower() for record in records]
    if names == [""]:
        raise NullMx(destination)
    own = min((r.preference for r, name in zip(records, names, strict=True) if name == own_name), default=None)
    groups: dict[int, list[str]] = {}
    for record, name in sorted(zip(records, names, strict=True)):
        # RFC 5321 section 5.1: with our own name in the list, only hosts that are preferred to us may be tried.
        if name and (own is None or record.preference < own):
            groups.setdefault(record.preference, []).append(name)
    ordered: list[str] = []
    for group in groups.values():
        shuffle(group)  # RFC 5321 section 5.1: the sender MUST randomise among equal preferences.
        ordered.extend(name for name in group if name not in ordered)
    return tuple(ordered[:MAX_HOSTS])
