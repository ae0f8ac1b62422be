"""Lines out of octets: CRLF only, any pieces, and flat memory whatever comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.ingress.inbox import MAX_LINE, Inbox
from tests.memory import tracing_memory


def drain(inbox: Inbox) -> list[bytes]:
    """Take all complete lines."""
    lines = []
    while (line := inbox.take_line()) is not None:
        lines.append(line)
    return lines


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"NOOP"]), max_size=30), st.integers(1, 7))
def test_lines_end_at_crlf_only_and_pieces_make_no_difference(units: list[bytes], size: int) -> None:
    """A bare CR or LF is an octet of the line like any other (RFC 5321 section 2.3.8)."""
    octets = b"".join(units)
    expected = octets.split(b"\r\n")
    inbox, found = Inbox(), []
    for start in range(0, len(octets), size):
        inbox.feed(octets[start : start + size])
        found += drain(inbox)
    assert found == expected[:-1]
    assert bytes(inbox.take_all()) == expected[-1]


@pytest.mark.parametrize("size", [1000, MAX_LINE + 1, 65_536])
def test_endless_line_comes_out_cut_and_the_next_one_whole(size: int) -> None:
    """Ten megabytes without CRLF take no memory, and what follows the line is not lost."""
    inbox = Inbox()
    piece = b"x" * size
    with tracing_memory() as measure:
        for _ in range(10_000_000 // size):
            inbox.feed(piece)
            assert inbox.take_line() is None
        _, peak = measure()
    assert peak < 300_000
    inbox.feed(b"x\r")
    assert inbox.take_line() is None
    inbox.feed(b"\nNOOP\r\n")
    first, second = drain(inbox)
    assert len(first) == MAX_LINE + 1
    assert second == b"NOOP"


@pytest.mark.parametrize(
    ("count", "taken", "line"), [(0, b"", b"helloQUIT"), (5, b"hello", b"QUIT"), (11, b"helloQUIT\r\n", None)]
)
def test_part_is_taken_and_the_rest_stays(count: int, taken: bytes, line: bytes | None) -> None:
    """RFC 3030: the octets of a chunk are counted, whatever they look like."""
    inbox = Inbox()
    inbox.feed(b"helloQUIT\r\n")
    assert inbox.take(count) == taken
    assert inbox.take_line() == line
    assert inbox.take(100) == b""
