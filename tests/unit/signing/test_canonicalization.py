"""Relaxed canonicalisation: the standard's examples, dkimpy's results, and linear time."""

import base64
import hashlib
from typing import SupportsIndex

import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Buffer, override

from ptt.signing.canonicalization import relax_body, relax_header, simplify_body, split_header

PIECES = st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"B.", b"\xe4", b":"])
BODIES = st.lists(PIECES, max_size=40).map(b"".join)
VALUES = st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b":", b"\xe4"]), max_size=20).map(b"".join)
NAMES = st.sampled_from([b"From", b"SUBJECT", b"x-a"])
MEBIBYTES_4 = 4_194_304
LINE_BYTES = 998  # RFC 5321 section 4.5.3.1.6, without CRLF


def test_relax_body_of_the_standards_example_gives_its_result() -> None:
    """RFC 6376 section 3.4.5."""
    assert relax_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"


def test_relax_header_of_the_standards_example_gives_its_result() -> None:
    """RFC 6376 section 3.4.5."""
    assert relax_header(b"A: X\r\nB : Y\t\r\n\tZ  \r\n") == [b"a:X", b"b:Y Z"]


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" \t\r\n \r\n", b" \t"])
def test_relax_body_without_text_has_the_hash_of_nothing(body: bytes) -> None:
    """RFC 6376 section 3.4.4 gives the hash: of no octets at all."""
    digest = hashlib.sha256(relax_body(body)).hexdigest()
    assert digest == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_relax_body_without_last_crlf_adds_it() -> None:
    """RFC 6376 section 3.4.4: a body that is not empty ends with CRLF."""
    assert relax_body(b"a\r\nb \t") == b"a\r\nb\r\n"


@given(BODIES)
def test_relax_body_of_any_lines_equals_dkimpys(body: bytes) -> None:
    """The linear way gives what the quadratic one does."""
    body += b"\r\n"
    assert relax_body(body) == Relaxed.canonicalize_body(body)


@given(BODIES)
def test_relax_body_of_its_own_result_changes_nothing(body: bytes) -> None:
    """What is canonical is canonical."""
    assert relax_body(relax_body(body)) == relax_body(body)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_relax_header_of_any_fields_equals_dkimpys(fields: list[tuple[bytes, bytes]]) -> None:
    """The whole header at once gives what field by field does."""
    header = b"".join(name + b":" + value + b"\r\n" for name, value in fields)
    expected = Relaxed.canonicalize_headers([(name, value + b"\r\n") for name, value in fields])
    assert relax_header(header) == [name + b":" + value.removesuffix(b"\r\n") for name, value in expected]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"x" + b" " * MEBIBYTES_4 + b"y\r\n", b"x y\r\n"),
        (b"x" + b"\t" * MEBIBYTES_4 + b"\r\n", b"x\r\n"),
        (b"x\r\n" + (b" " * LINE_BYTES + b"\r\n") * 4200, b"x\r\n"),
        (b"x\r\n" + b"\r\n" * 2_097_152 + b"y\r\n", b"x\r\n" + b"\r\n" * 2_097_152 + b"y\r\n"),
        (b"a  " * 1_398_101 + b"\r\n", b"a " * 1_398_100 + b"a\r\n"),
    ],
    ids=["blanks", "tabs", "blank lines", "empty lines", "blanks in text"],
)
def test_relax_body_of_four_mebibytes_of_blanks_ends(body: bytes, expected: bytes) -> None:
    """One message must not hold a signing process: the first of these takes dkimpy's own way hours."""
    assert relax_body(body) == expected


class _CountingBytes(bytes):
    """Counts the octets that each pass goes over."""

    passed = 0

    @override
    def replace(self, old: Buffer, new: Buffer, count: SupportsIndex = -1, /) -> "_CountingBytes":
        """Count, and go on counting."""
        _CountingBytes.passed += len(self)
        return _CountingBytes(super().replace(old, new, count))

    @override
    def translate(self, table: Buffer | None, /, delete: Buffer = b"") -> "_CountingBytes":
        """Count, and go on counting."""
        _CountingBytes.passed += len(self)
        return _CountingBytes(super().translate(table, delete))


@pytest.mark.parametrize("unit", [b" ", b"\t", b" a", b"\r\n", b"  \r\n"])
def test_relax_body_of_twice_the_length_takes_about_twice_the_work(unit: bytes) -> None:
    """The work grows with the length of the body and not with its square."""
    work = []
    for count in (10_000, 20_000):
        _CountingBytes.passed = 0
        relax_body(_CountingBytes(unit * count + b"x\r\n"))
        work.append(_CountingBytes.passed)
    assert work[0] > 0
    assert work[1] < 2.2 * work[0]


def test_simple_forms_of_the_standards_example_give_its_results() -> None:
    """RFC 6376 section 3.4.5, example 2: nothing changes but the empty lines at the end of the body."""
    assert split_header(b"A: X\r\nB : Y\t\r\n\tZ  \r\n") == [b"A: X", b"B : Y\t\r\n\tZ  "]
    assert simplify_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C \r\nD \t E\r\n"


def test_simple_body_without_text_has_the_hash_of_one_crlf() -> None:
    """RFC 6376 section 3.4.3 names the SHA-256 of an empty body in base64."""
    for body in (b"", b"\r\n", b"\r\n\r\n"):
        digest = base64.b64encode(hashlib.sha256(simplify_body(body)).digest())
        assert digest == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
