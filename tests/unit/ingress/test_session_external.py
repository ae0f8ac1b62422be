"""EXTERNAL and OAUTHBEARER over a real connection: who is vouched for by a certificate or a token."""

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from ptt.core.user import User
from ptt.store.tokens import JwtTokens, TokenRules
from tests.servers.oauth import AUDIENCE, ISSUER, OAuthServer
from tests.servers.submission import ALICE, Client, SubmissionServer, connected, encode, running_submission

OK = "235 2.7.0 Authentication successful"
INVALID = "535 5.7.8 Authentication credentials invalid"
AUTHORITY = trustme.CA()
STRANGER = trustme.CA()
BOB = replace(ALICE, login="bob")


def fingerprint(issued: trustme.LeafCert) -> str:
    """Name a certificate by its fingerprint."""
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


@asynccontextmanager
async def serving(**users: User) -> AsyncIterator[SubmissionServer]:
    """Run a server that asks for certificates of the authority."""
    with AUTHORITY.cert_pem.tempfile() as ca_file:
        async with running_submission(client_ca_file=Path(ca_file)) as server:
            server.users.users |= users
            yield server


async def connect(
    server: SubmissionServer, issued: trustme.LeafCert | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> tuple[Client, str]:
    """Connect with a client certificate; give what EHLO offers."""
    context = server.certificate.trust()
    context.maximum_version = version
    if issued is not None:
        issued.configure_cert(context)
    client = Client(*await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=context))
    await client.reply()
    return client, await client.ask("EHLO client.test")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["fingerprint", "dns", "email"])
@pytest.mark.parametrize("response", ["=", encode(b"alice")])
async def test_certificate_of_a_user_logs_in(kind: str, response: str, version: ssl.TLSVersion) -> None:
    """By fingerprint or by a name in it; the authorisation identity is empty or the user (RFC 4422 appendix A)."""
    issued = AUTHORITY.issue_cert("App.example.test", "alice@example.test")
    names = {"fingerprint": fingerprint(issued), "dns": "dns:app.example.test", "email": "email:alice@example.test"}
    async with serving(alice=replace(ALICE, certificates=frozenset({names[kind]}))) as server:
        client, offered = await connect(server, issued, version)
        assert " EXTERNAL" in offered
        assert await client.ask(f"AUTH EXTERNAL {response}") == OK
        assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("250 ")
        client.writer.transport.abort()


async def test_certificate_without_initial_response_is_asked() -> None:
    """An empty challenge, an empty response."""
    issued = AUTHORITY.issue_cert("app.example.test")
    async with serving(alice=replace(ALICE, certificates=frozenset({fingerprint(issued)}))) as server:
        client, _ = await connect(server, issued)
        assert await client.ask_all(["AUTH EXTERNAL", ""]) == ["334 ", OK]
        client.writer.transport.abort()


@pytest.mark.parametrize("response", [encode(b"bob"), encode(b"nobody"), encode(b"\xff"), encode(b"a" * 300)])
async def test_certificate_of_another_user_is_refused(response: str) -> None:
    """Nobody acts for another."""
    issued = AUTHORITY.issue_cert("app.example.test")
    alice = replace(ALICE, certificates=frozenset({fingerprint(issued)}))
    async with serving(alice=alice, bob=BOB) as server:
        client, _ = await connect(server, issued)
        assert await client.ask(f"AUTH EXTERNAL {response}") == INVALID
        client.writer.transport.abort()


async def test_certificate_of_nobody_is_refused() -> None:
    """Signed by the right authority, listed for no user."""
    async with serving() as server:
        client, offered = await connect(server, AUTHORITY.issue_cert("app.example.test"))
        assert " EXTERNAL" in offered
        assert await client.ask("AUTH EXTERNAL =") == INVALID
        client.writer.transport.abort()


