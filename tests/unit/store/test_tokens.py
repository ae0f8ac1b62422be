"""Access tokens: whose are good, and why others are not."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from ptt.core.errors import ConfigError, MalformedInput
from ptt.store.tokens import LEEWAY_S, JwtTokens, TokenRules
from tests.servers.oauth import AUDIENCE, ISSUER, OAuthServer


@pytest.fixture
def server(tmp_path: Path) -> OAuthServer:
    """Give a server with its keys published."""
    made = OAuthServer(tmp_path / "keys.json")
    made.publish()
    return made


def rules(server: OAuthServer) -> TokenRules:
    """Write what the tests' tokens must say."""
    return TokenRules(
        keys_file=server.keys_file,
        issuer=ISSUER,
        audience=AUDIENCE,
        algorithms=("RS256", "ES256"),
        login_claim="sub",
    )


def test_good_token_gives_the_login(server: OAuthServer) -> None:
    """Also one with a list of audiences, or on the edge of its time."""
    tokens = JwtTokens(rules(server))
    assert tokens.check(server.issue("alice")) == "alice"
    assert tokens.check(server.issue("alice", aud=["other", AUDIENCE])) == "alice"
    assert tokens.check(server.issue("alice", exp=int(time.time()) - LEEWAY_S // 2)) == "alice"


def test_login_may_stand_in_another_claim(server: OAuthServer) -> None:
    """An address that its holder has not proved is nobody's."""
    tokens = JwtTokens(replace(rules(server), login_claim="email"))
    assert tokens.check(server.issue("x", email="alice@example.test")) == "alice@example.test"
    with pytest.raises(MalformedInput, match="not verified"):
        tokens.check(server.issue("x", email="alice@example.test", email_verified=False))
    with pytest.raises(MalformedInput, match="no claim"):
        tokens.check(server.issue("x"))


def test_scope_is_asked_if_it_is_set(server: OAuthServer) -> None:
    """A word of the list, not a part of one."""
    tokens = JwtTokens(replace(rules(server), scope="mail.send"))
    assert tokens.check(server.issue("alice", scope="openid mail.send")) == "alice"
    for scope in ("openid", "mail.sender", None):
        with pytest.raises(MalformedInput, match="scope"):
            tokens.check(server.issue("alice", scope=scope))


def forge(server: OAuthServer, algorithm: str) -> str:
    """Sign with the public key as if it were a shared secret, or not at all."""
    public = server.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header, claims, _ = server.issue("alice").split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "one"}).encode()).rstrip(b"=").decode()
    if algorithm == "none":
        return f"{header}.{claims}."
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signed = signature.sign(f"{header}.{claims}".encode(), public)
    return f"{header}.{claims}.{base64.urlsafe_b64encode(signed).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "make",
    [
        lambda _server: "",
        lambda _server: "a.b.c",
        lambda server: server.issue("alice", iss="https://elsewhere.test"),
        lambda server: server.issue("alice", aud="other.example.test"),
        lambda server: server.issue("alice", exp=int(time.time()) - LEEWAY_S - 5),
        lambda server: server.issue("alice", nbf=int(time.time()) + LEEWAY_S + 5),
        lambda server: server.issue("alice", iss=None),
        lambda server: server.issue("alice", aud=None),
        lambda server: server.issue("alice", exp=None),
        lambda server: server.issue(""),
        lambda server: server.issue("alice")[:-6] + "AAAAAA",
        lambda server: OAuthServer(server.keys_file).issue("alice"),
        lambda server: OAuthServer(server.keys_file, "two").issue("alice"),
        lambda server: forge(server, "none"),
        lambda server: forge(server, "HS256"),
    ],
)
def test_other_token_is_no_good(server: OAuthServer, make: Callable[[OAuthServer], str]) -> None:
    """Wrong issuer, audience, time, signature, key, algorithm; nothing that it must say may be missing."""
    with pytest.raises(MalformedInput, match=r"^token: "):
        JwtTokens(rules(server)).check(make(server))


def test_algorithm_that_is_not_allowed_is_no_good(server: OAuthServer) -> None:
    """Whatever the key could do."""
    key = rsa.generate_private_key(65537, 2048)
    server.publish(json.loads(RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "rsa"})
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 300}
    tokens = JwtTokens(rules(server))
    assert tokens.check(jwt.encode(claims, key, algorithm="RS256", headers={"kid": "rsa"})) == "alice"
    assert tokens.check(jwt.encode(claims, key, algorithm="RS256")) == "alice"
    with pytest.raises(MalformedInput, match="no key"):
        tokens.check(jwt.encode(claims, key, algorithm="RS512", headers={"kid": "rsa"}))


def test_keys_are_read_again_when_the_file_changes(server: OAuthServer) -> None:
    """A new key counts at once; a broken file changes nothing."""
    tokens = JwtTokens(rules(server))
    other = OAuthServer(server.keys_file, "two")
    other.publish()
    assert tokens.check(other.issue("alice")) == "alice"
    with pytest.raises(MalformedInput, match="no key"):
        tokens.check(server.issue("alice"))
    server.keys_file.unlink()
    assert tokens.check(other.issue("alice")) == "alice"
    server.keys_file.write_text("garbage")
    assert tokens.check(other.issue("alice")) == "alice"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"keys": 5}',
        '{"keys": [5]}',
        '{"keys": []}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]}',
        '{"keys": [{"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"}]}',
    ],
)
def test_file_without_a_key_is_a_mistake_of_the_settings(tmp_path: Path, text: str) -> None:
    """A shared secret is none: who checks tokens must not be able to make them."""
    server = OAuthServer(tmp_path / "keys.json")
    server.keys_file.write_text(text)
    with pytest.raises(ConfigError, match=r"oauth\.keys_file"):
        JwtTokens(rules(server))


def test_key_for_encryption_or_unknown_is_passed_over(server: OAuthServer) -> None:
    """RFC 7517 section 5: the others still count."""
    server.publish(
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"}, {"kty": "RSA", "use": "enc", "n": "AQ", "e": "AQ"}
    )
    assert JwtTokens(rules(server)).check(server.issue("alice")) == "alice"


def test_missing_file_is_a_mistake_of_the_settings(server: OAuthServer) -> None:
    """The line names the key."""
    with pytest.raises(ConfigError, match=r"keys\.json: oauth\.keys_file: No such file"):
        JwtTokens(replace(rules(server), keys_file=server.keys_file.with_name("none") / "keys.json"))
