"""The PROXY protocol: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, fed whole and octet by octet."""

import struct

import pytest

from ptt.core.errors import MalformedInput
from ptt.core.proxy import SIGNATURE, ProxyHeader, parse_proxy_header

V4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack(">HH", 5000, 465)
V6 = bytes.fromhex("20010db8000000000000000000000007" + "20010db8000000000000000000000001") + struct.pack(">HH", 1, 2)


def write_v2(command: int, family: int, addresses: bytes, length: int | None = None) -> bytes:
    """Write a header of version 2."""
    size = len(addresses) if length is None else length
    return SIGNATURE + struct.pack(">BBH", command, family, size) + addresses


GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 465\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 465\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff::1 anything 7 8\r\n", ""),
    (write_v2(0x21, 0x11, V4), "192.0.2.7"),
    (write_v2(0x21, 0x11, V4 + b"\x04\x00\x02xx"), "192.0.2.7"),
    (write_v2(0x21, 0x21, V6), "2001:db8::7"),
    (write_v2(0x20, 0x00, b""), ""),
    (write_v2(0x20, 0x11, V4), ""),
    (write_v2(0x21, 0x00, b""), ""),
    (write_v2(0x21, 0x31, b"\0" * 216), ""),
]

BAD = [
    b"EHLO client.test\r\n",
    b"\x16\x03\x01\x02\x00",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 5000\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 465 1\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.1 5000 465\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 5000 465\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::1 5000 465\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 465\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 05 465\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 465\r\n",
    b"PROXY TCP4  192.0.2.7 198.51.100.1 1 465\r\n",
    b"PROXY UDP4 192.0.2.7 198.51.100.1 1 465\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4 \xff\r\n",
    b"PROXY TCP4 " + b"1" * 100,
    write_v2(0x11, 0x11, V4),
    write_v2(0x22, 0x11, V4),
    write_v2(0x21, 0x11, V4[:11]),
    write_v2(0x21, 0x21, V4),
    write_v2(0x21, 0x11, b"", length=65_535),
]


@pytest.mark.parametrize(("octets", "address"), GOOD)
def test_header_whole_and_in_pieces_names_the_client(octets: bytes, address: str) -> None:
    """Nothing is said before the last octet is there, and what follows is not the header's."""
    for count in range(len(octets)):
        assert parse_proxy_header(octets[:count]) is None
    for rest in (b"", b"EHLO client.test\r\n"):
        assert parse_proxy_header(octets + rest) == ProxyHeader(address, len(octets))


@pytest.mark.parametrize("octets", BAD)
def test_header_that_is_malformed_is_refused_at_last_with_its_end(octets: bytes) -> None:
    """No client waits for us to make sense of it, and none gets an address that is none."""
    with pytest.raises(MalformedInput):
        parse_proxy_header(octets)
