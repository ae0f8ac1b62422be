"""The content of messages: how it comes in by DATA and BDAT, what is made of its header, how it is canonicalised."""

import email
import re
from datetime import UTC, datetime

from dkim.canonicalization import Relaxed

from ptt.core.address import Address, Domain
from ptt.core.envelope import QueueId
from ptt.core.errors import Refused
from ptt.core.headers import Author, Stamp, prepare_content, split_header
from ptt.domain_names import to_a_labels
from ptt.ingress.data import MAX_LINE, ChunkReader, DataReader, check_octets
from ptt.signing.canonicalization import relax_body, relax_header
from tests.fuzz.target import Target, cut, split_choice

MAX_CONTENT = 120
"""Small, so that inputs come to the limit."""
STAMP = Stamp(
    hostname=Domain("mail.example.test"),
    queue_id=QueueId("01ARZ3NDEKTSV4RRFFQ6"),
    client_name="client (by) \\ ä",
    client_address="2001:db8::1",
    tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
    received_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
)
_AUTHOR = b"From: a@example.test\r\n"


def check_lines(content: bytes) -> None:
    """Check that a message is made of lines that are not too long, and that no CR, LF or NUL stands elsewhere."""
    lines = content.split(b"\r\n")
    assert not lines.pop()
    assert max(map(len, lines), default=0) <= MAX_LINE
    assert not re.search(rb"[\r\n\0]", b"".join(lines))


def check_data(octets: bytes) -> None:
    """However it is cut, DATA gives what its definition does: content, or a refusal, and the octets behind the end."""
    choice, wire = split_choice(octets)
    reader, rest = DataReader(MAX_CONTENT), None
    pieces = cut(wire, choice)
    for number, piece in enumerate(pieces):
        rest = reader.feed(piece)
        assert reader.held_bytes <= MAX_CONTENT * 4 // 3 + 2 + len(piece)
        if rest is not None:
            rest += b"".join(pieces[number + 1 :])
            break
    before, end, behind = (b"\r\n" + wire).partition(b"\r\n.\r\n")
    assert (rest is not None) == bool(end)
    if rest is not None:
        assert rest == behind
        lines = [line.removeprefix(b".") for line in before.split(b"\r\n")[1:]]
        _check_same(reader, b"".join(line + b"\r\n" for line in lines))


def check_chunks(octets: bytes) -> None:
    """However it is cut, BDAT gives the content as it is, with a line end, by the rules of DATA."""
    choice, wire = split_choice(octets)
    reader = ChunkReader(MAX_CONTENT)
    for piece in cut(wire, choice):
        reader.feed(piece)
        assert reader.held_bytes <= MAX_CONTENT
    # The limit is for what the client sends, not for the line end that is added.
    content = wire if not wire or wire.endswith(b"\r\n") else wire + b"\r\n"
    _check_same(reader, content, size_bytes=len(wire))


def _check_same(reader: DataReader | ChunkReader, expected: bytes, size_bytes: int = -1) -> None:
    refusal = _find_refusal(expected, len(expected) if size_bytes < 0 else size_bytes)
    try:
        content = reader.finish()
    except Refused as refused:
        assert str(refused.reply)[:9] == refusal, (refused.reply, refusal)
    else:
        assert not refusal
        assert content == expected


def _find_refusal(content: bytes, size_bytes: int) -> str:
    if size_bytes > MAX_CONTENT:
        return "552 5.3.4"
    lines = content.split(b"\r\n")
    is_sound = not re.search(rb"[\r\n\0]", b"".join(lines)) and max(map(len, lines)) <= MAX_LINE
    return "" if is_sound else "554 5.6.0"


def check_header(octets: bytes) -> None:
    """Only Refused leaves `prepare_content`; what it gives has the rules of a message, and all parsers agree on it."""
    choice, content = split_choice(octets)
    smtputf8 = bool(choice & 1)
    # Without this few changed messages have an author.
    content = _AUTHOR + content if choice & 2 else content
    content = re.sub(rb"(?<!\r)\n|\r(?!\n)|\0", b"\r\n ", content) if choice & 4 else content
    author = Author(may_send_as=_may_send_as, smtputf8=smtputf8, to_ascii=to_a_labels)
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    try:
        check_octets(content)
        prepared, _ = prepare_content(content, author, STAMP)
    except Refused as refusal:
        assert refusal.reply.code in {550, 552, 554}
        assert str(refusal.reply).isascii()
        return
    check_lines(prepared)
    assert prepared.startswith(b"Received: from ")
    header, _, body = prepared.partition(b"\r\n\r\n")
    assert not [line for line in header.split(b"\r\n") if not line.strip(b" \t")]
    # Where there is no blank line there is no body.
    assert body == content.partition(b"\r\n\r\n")[2]
    fields, _ = split_header(prepared)
    names = [field.name for field in fields]
    for name in (b"from", b"date", b"message-id"):
        assert names.count(name) == 1, (name, names)
    assert not {b"bcc", b"resent-bcc", b"return-path"} & set(names)
    assert smtputf8 or header.isascii()
    _check_read_alike(prepared, names)
    # What was prepared once has nothing more to prepare: one Received on top and no other change.
    again, set_aside = prepare_content(prepared, author, STAMP)
    assert not set_aside
    assert again.endswith(prepared)
    assert again.count(b"\r\n") - prepared.count(b"\r\n") == again[: -len(prepared)].count(b"\r\n")


