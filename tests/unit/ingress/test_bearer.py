"""The client's message of OAUTHBEARER."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.errors import MalformedInput
from ptt.ingress.bearer import Bearer, format_problem, parse_bearer

# RFC 7628 section 4.1.
EXAMPLE = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
    b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
)


def test_example_of_the_rfc_is_read() -> None:
    """RFC 7628 section 4.1; the token is never shown."""
    bearer = parse_bearer(EXAMPLE)
    assert bearer == Bearer("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==", "user@example.com")
    assert "vF9" not in repr(bearer)


@pytest.mark.parametrize(
    ("message", "authzid"),
    [
        (b"n,,\x01auth=Bearer abc\x01\x01", ""),
        (b"y,,\x01auth=bearer  abc\x01\x01", ""),
        (b"n,a=a=2Cb=3D2C,\x01auth=BEARER abc\x01host=x\x01\x01", "a,b=2C"),
    ],
)
def test_other_forms_are_read(message: bytes, authzid: str) -> None:
    """Without a name, in any case, escaped (RFC 5801 section 4)."""
    assert parse_bearer(message) == Bearer("abc", authzid)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=\x01\x01",
        b"n,,\x01auth=Bearer\x01\x01",
        b"n,,\x01auth=Basic abc\x01\x01",
        b"n,,\x01auth=Bearer a b\x01\x01",
        b"n,,\x01auth=Bearer abc\x01",
        b"n,,auth=Bearer abc\x01\x01",
        b"p=tls-unique,,\x01auth=Bearer abc\x01\x01",
        b"n,a=\xff,\x01auth=Bearer abc\x01\x01",
        EXAMPLE + b"x",
    ],
)
def test_anything_else_is_malformed(message: bytes) -> None:
    """RFC 7628 section 3.1; channel binding is not for this mechanism here."""
    with pytest.raises(MalformedInput):
        parse_bearer(message)


@given(st.binary(max_size=60))
def test_any_message_is_read_or_malformed(message: bytes) -> None:
    """Nothing else comes out."""
    try:
        parse_bearer(b"n,a=" + message)
    except MalformedInput:
        return


def test_format_problem_is_json() -> None:
    """RFC 7628 section 3.2.2."""
    assert format_problem("invalid_token", "") == b'{"status": "invalid_token", "schemes": "bearer"}'
    assert b'"scope": "mail"' in format_problem("invalid_token", "mail")
