"""The PROXY protocol, versions 1 and 2: by which a load balancer says on whose behalf it connects.

Specification: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt. Knows no network: octets in, address out.
"""

import ipaddress
import struct
from dataclasses import dataclass

from ptt.core.errors import MalformedInput

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""How version 2 begins."""
MAX_V1 = 107
"""Octets of the longest header of version 1, with CRLF (section 2.1)."""
MAX_V2 = 2048
"""Octets of addresses and extensions that are waited for: addresses take 36, what is said of TLS some hundreds."""
_V1_PREFIX = b"PROXY "
_HEAD = struct.Struct(">12sBBH")
_VERSION_2 = 0x20
_LOCAL, _PROXY = 0x00, 0x01
_TCP4, _TCP6 = 0x11, 0x21
_V1_VERSIONS = {"TCP4": 4, "TCP6": 6}
_V1_WORDS = 6
_MAX_PORT = 65_535
_ADDRESS_BYTES = {_TCP4: 4, _TCP6: 16}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says."""

    address: str
    """IP address of the client; empty if the connection is the proxy's own, or nothing is known of the client."""
    size_bytes: int
    """Octets that it takes; what follows is the client's."""


def parse_proxy_header(octets: bytes) -> ProxyHeader | None:
    """Read the header that a connection begins with.

    Args:
        octets: what has arrived so far.

    Returns:
        The header, or None while it is not complete.

    Raises:
        MalformedInput: this is no header, and will not become one.
    """
    if octets[: len(SIGNATURE)] == SIGNATURE[: len(octets)]:
        return _parse_v2(octets)
    if octets[: len(_V1_PREFIX)] == _V1_PREFIX[: len(octets)]:
        return _parse_v1(octets)
    raise MalformedInput("no PROXY header")


def _parse_v1(octets: bytes) -> ProxyHeader | None:
    end = octets.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(octets) >= MAX_V1:
            raise MalformedInput("PROXY header without an end")
        return None
    size_bytes = end + 2
    try:
        words = octets[:end].decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise MalformedInput("PROXY header is not ASCII") from error
    # Section 2.1: behind UNKNOWN, anything up to CRLF is to be ignored.
    if words[1] == "UNKNOWN":
        return ProxyHeader("", size_bytes)
    if len(words) != _V1_WORDS or words[1] not in _V1_VERSIONS:
        raise MalformedInput("PROXY header has other words than it should")
    source, _ = (_parse_address(text, _V1_VERSIONS[words[1]]) for text in words[2:4])
    for port in words[4:]:
        if not (port.isdecimal() and str(int(port)) == port and int(port) <= _MAX_PORT):
            raise MalformedInput("PROXY header with a port that is none")
    return ProxyHeader(source, size_bytes)


def _parse_address(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise MalformedInput("PROXY header with an address that is none") from error
    if address.version != version or "%" in text:
        raise MalformedInput("PROXY header with an address of another family")
    return str(address)


def _parse_v2(octets: bytes) -> ProxyHeader | None:
    if len(octets) < _HEAD.size:
        return None
    _, version_command, family, length = _HEAD.unpack_from(octets)
    command = version_command & 0x0F
    if version_command & 0xF0 != _VERSION_2 or command not in {_LOCAL, _PROXY}:
        raise MalformedInput("PROXY header of another version or command")
    if length > MAX_V2:
        raise MalformedInput("PROXY header is too long")
    size_bytes = _HEAD.size + length
    if len(octets) < size_bytes:
        return None
    # Section 2.2: LOCAL is the proxy's own connection, a health check; what stands behind it is to be skipped. In a
    # family that is not TCP over IP (unspecified, unix) the client is not known.
    if command == _LOCAL or family not in _ADDRESS_BYTES:
        return ProxyHeader("", size_bytes)
    width = _ADDRESS_BYTES[family]
    if length < 2 * width + 4:
        raise MalformedInput("PROXY header is too short for its addresses")
    packed = octets[_HEAD.size : _HEAD.size + width]
    return ProxyHeader(str(ipaddress.ip_address(packed)), size_bytes)
