"""Canonicalisation in linear time. RFC 6376 section 3.4.

dkimpy's own takes a time that grows with the square of a run of blanks: 12 s of CPU for one line of 64 KB. Here each
step is one pass of ``bytes.replace`` or ``bytes.translate`` over the text, and runs of blanks halve with every pass.

Knows no keys and no dkimpy; takes text in which each CR and LF is part of a CRLF.
"""

import re

_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_TAB_TO_BLANK = bytes.maketrans(b"\t", b" ")


def relax_body(body: bytes) -> bytes:
    """Canonicalise a body; one that lacks its last CRLF is taken as if it had it, since SMTP adds it."""
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    kept = _reduce_blanks(body).rstrip(b"\r\n")
    # RFC 6376 section 3.4.4: empty lines at the end are ignored, and a body without any other line is empty.
    return kept + b"\r\n" if kept else b""


def simplify_body(body: bytes) -> bytes:
    """Canonicalise a body the simple way (RFC 6376 section 3.4.3): empty lines at the end are one CRLF."""
    return body.rstrip(b"\r\n") + b"\r\n"


def split_header(header: bytes) -> list[bytes]:
    """Split a header into fields as they stand, without the last CRLF: their simple form (RFC 6376 section 3.4.1)."""
    return _FIELD_END.split(header.removesuffix(b"\r\n")) if header else []


def relax_header(header: bytes) -> list[bytes]:
    """Canonicalise a header.

    Args:
        header: all fields, each ending with CRLF, without the empty line.

    Returns:
        One ``name:value`` for each field, without CRLF, in their order. What has no colon is given as it is.
    """
    unfolded = header.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ")
    return [_relax_field(line) for line in _reduce_blanks(unfolded).split(b"\r\n")[:-1]]


def _relax_field(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    return name.lower().rstrip(b" ") + colon + value.lstrip(b" ")


def _reduce_blanks(text: bytes) -> bytes:
    """Make each run of blanks one space, and none before CRLF."""
    reduced = text.translate(_TAB_TO_BLANK)
    while b"  " in reduced:
        reduced = reduced.replace(b"  ", b" ")
    return reduced.replace(b" \r\n", b"\r\n")
