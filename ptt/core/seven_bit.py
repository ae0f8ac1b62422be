"""Makes a message 7-bit before it is signed, so that no hop on its way has a reason to touch what the signature covers.

Leaves with octets beyond ASCII become quoted-printable if they are text, else base64. What cannot be re-encoded without
harm is left as it is, as a whole: headers in UTF-8, parts that others have signed or encrypted. Text without MIME gets
MIME. RFC 6376 section 5.3, RFC 1428, RFC 2045 section 6, RFC 2046 section 5, RFC 6152 section 3.
"""

import base64
import quopri
import re
from collections.abc import Sequence
from email.message import Message

from ptt.core.headers import Field, list_fields

MAX_DEPTH = 20
"""Parts within parts: a message of ten thousand must not exhaust the stack."""

_ENCODING = b"content-transfer-encoding"
_IDENTITY = frozenset({"7bit", "8bit", "binary"})
_SEALED = frozenset({"multipart/signed", "multipart/encrypted", "message/partial", "message/external-body"})
_EMBEDDED = frozenset({"message/rfc822", "message/global"})


def make_seven_bit(content: bytes) -> bytes:
    """Re-encode a message.

    Args:
        content: RFC 5322 message, CRLF.

    Returns:
        The message in ASCII, or the same as before if it cannot be.
    """
    return content if content.isascii() else _convert(_declare(content), MAX_DEPTH) or content


def _declare(content: bytes) -> bytes:
    """Let a message without MIME say what it is: what mail programs take it for."""
    header, body = _split(content)
    names = {field.name for field in list_fields(header)}
    if b"mime-version" in names:
        return content
    declared = b"MIME-Version: 1.0\r\n"
    if b"content-type" not in names:
        declared += b"Content-Type: text/plain; charset=%b\r\n" % _guess_charset(body)
    return b"".join((header, declared, b"\r\n", body))


def _guess_charset(body: bytes) -> bytes:
    try:
        body.decode()
    except UnicodeDecodeError:
        # RFC 1428 section 3: nobody said; the octets stay what they are.
        return b"unknown-8bit"
    return b"utf-8"


def _convert(entity: bytes, depth: int) -> bytes | None:
    """Re-encode a message or a part; None if that would do harm."""
    header, body = _split(entity)
    fields = list_fields(header)
    if not header.isascii() or sum(len(field.raw) for field in fields) != len(header):
        return None
    if body.isascii():
        return entity
    described = Message()
    for field in fields:
        if field.name in {b"content-type", _ENCODING} and field.name.decode() not in described:
            described[field.name.decode()] = field.value.decode().replace("\r\n", "").strip()
    kind = described.get_content_type()
    if not depth or kind in _SEALED or str(described.get(_ENCODING.decode(), "7bit")).lower() not in _IDENTITY:
        return None
    encoding, converted = _convert_body(body, kind, described.get_boundary(), depth)
    return None if converted is None else _replace_encoding(fields, encoding) + b"\r\n" + converted


def _convert_body(body: bytes, kind: str, boundary: str | None, depth: int) -> tuple[str, bytes | None]:
    if kind.startswith("multipart/"):
        return "7bit", _convert_parts(body, boundary, depth) if boundary and boundary.isascii() else None
    if kind in _EMBEDDED:
        return "7bit", _convert(body, depth - 1)
    if kind.startswith("text/"):
        # The encoder ends lines at LF; the message has no CR nor LF but in CRLF.
        return "quoted-printable", quopri.encodestring(body.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    return "base64", base64.encodebytes(body).replace(b"\n", b"\r\n")


def _convert_parts(body: bytes, boundary: str, depth: int) -> bytes | None:
    # RFC 2046 section 5.1.1: the CRLF in front of a delimiter belongs to it, blanks behind it are padding.
    delimiter = re.compile(rb"((?:\A|\r\n)--%b(?:--)?[ \t]*+(?:\r\n|\Z))" % re.escape(boundary.encode()))
    preamble, *rest = delimiter.split(body)
    pieces = [preamble]
    for index in range(0, len(rest), 2):
        mark, part = rest[index], rest[index + 1]
        is_part = not mark.strip().endswith(b"--") or boundary.endswith("--")
        converted = _convert(part, depth - 1) if is_part else part
        if converted is None:
            return None
        pieces += [mark, converted]
    whole = b"".join(pieces)
    return whole if whole.isascii() else None


def _split(entity: bytes) -> tuple[bytes, bytes]:
    if entity.startswith(b"\r\n"):
        return b"", entity[2:]
    header, blank, body = entity.partition(b"\r\n\r\n")
    return (header + b"\r\n", body) if blank else (entity, b"")


def _replace_encoding(fields: Sequence[Field], encoding: str) -> bytes:
    kept = [field.raw for field in fields if field.name != _ENCODING]
    return b"".join([*kept, f"Content-Transfer-Encoding: {encoding}\r\n".encode()])
