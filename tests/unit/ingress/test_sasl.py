"""The SASL exchanges, response by response."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.errors import Refused
from ptt.ingress.sasl import MAX_PASSWORD, MECHANISMS, Credentials, decode_initial, decode_response


def run(mechanism: str, initial: bytes | None, *responses: bytes) -> tuple[Credentials, list[bytes]]:
    """Run an exchange; give the credentials and the challenges."""
    challenges: list[bytes] = []
    exchange = MECHANISMS[mechanism](initial)
    waiting = list(responses)
    try:
        challenges.append(next(exchange))
        while True:
            challenges.append(exchange.send(waiting.pop(0)))
    except StopIteration as end:
        assert not waiting
        return end.value, challenges


@pytest.mark.parametrize("response", [b"\0alice\0secret", b"alice\0alice\0secret"])
def test_plain_with_and_without_initial_response(response: bytes) -> None:
    """RFC 4616: the authorisation identity is empty or the login."""
    assert run("PLAIN", response) == (Credentials("alice", b"secret"), [])
    assert run("PLAIN", None, response) == (Credentials("alice", b"secret"), [b""])


def test_login_with_and_without_initial_response() -> None:
    """Login first, then password."""
    assert run("LOGIN", None, b"alice", b"secret") == (Credentials("alice", b"secret"), [b"Username:", b"Password:"])
    assert run("LOGIN", b"alice", b"secret") == (Credentials("alice", b"secret"), [b"Password:"])


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"alice",
        b"alice\0secret",
        b"\0alice\0secret\0",
        b"root\0alice\0secret",
        b"\0\xff\0secret",
        b"\0" + b"a" * 10_000 + b"\0secret",
        b"\0alice\0" + b"x" * (MAX_PASSWORD + 1),
    ],
)
def test_wrong_plain_response_is_refused_before_anything_is_hashed(response: bytes) -> None:
    """RFC 4616 section 2: 535 for what names no user, another user, or is too long to be worth hashing."""
    with pytest.raises(Refused) as caught:
        run("PLAIN", response)
    assert caught.value.reply.code == 535


@pytest.mark.parametrize(
    "text",
    [b"!", b"AGE", b"AGE=AGE=", b"AG E=", b"AGE=\t", b"A-__", b"AGF=", b"=", b"====", b"AGE=====", b"\xff\xff\xff\xff"],
)
def test_what_is_not_canonical_base64_is_refused(text: bytes) -> None:
    """RFC 4954 section 4: 501; blanks, other alphabets, missing padding and stray bits are not base64."""
    with pytest.raises(Refused) as caught:
        decode_response(text)
    assert (caught.value.reply.code, caught.value.reply.enhanced_status) == (501, "5.5.2")


def test_initial_response_of_no_octets_is_an_equals_sign() -> None:
    """RFC 4954 section 4."""
    assert decode_initial("=") == b""


@given(st.binary(max_size=100))
def test_base64_is_decoded(octets: bytes) -> None:
    """What was encoded comes back."""
    assert decode_response(base64.b64encode(octets)) == octets
    assert decode_initial(base64.b64encode(octets).decode() or "=") == octets


def test_credentials_do_not_show_the_password() -> None:
    """A password must not reach a log by way of repr."""
    assert "secret" not in repr(Credentials("alice", b"secret"))
