"""Dot-stuffing across parts, bare newlines, the header scan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.smtp.content import BLOCK, BareNewline, DotStuffer, HeaderScan, cut

LINES = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x.", b"hello", b"\xc3\xa4", b" ."]), max_size=8)


def stuff(parts: list[bytes]) -> bytes:
    """Give all that goes over the wire."""
    stuffer = DotStuffer()
    return b"".join([*(stuffer.feed(part) for part in parts), stuffer.finish()])


@given(LINES, st.binary(max_size=3).filter(lambda tail: not set(tail) & set(b"\r\n")), st.data())
def test_stuffer_of_any_parts_equals_the_rule_line_by_line(
    lines: list[bytes], tail: bytes, data: st.DataObject
) -> None:
    """RFC 5321 section 4.5.2: each line that starts with a dot gets one more; where the parts end does not matter."""
    content = b"".join(line + b"\r\n" for line in lines) + tail
    borders = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    parts = [content[a:b] for a, b in zip([0, *borders], [*borders, len(content)], strict=True)]
    wire_lines = [*lines, *([tail] if tail else [])]
    expected = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in wire_lines)
    assert stuff(parts) == expected + b".\r\n"


@given(LINES)
def test_stuffer_fed_byte_by_byte_gives_the_same(lines: list[bytes]) -> None:
    """Parts of one octet, the hardest case of borders."""
    content = b"\r\n".join(lines) + b"\r\n"
    assert stuff([bytes([octet]) for octet in content]) == stuff([content])


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"\n.\r\n", b"a\r\r\n", b"\r\n.\n", b"a\r\n\n", b"a\r"])
@pytest.mark.parametrize("part_bytes", [1, 2, 3, 100])
def test_stuffer_of_bare_newline_refuses(content: bytes, part_bytes: int) -> None:
    """RFC 5321 section 2.3.8: CR and LF go out as CRLF only, lest a server takes ``LF.LF`` for the end."""
    with pytest.raises(BareNewline):
        stuff([content[i : i + part_bytes] for i in range(0, len(content), part_bytes)])


def test_stuffer_of_nothing_is_the_dot_alone() -> None:
    """An empty message is ended by the dot of its first line."""
    assert stuff([]) == b".\r\n"
    assert stuff([b""]) == b".\r\n"


def test_cut_of_a_large_part_gives_blocks() -> None:
    """A message given as one part is written in blocks, none larger than BLOCK."""
    part = bytes(range(256)) * 1000
    blocks = list(cut(part))
    assert b"".join(blocks) == part
    assert max(map(len, blocks)) == BLOCK
    assert list(cut(b"small")) == [b"small"]


@pytest.mark.parametrize("part_bytes", [1, 7, 1000])
@pytest.mark.parametrize(
    ("content", "is_ascii"),
    [
        (b"Subject: a\r\n\r\nb\xc3\xa4", True),
        (b"Subject: \xc3\xa4\r\n\r\nb", False),
        (b"Subject: a\r\n", True),
    ],
)
def test_header_scan_looks_at_the_header_only(content: bytes, part_bytes: int, *, is_ascii: bool) -> None:
    """RFC 6532: UTF-8 in the header needs SMTPUTF8, in the body it does not."""
    scan = HeaderScan()
    for start in range(0, len(content), part_bytes):
        if not scan.is_done:
            scan.feed(content[start : start + part_bytes])
    assert scan.is_ascii is is_ascii


def test_header_scan_without_an_end_stops() -> None:
    """A header that never ends is not read for ever."""
    scan = HeaderScan()
    scan.feed(b"x" * 2_000_000)
    assert scan.is_done