def _check_read_alike(prepared: bytes, names: list[bytes]) -> None:
    parsed = email.message_from_bytes(prepared)
    assert [name.lower().encode() for name in parsed.keys()] == names  # noqa: SIM118 - with repeats and in order
    assert not [defect for defect in parsed.defects if "Header" in type(defect).__name__]


def _may_send_as(address: Address) -> bool:
    return address.domain == "example.test"


def check_canonical(octets: bytes) -> None:
    """The linear canonicalisation gives what dkimpy's does, for header and body, and changes nothing a second time."""
    # RFC 6376 section 2.8: space and tab are blanks; dkimpy takes two more for such at the ends of a value.
    text = re.sub(rb"\r\n|\r|\n", b"\r\n", octets.translate(None, b"\v\f"))
    header, _, body = text.partition(b"\r\n\r\n")
    body += b"\r\n"
    relaxed = relax_body(body)
    assert relaxed == Relaxed.canonicalize_body(body)
    assert relax_body(relaxed) == relaxed
    fields = re.findall(rb"(?<![^\n])([!-9;-~]+):([^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n)", header + b"\r\n")
    joined = b"".join(name + b":" + value for name, value in fields)
    expected = Relaxed.canonicalize_headers(fields)
    assert relax_header(joined) == [name + b":" + value.removesuffix(b"\r\n") for name, value in expected]


_MESSAGE = b"From: a@example.test\r\nTo: b@b.test\r\nSubject: x\r\n\tfolded\r\n\r\nbody\r\n"
_HEADERS = (
    _MESSAGE,
    b"From: a@example.test\r\n",
    b"from: A <a@example.test>, b@example.test\r\nSender: a@example.test\r\nBcc: c@c.test\r\n d\r\n\r\n.\r\n",
    b"From: a@example.test\r\nDate:\r\nMessage-ID: <a@b>\r\nReturn-Path: <a@b>\r\nTLS-Required: No\r\n\r\n",
    "From: ä <ä@example.test>\r\nSubject: ä\r\n\r\n".encode(),
    b"Received: x\r\nDKIM-Signature: v=1\r\nFrom: a@example.test\r\nX-1:\r\n \r\n\ty\r\n\r\n\r\n\r\n",
)
_LINES = (
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\r\n\t",
    b"\r",
    b"\n",
    b"\0",
    b".",
    b"\r\n.\r\n",
    b"\r\n.",
    b"\n.\n",
    b"\r\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b" ",
    b"\t",
    b"x" * 40,
)
_FIELDS = (
    b"From:",
    b"Sender: a@example.test\r\n",
    b"Bcc:",
    b"Date:",
    b"Message-ID:",
    b"Subject :",
    b"From : a",
    b"Received:",
    b"Resent-From:",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b">From x\r\n",
    b"From x\r\n",
)

TARGETS = (
    Target(
        name="data",
        check=check_data,
        seeds=tuple(
            choice + text
            for choice in (b"\0", b"\x01", b"\x07")
            for text in (
                b".\r\n",
                _MESSAGE + b".\r\nNOOP\r\n",
                b"..\r\n.a\r\n\r\n.\r\n",
                b"a\r\n.\r.\r\n.\r\n",
            )
        ),
        words=_LINES,
        max_bytes=300,
    ),
    Target(
        name="chunks",
        check=check_chunks,
        seeds=tuple(choice + text for choice in (b"\0", b"\x01", b"\x07") for text in (_MESSAGE, b"", b"a", b"a\r")),
        words=_LINES,
        max_bytes=300,
    ),
    Target(
        name="header",
        check=check_header,
        seeds=tuple(
            choice + text
            for choice in (b"\0", b"\1", b"\2", b"\3", b"\6", b"\7")
            for text in (*_HEADERS, b"Subject: x\r\nX: \xc3\xa4\r\n y\r\n\r\nbody\r\n", b"Bcc: b\r\n\r\n")
        ),
        words=_LINES + _FIELDS,
        max_bytes=600,
    ),
    Target(
        name="canonical",
        check=check_canonical,
        seeds=(*_HEADERS, b"a: b \t c\r\nB :\t\r\n \r\n\r\n \t\r\n a  b \r\n\r\n\r\n"),
        words=_LINES,
        max_bytes=300,
    ),
)
