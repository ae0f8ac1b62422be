"""Messages made 7-bit: every mail program reads the same as before, and what cannot be converted stays as it is."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.seven_bit import MAX_DEPTH, make_seven_bit

HEAD = b"From: alice@example.test\r\nMIME-Version: 1.0\r\n"
TEXT = HEAD + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
PART = b"Content-Type: text/html; charset=utf-8\r\n\r\n"


def multipart(*parts: bytes, kind: bytes = b"mixed") -> bytes:
    """Write a multipart of these parts."""
    body = b"".join(b"--b\r\n%b\r\n" % part for part in parts)
    head = b"Content-Type: multipart/%b; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n" % kind
    return head + body + b"--b--\r\nepilogue\r\n"


def nested(part: bytes) -> bytes:
    """Give a multipart a boundary of its own."""
    return part.replace(b"boundary=b", b"boundary=c").replace(b"--b", b"--c")


def leaves(content: bytes) -> list[tuple[str, bytes]]:
    """Give type and decoded octets of each leaf, as the stdlib reads them."""
    message = email.message_from_bytes(content, policy=email.policy.SMTP)
    found = []
    for part in message.walk():
        if not part.is_multipart():
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            found.append((part.get_content_type(), payload))
    return found


@pytest.mark.parametrize(
    "content",
    [
        TEXT + "Grüße\r\n.\r\n..\r\ntrailing blank \r\n\tx=y\r\n".encode(),
        TEXT + "ä".encode() * 5000 + b"\r\n",
        HEAD + "Content-Type: text/plain; charset=utf-8\r\n\r\nno encoding: ä\r\n".encode(),
        HEAD + b"Content-Type: application/octet-stream\r\n\r\n" + bytes(range(128, 256)) * 20 + b"\r\n",
        HEAD + multipart(PART + "<p>ü\r\n".encode(), b"\r\nplain\r\n", b"Content-Type: image/x\r\n\r\n\xff\xfe"),
        HEAD + multipart(nested(multipart(PART + "ö\r\n".encode()))),
        HEAD + multipart(b"Content-Type: message/rfc822\r\n\r\nFrom: x@y.test\r\n" + PART + "ß\r\n".encode()),
    ],
)  # fmt: skip
def test_message_in_seven_bits_reads_the_same(content: bytes) -> None:
    """RFC 6376 section 5.3: converted before it is signed; RFC 2045 section 6: and nobody reads anything else."""
    converted = make_seven_bit(content)
    assert converted.isascii()
    assert leaves(converted) == leaves(content)
    assert all(len(line) <= 998 for line in converted.split(b"\r\n"))
    assert converted.startswith(b"From: alice@example.test\r\n")


@pytest.mark.parametrize(
    "content",
    [
        HEAD + b"\r\nplain\r\n",
        b"From: alice@example.test\r\nContent-Transfer-Encoding: base64\r\n\r\n\xff without MIME\r\n",
        TEXT.replace(b"alice@", "älice@".encode()) + "ä\r\n".encode(),
        TEXT.replace(b"8bit", b"quoted-printable") + "ä\r\n".encode(),
        HEAD + multipart(PART + "ä\r\n".encode(), kind=b"signed"),
        HEAD + multipart(nested(multipart(PART + "ä\r\n".encode(), kind=b"signed"))),
        HEAD + multipart(PART + b"x\r\n").replace(b"preamble", "ä".encode()),
        HEAD + b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\n\xc3\xa4\r\n--b--\r\n",
        HEAD + b"Content-Type: message/rfc822\r\n\r\n" * (MAX_DEPTH + 2) + b"\r\n\xc3\xa4\r\n",
    ],
)
def test_message_that_cannot_be_converted_stays_as_it_is(content: bytes) -> None:
    """Nothing is half converted: what others signed, what is not what it says, what is too deep."""
    assert make_seven_bit(content) == content


@pytest.mark.parametrize(
    ("fields", "octets", "charset"),
    [
        (b"", "grüße\r\n".encode(), "utf-8"),
        (b"", b"gr\xfc\xdfe\r\n", "unknown-8bit"),
        (b"Content-Type: text/html; charset=iso-8859-1\r\n", b"gr\xfc\xdfe\r\n", "iso-8859-1"),
        (b"Content-Transfer-Encoding: 8bit\r\n", "grüße\r\n".encode(), "utf-8"),
    ],
)
def test_text_without_mime_becomes_mime(fields: bytes, octets: bytes, charset: str) -> None:
    """UTF-8 if it can be, else a charset that claims nothing (RFC 1428 section 3); what it says itself counts."""
    converted = make_seven_bit(b"From: alice@example.test\r\n" + fields + b"\r\n" + octets)
    message = email.message_from_bytes(converted)
    assert converted.isascii()
    assert message.get_all("MIME-Version") == ["1.0"]
    assert len(message.get_all("Content-Transfer-Encoding") or ()) == 1
    assert message.get_content_charset() == charset
    assert message.get_payload(decode=True) == octets


@given(
    st.binary(max_size=300).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"\r\n").replace(b"\0", b""))
)
def test_any_text_reads_the_same(body: bytes) -> None:
    """Whatever the octets are, they come out again."""
    content = TEXT + body + b"\r\n"
    assert make_seven_bit(content).isascii()
    assert leaves(make_seven_bit(content)) == leaves(content)


def test_deep_message_takes_bounded_time_and_stack() -> None:
    """Case 173: ten thousand levels are read no further than MAX_DEPTH."""
    content = HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 10_000 + b"\xff\r\n"
    assert make_seven_bit(content) == content
