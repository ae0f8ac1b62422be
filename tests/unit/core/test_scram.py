"""SCRAM-SHA-256: the example of RFC 7677, what is refused, and what no client may get past."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.errors import MalformedInput
from ptt.core.scram import (
    Challenge,
    check_proof,
    make_verifier,
    parse_client_first,
    parse_verifier,
    prepare,
)

# RFC 7677 section 3: user "user", password "pencil".
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
NONCE = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SERVER_FIRST = b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = b"c=biws,r=" + NONCE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
VERIFIER = make_verifier(b"pencil", SALT, 4096)


def test_exchange_is_that_of_the_rfc() -> None:
    """RFC 7677 section 3, octet by octet."""
    first = parse_client_first(CLIENT_FIRST)
    assert (first.flag, first.login, first.nonce) == ("n", "user", b"rOprNGfwEbeRWgbNEkqO")
    challenge = Challenge(first, VERIFIER, NONCE)
    assert challenge.server_first == SERVER_FIRST
    assert check_proof(challenge, CLIENT_FINAL, b"") == SERVER_FINAL


def answer(first: bytes, password: bytes, binding: bytes = b"", tail: bytes = b"") -> tuple[Challenge, bytes]:
    """Make the last message of a client, from the text of RFC 5802 section 3."""
    parsed = parse_client_first(first)
    challenge = Challenge(parsed, VERIFIER, parsed.nonce + b"server")
    salted = hashlib.pbkdf2_hmac("sha256", password, SALT, 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = b"c=" + base64.b64encode(parsed.gs2_header + binding) + b",r=" + challenge.nonce + tail
    said = parsed.bare + b"," + challenge.server_first + b"," + without_proof
    signature = hmac.digest(hashlib.sha256(client_key).digest(), said, "sha256")
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    return challenge, without_proof + b",p=" + base64.b64encode(proof)


def test_wrong_password_has_a_wrong_proof() -> None:
    """No signature of ours goes to who does not know the password."""
    challenge, final = answer(b"n,,n=user,r=abc", b"pencils")
    assert check_proof(challenge, final, b"") is None


@pytest.mark.parametrize("tail", [b"", b",x=an extension"])
@pytest.mark.parametrize("first", [b"y,,n=user,r=abc", b"n,a=user,n=user,r=abc", b"n,,n=a=2Cb=3Dc,r=abc,x=extension"])
def test_right_password_has_a_right_proof(first: bytes, tail: bytes) -> None:
    """With the authorisation identity of the user, escapes, and extensions that may be ignored (section 5.1)."""
    challenge, final = answer(first, b"pencil", tail=tail)
    assert check_proof(challenge, final, b"")


def test_login_is_unescaped() -> None:
    """RFC 5802 section 5.1."""
    assert parse_client_first(b"n,,n=a=2Cb=3Dc=3D2C,r=abc").login == "a,b=c=2C"


def test_channel_binding_must_be_that_of_the_connection() -> None:
    """RFC 5802 section 6: who passes an exchange on from elsewhere is found out."""
    challenge, final = answer(b"p=tls-unique,,n=user,r=abc", b"pencil", b"ours")
    assert challenge.client_first.binding == "tls-unique"
    assert check_proof(challenge, final, b"ours")
    for other in (b"", b"theirs"):
        with pytest.raises(MalformedInput, match="another channel"):
            check_proof(challenge, final, other)


def test_changed_flag_is_found_out() -> None:
    """The threat: who stands between takes "p" or "y" out of the first message so that no binding is checked."""
    challenge, final = answer(b"y,,n=user,r=abc", b"pencil")
    stripped = Challenge(parse_client_first(b"n,,n=user,r=abc"), VERIFIER, challenge.nonce)
    with pytest.raises(MalformedInput, match="another channel"):
        check_proof(stripped, final, b"")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,,",
        b",,n=user,r=abc",
        b"p=,,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,n=user",
        b"n,,r=abc,n=user",
        b"n,,m=must,n=user,r=abc",
        b"n,,n=user,r=",
        b"n,,n=user,r=a\x7f",
        b"n,,n=user,r=a b",
        b"n,,n=,r=abc",
        b"n,,n=a=b,r=abc",
        b"n,,n=a=,r=abc",
        b"n,,n=a=2c,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,a=root,n=user,r=abc",
        b"n,a=,n=user,r=abc",
        b"n,user,n=user,r=abc",
    ],
)
def test_wrong_first_message_is_refused(message: bytes) -> None:
    """Syntax of RFC 5802 section 7; nobody acts for another user."""
    with pytest.raises(MalformedInput):
        parse_client_first(message)


@pytest.mark.parametrize(
    "final",
    [
        b"",
        CLIENT_FINAL[:-1],
        CLIENT_FINAL + b"=",
        CLIENT_FINAL.replace(b"c=biws,", b""),
        CLIENT_FINAL.replace(b"biws", b"eSws"),
        CLIENT_FINAL.replace(b"biws", b"biws="),
        CLIENT_FINAL.replace(b"r=rO", b"r=Or"),
        CLIENT_FINAL.replace(b"k0,", b"k,"),
        CLIENT_FINAL.replace(b",p=", b",q="),
        CLIENT_FINAL.partition(b",p=")[0] + b",p=",
        CLIENT_FINAL.partition(b",p=")[0] + b",p=AAAA",
        CLIENT_FINAL.partition(b",p=")[0],
    ],
)
def test_wrong_last_message_is_refused(final: bytes) -> None:
    """Another nonce, another header, no proof: none is a guess at the password."""
    challenge = Challenge(parse_client_first(CLIENT_FIRST), VERIFIER, NONCE)
    with pytest.raises(MalformedInput):
        check_proof(challenge, final, b"")


@given(st.binary(max_size=80))
def test_any_message_is_read_or_refused(message: bytes) -> None:
    """Nothing but our own error comes out."""
    challenge = Challenge(parse_client_first(CLIENT_FIRST), VERIFIER, NONCE)
    for read in (parse_client_first, lambda octets: check_proof(challenge, octets, b"")):
        try:
            read(message)
        except MalformedInput:
            continue


def test_verifier_is_written_as_postgresql_does() -> None:
    """The same line can stand in both."""
    text = str(VERIFIER)
    assert text.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert parse_verifier(text) == VERIFIER
    assert "SCRAM" not in repr(VERIFIER)


KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("secret", "not SCRAM-SHA-256"),
        (f"SCRAM-SHA-1$4096:c2FsdA==${KEY}:{KEY}", "not SCRAM-SHA-256"),
        (f"SCRAM-SHA-256$4095:c2FsdA==${KEY}:{KEY}", "4095 iterations"),
        (f"SCRAM-SHA-256$99999999:c2FsdA==${KEY}:{KEY}", "99999999 iterations"),
        (f"SCRAM-SHA-256$4096:====${KEY}:{KEY}", "not base64"),
        (f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:c2FsdA==", "right length"),
        (f"SCRAM-SHA-256$4096:c2FsdA==$c2FsdA==:{KEY}", "right length"),
    ],
)
def test_wrong_verifier_is_refused(text: str, reason: str) -> None:
    """RFC 7677 section 4: at least 4096 iterations; and not so many that clients stall."""
    with pytest.raises(MalformedInput, match=reason):
        parse_verifier(text)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("e\u0301", "é"),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
    ],
)
def test_prepare_is_saslprep(password: str, prepared: str) -> None:
    """RFC 4013 section 3, and composition: NFC and NFD of one password are one password."""
    assert prepare(password.encode()) == prepared.encode()


@pytest.mark.parametrize(
    "password",
    [
        b"",
        "\u00ad".encode(),
        b"\x07",
        b"a\0",
        b"\xff",
        "\u0627\u0031".encode(),
        "a\u0627".encode(),
        "\U0001f511".encode(),
    ],
)
def test_prepare_refuses_what_saslprep_does(password: bytes) -> None:
    """RFC 4013 sections 2.3 to 2.5: such a user has no verifier, and logs in by PLAIN."""
    with pytest.raises(MalformedInput):
        prepare(password)