async def test_without_certificate_external_is_not_offered() -> None:
    """Whoever has none logs in with a password; asking for it all the same is 504."""
    async with serving() as server:
        client, offered = await connect(server, None)
        assert "EXTERNAL" not in offered
        assert (await client.ask("AUTH EXTERNAL =")).startswith("504 5.5.4 ")
        client.writer.transport.abort()
        await client.writer.wait_closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_certificate_of_a_stranger_ends_the_handshake_by_an_alert(version: ssl.TLSVersion) -> None:
    """What another authority has signed proves nothing; the client hears why before there is a greeting."""
    issued = STRANGER.issue_cert("app.example.test")
    async with serving(alice=replace(ALICE, certificates=frozenset({fingerprint(issued)}))) as server:
        # With TLS 1.3 the client believes that the handshake is done before the server has looked.
        with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_UNKNOWN_CA"):
            await connect(server, issued, version)


@pytest.fixture
def oauth(tmp_path: Path) -> OAuthServer:
    """Give an OAuth server with its keys published."""
    made = OAuthServer(tmp_path / "keys.json")

    made.publish()
    return made


def make_tokens(oauth: OAuthServer) -> JwtTokens:
    """Make what checks its tokens."""
    return JwtTokens(
        TokenRules(
            keys_file=oauth.keys_file,
            issuer=ISSUER,
            audience=AUDIENCE,
            algorithms=("ES256",),
            login_claim="sub",
            scope="mail",
        )
    )


def bearer(token: str, authzid: str = "") -> str:
    """Write a client's message."""
    name = f"a={authzid}" if authzid else ""
    return encode(f"n,{name},\x01host=mail.example.test\x01auth=Bearer {token}\x01\x01".encode())


@pytest.mark.parametrize("authzid", ["", "alice"])
async def test_token_logs_in(oauth: OAuthServer, authzid: str) -> None:
    """In the command or after it."""
    async with running_submission(tokens=make_tokens(oauth)) as server:
        token = oauth.issue("alice", scope="mail")
        for lines in ([f"AUTH OAUTHBEARER {bearer(token, authzid)}"], ["AUTH OAUTHBEARER", bearer(token, authzid)]):
            async with connected(server) as client:
                assert "OAUTHBEARER" in await client.ask("EHLO client.test")
                assert (await client.ask_all(lines))[-1] == OK
                assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("250 ")


@pytest.mark.parametrize(
    ("login", "claims", "authzid", "status"),
    [
        ("alice", {"scope": "other"}, "", "invalid_token"),
        ("alice", {"scope": "mail", "exp": 1}, "", "invalid_token"),
        ("alice", {"scope": "mail"}, "bob", "invalid_token"),
        ("nobody", {"scope": "mail"}, "", "invalid_token"),
        ("", {}, "", "invalid_request"),
    ],
)
async def test_bad_token_hears_why_and_then_535(
    oauth: OAuthServer, login: str, claims: dict[str, object], authzid: str, status: str
) -> None:
    """RFC 7628 section 3.2.3: what is wrong as a challenge, the client's empty answer, one final reply."""
    async with running_submission(tokens=make_tokens(oauth)) as server, connected(server) as client:
        server.users.users["bob"] = BOB
        await client.ask("EHLO client.test")
        token = oauth.issue(login, **claims) if login else " "
        challenge = await client.ask(f"AUTH OAUTHBEARER {bearer(token, authzid)}")
        assert challenge.startswith("334 ")
        problem = json.loads(base64.b64decode(challenge[4:]))
        assert problem == {"status": status, "schemes": "bearer", "scope": "mail"}
        assert await client.ask("AQ==") == INVALID
        assert (await client.ask(f"AUTH OAUTHBEARER {bearer(oauth.issue('alice', scope='mail'))}")) == OK


async def test_client_may_cancel_after_a_bad_token(oauth: OAuthServer) -> None:
    """RFC 7628 section 3.2.3 and RFC 4954 section 4: then the final reply is 501."""
    async with running_submission(tokens=make_tokens(oauth)) as server, connected(server) as client:
        await client.ask("EHLO client.test")
        assert (await client.ask(f"AUTH OAUTHBEARER {bearer('abc')}")).startswith("334 ")
        assert (await client.ask("*")).startswith("501 5.7.0 ")


async def test_without_keys_oauthbearer_is_not_offered() -> None:
    """504 to whoever asks all the same."""
    async with running_submission() as server, connected(server) as client:
        assert "OAUTHBEARER" not in await client.ask("EHLO client.test")
        assert (await client.ask(f"AUTH OAUTHBEARER {bearer('abc')}")).startswith("504 5.5.4 ")
