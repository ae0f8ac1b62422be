"""The reader of content: where it ends, what is wrong with it, and that pieces make no difference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.errors import Refused
from ptt.core.reply import Reply
from ptt.ingress.data import (
    BARE_LINE_END,
    LINE_TOO_LONG,
    NUL_OCTET,
    TOO_LARGE,
    DataReader,
    check_octets,
)
from tests.cpu import measure_cpu_s
from tests.memory import tracing_memory

LIMIT = 10_000
Outcome = tuple[bytes | Reply, bytes]
"""Content or refusal, and what came after it."""

NOT_THE_END = (
    *(b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n"),
    *(b"\r\n\0.\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n"),
)


def read(*pieces: bytes, limit: int = LIMIT) -> Outcome | None:
    """Feed pieces; None if they do not reach the end."""
    reader = DataReader(limit)
    for number, piece in enumerate(pieces):
        rest = reader.feed(piece)
        if rest is not None:
            try:
                return reader.finish(), rest + b"".join(pieces[number + 1 :])
            except Refused as refusal:
                return refusal.reply, rest + b"".join(pieces[number + 1 :])
    return None


def one_by_one(octets: bytes) -> list[bytes]:
    """Cut into single octets."""
    return [octets[i : i + 1] for i in range(len(octets))]


@pytest.mark.parametrize(
    ("octets", "content", "rest"),
    [
        (b".\r\n", b"", b""),
        (b".\r\nQUIT\r\n", b"", b"QUIT\r\n"),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"\r\n.\r\n.\r\n", b"\r\n", b".\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"..x\r\n...\r\n.y\r\n.\r\n", b".x\r\n..\r\ny\r\n", b""),
        (b"a\r\n..\r\n\r\n.\r\nMAIL", b"a\r\n.\r\n\r\n", b"MAIL"),
        (b"a\x0bb\x0cc\x85d\xe2\x80\xa8e\r\n.\r\n", b"a\x0bb\x0cc\x85d\xe2\x80\xa8e\r\n", b""),
        (b"x" * 998 + b"\r\n.\r\n", b"x" * 998 + b"\r\n", b""),
        (b"." + b"." * 998 + b"\r\n.\r\n", b"." * 998 + b"\r\n", b""),
    ],
)
def test_content_ends_at_the_dot_and_loses_its_stuffing(octets: bytes, content: bytes, rest: bytes) -> None:
    """RFC 5321 sections 4.1.1.4 and 4.5.2; VT, FF, NEL and U+2028 are no line ends."""
    assert read(octets) == (content, rest)
    assert read(*one_by_one(octets)) == (content, rest)


@pytest.mark.parametrize("octets", [b"", b".", b".\r", b"a\r\n.\r", b"a.\r\n", b"a\r\n..\r\n", *NOT_THE_END])
def test_content_without_the_end_goes_on(octets: bytes) -> None:
    """RFC 5321 section 4.1.1.4: CRLF.CRLF and nothing that looks like it."""
    assert read(octets) is None
    assert read(b"a", octets) is None


@pytest.mark.parametrize("sequence", NOT_THE_END)
@pytest.mark.parametrize("before", [b"", b"Subject: x\r\n\r\nbody"])
def test_smuggled_end_is_refused_at_the_true_end(before: bytes, sequence: bytes) -> None:
    """What follows a false end is content until the true one, and then all of it is refused."""
    octets = before + sequence + b"MAIL FROM:<x@evil.test>\r\n.\r\nNOOP\r\n"
    expected = NUL_OCTET if b"\0" in sequence else BARE_LINE_END
    assert read(octets) == (expected, b"NOOP\r\n")
    assert read(*one_by_one(octets)) == (expected, b"NOOP\r\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\r\n", BARE_LINE_END),
        (b"a\rb\r\n", BARE_LINE_END),
        (b"a\r\r\n", BARE_LINE_END),
        (b"a\n\r\n\r", BARE_LINE_END),
        (b"\r\n\0\r\n", NUL_OCTET),
        (b"x" * 999 + b"\r\n", LINE_TOO_LONG),
        (b"a\r\n" + b"x" * 9000 + b"\r\n", LINE_TOO_LONG),
        ((b"x" * 98 + b"\r\n") * 101, TOO_LARGE),
        (b"x" * (5 * LIMIT), TOO_LARGE),
    ],
)
def test_faulty_content_is_refused_at_the_end(content: bytes, expected: Reply) -> None:
    """The refusal waits for the end, so that the rest of the session is read as commands again."""
    assert read(content + b"\r\n.\r\nNOOP\r\n") == (expected, b"NOOP\r\n")


def test_content_of_exactly_the_limit_is_accepted() -> None:
    """RFC 1870 section 5: the size is that of the message, without what dot-stuffing adds."""
    content = b".\r\n" * (LIMIT // 3)
    limit = len(content)
    assert read(content.replace(b".", b"..") + b".\r\n", limit=limit) == (content, b"")
    assert read(content.replace(b".", b"..") + b".\r\n", limit=limit - 1) == (TOO_LARGE, b"")


def test_endless_content_takes_no_more_memory_than_the_limit() -> None:
    """What is over the limit is searched for the end and thrown away."""
    reader = DataReader(LIMIT)
    piece = b"x" * 65_536
    with tracing_memory() as measure:
        for _ in range(500):
            assert reader.feed(piece) is None
        _, peak = measure()
    assert peak < 400_000
    assert reader.held_bytes < 10
    assert reader.feed(b"\r\n.\r\nQUIT") == b"QUIT"


def test_refused_reader_finds_the_end_and_gives_the_first_reason() -> None:
    """A refusal from outside drops the content and nothing else."""
    reader = DataReader(LIMIT)
    assert reader.feed(b"abc\r\n.") is None
    reader.refuse(NUL_OCTET)
    reader.refuse(TOO_LARGE)
    assert reader.feed(b"\r\nNOOP\r\n") == b"NOOP\r\n"
    with pytest.raises(Refused) as caught:
        reader.finish()
    assert caught.value.reply == NUL_OCTET


@pytest.mark.parametrize("unit", [b"\r\n", b".\r\n", b"..\r\n", b"x", b"\0", b"\r", b"x\r\n" + b"y" * 997 + b"\r\n"])
def test_large_content_takes_linear_time(unit: bytes) -> None:
    """Ten megabytes of anything cost a fraction of a second, as ordinary mail does."""

    def measure(size_bytes: int) -> float:
        content = unit * (size_bytes // len(unit))
        return measure_cpu_s(lambda: read(content, b"\r\n.\r\n", limit=20_000_000))

    assert read(unit * (10_000_000 // len(unit)), b"\r\n.\r\n", limit=20_000_000) is not None
    large_s = measure(10_000_000)
    assert large_s < 1.5 or large_s < 24 * measure(1_250_000)


@pytest.mark.parametrize("unit", [b"\r\n", b"x\r\n", b"x" * 76 + b"\r\n"])
def test_check_makes_nothing_of_each_line(unit: bytes) -> None:
    """A message of empty lines must not be dearer than another: lines are looked at where they are."""
    content = unit * (1_000_000 // len(unit))
    with tracing_memory() as measure:
        assert found_fault(content) is None
        _, peak = measure()
    assert peak < 200_000  # of a piece: octets, and what is made of them


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"a", b"\0", b"\r\n.\r\n"]), max_size=30), st.data())
def test_pieces_make_no_difference(units: list[bytes], data: st.DataObject) -> None:
    """However the octets are cut, the outcome is that of the whole, and the whole ends where a plain search says."""
    octets = b"".join(units)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=8)))
    pieces = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    whole = read(octets)
    assert read(*pieces) == whole
    assert read(*one_by_one(octets)) == whole
    end = (b"\r\n" + octets).find(b"\r\n.\r\n")
    assert (whole is None) == (end < 0)
    if whole is not None:
        assert whole[1] == octets[end + 3 :]


def reference_fault(content: bytes) -> Reply | None:
    """Say what is wrong with content that ends with CRLF, by looking at each octet and each line."""
    if 0 in content:
        return NUL_OCTET
    lines = content.split(b"\r\n")
    if any(13 in line or 10 in line for line in lines):
        return BARE_LINE_END
    return LINE_TOO_LONG if any(len(line) > 998 for line in lines) else None


def found_fault(content: bytes) -> Reply | None:
    """Give the refusal, if any."""
    try:
        check_octets(content)
    except Refused as refusal:
        return refusal.reply
    return None


@given(
    st.lists(
        st.sampled_from([b"\r\n", b"\r", b"\n", b"\0"])
        | st.integers(0, 1005).map(lambda length: b"x" * length + b"\r\n")
        | st.integers(64, 66).map(lambda thousands: b"a line\r\n" * (thousands * 128)),
        max_size=6,
    )
)
def test_faults_are_found_as_by_looking_at_each_octet(units: list[bytes]) -> None:
    """Working block by block finds what a slow look finds; of two faults either may be named."""
    content = b"".join(units) + b"\r\n"
    expected, found = reference_fault(content), found_fault(content)
    assert found == expected or (expected and found in {BARE_LINE_END, LINE_TOO_LONG})
