"""Names and addresses of clients."""

import ipaddress
import re

MAX_CLIENT_NAME = 255  # octets; RFC 5321 section 4.5.3.1.2
_CLIENT_NAME = re.compile(r"[!-~]+")


def is_client_name(text: str) -> bool:
    """Tell whether EHLO may say so; whether it is true is not asked (RFC 5321 section 4.1.4)."""
    return len(text) <= MAX_CLIENT_NAME and _CLIENT_NAME.fullmatch(text) is not None


def format_peer(peername: object) -> str:
    """Write the IP address of a client: without zone, and IPv4 where it came as mapped IPv6."""
    if not isinstance(peername, tuple) or not peername:
        return "0.0.0.0"  # noqa: S104 - no listener: the client hung up before it could be asked who it was
    address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
