"""SCRAM and limits of guessing over a real connection."""

import asyncio
import base64
import hashlib
import json
import logging
import socket
import ssl

import pytest

from ptt.maillog import JsonFormatter
from tests.servers.scram_client import scram_steps
from tests.servers.submission import (
    PASSWORD,
    Client,
    SubmissionServer,
    connected,
    encode,
    plain,
    running_submission,
)

OK = "235 2.7.0 Authentication successful"
INVALID = "535 5.7.8 Authentication credentials invalid"
LIMITED = "454 4.7.0 Too many failed logins, try again in a minute"


async def run_scram(client: Client, password: bytes, binding: tuple[str, bytes] | None = None) -> str:
    """Log in, and give the final reply; the client checks that the server knows the user too."""
    first, answer, check = scram_steps("alice", password.decode(), binding)
    mechanism = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
    reply = await client.ask(f"AUTH {mechanism} {encode(first.encode())}")
    if not reply.startswith("334 "):
        return reply
    reply = await client.ask(encode(answer(base64.b64decode(reply[4:]))))
    if not reply.startswith("334 "):
        return reply
    check(base64.b64decode(reply[4:]))
    return await client.ask("")


async def test_scram_logs_in() -> None:
    """A wrong password has the reply of PLAIN; the right one has our proof as a challenge, then 235 (RFC 4954)."""
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        assert await run_scram(client, b"wrong") == INVALID
        assert await run_scram(client, PASSWORD) == OK
        assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("250 ")


async def test_scram_plus_is_bound_to_tls_1_2() -> None:
    """Offered where the binding can be computed, which Python's ssl does for tls-unique; that of another is refused."""
    async with running_submission() as server:
        context = server.certificate.trust()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        client = await connect(server, context)
        assert "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" in await client.ask("EHLO client.test")
        unique = client.writer.get_extra_info("ssl_object").get_channel_binding("tls-unique")
        assert await run_scram(client, PASSWORD, ("tls-unique", b"x" + unique[1:])) == INVALID
        downgraded = base64.b64encode(b"y,,n=alice,r=abc").decode()
        assert await client.ask(f"AUTH SCRAM-SHA-256 {downgraded}") == INVALID
        assert await run_scram(client, PASSWORD, ("tls-unique", unique)) == OK
        client.writer.transport.abort()


async def test_scram_plus_is_bound_to_the_certificate() -> None:
    """tls-server-end-point: SHA-256 of what the client sees, for a certificate that is signed with SHA-256."""
    async with running_submission() as server:
        context = server.certificate.trust()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        client = await connect(server, context)
        await client.ask("EHLO client.test")
        certificate = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert await run_scram(client, PASSWORD, ("tls-server-end-point", bytes(32))) == INVALID
        digest = hashlib.sha256(certificate).digest()
        assert await run_scram(client, PASSWORD, ("tls-server-end-point", digest)) == OK
        client.writer.transport.abort()


async def test_scram_plus_is_not_offered_over_tls_1_3() -> None:
    """Python's ssl cannot compute tls-exporter, which clients take for granted there (RFC 9266)."""
    async with running_submission() as server, connected(server) as client:
        assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        offered = await client.ask("EHLO client.test")
        assert ("SCRAM-SHA-256-PLUS" in offered) is ("tls-exporter" in ssl.CHANNEL_BINDING_TYPES)
        assert "SCRAM-SHA-256 " in offered


async def test_scram_plus_is_not_offered_in_a_resumed_session() -> None:
    """RFC 7627 section 6.1: there tls-unique may be the same on two connections."""
    async with running_submission() as server:
        context = server.certificate.trust()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        first, session = await asyncio.to_thread(greet, server, context, None)
        again, _ = await asyncio.to_thread(greet, server, context, session)
    assert [b"SCRAM-SHA-256-PLUS" in greeting for greeting in (first, again)] == [True, False]
    assert b"SCRAM-SHA-256 " in again


async def test_too_many_wrong_guesses_hear_454() -> None:
    """Whoever is asked for, by whatever mechanism; and the log says why and where from."""
    async with running_submission() as server:
        server.guesses.most = 4
        for login in ("alice", "nobody"):
            async with connected(server) as client:
                await client.ask("EHLO client.test")
                wrong = f"AUTH PLAIN {plain(login, b'wrong')}"
                assert await client.ask_all([wrong, wrong]) == [INVALID] * 2
        async with connected(server) as client:
            await client.ask("EHLO client.test")
            assert await client.ask(f"AUTH PLAIN {plain('alice', PASSWORD)}") == LIMITED
            assert await run_scram(client, PASSWORD) == LIMITED
            assert (await client.ask(f"AUTH PLAIN {plain('nobody', PASSWORD)}")).startswith("421 4.7.0 ")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"AUTH PLAIN {plain('alice', b'hunter2')}"], {"reason": "wrong password", "user": "alice"}),
        ([f"AUTH PLAIN {plain('nobody', b'hunter2')}"], {"reason": "no such user, or disabled", "user": "nobody"}),
        ([f"AUTH SCRAM-SHA-256 {encode(b'y,,n=alice')}"], {"reason": "not a first message of SCRAM"}),
        (["AUTH PLAIN", "*"], {"reason": "Authentication cancelled"}),
        (["AUTH PLAIN", "!"], {"reason": "Response is not base64"}),
    ],
)
async def test_failed_login_says_why_in_the_log(
    lines: list[str], expected: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Reason, address, mechanism; never the password."""
    caplog.set_level(logging.INFO, "ptt")
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        await client.ask_all(lines)
    (line,) = [JsonFormatter().format(record) for record in caplog.records if record.message == "auth.failed"]
    fields = json.loads(line)
    expected |= {"client_address": "127.0.0.1", "mechanism": lines[0].split()[1]}
    assert {name: fields[name] for name in expected} == expected
    assert "hunter2" not in line
    assert encode(b"hunter2")[:8] not in line


async def connect(server: SubmissionServer, context: ssl.SSLContext) -> Client:
    """Connect with a context of one's own."""
    client = Client(*await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=context))
    await client.reply()
    return client


def greet(
    server: SubmissionServer, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bytes, ssl.SSLSession]:
    """Say EHLO, in a resumed TLS session if one is given; give the answer and the session."""
    with (
        socket.create_connection(("127.0.0.1", server.tls_port), timeout=60) as wire,
        context.wrap_socket(wire, server_hostname="127.0.0.1", session=session) as tls,
        tls.makefile("rwb") as file,
    ):
        assert tls.session_reused is (session is not None)
        file.readline()
        file.write(b"EHLO client.test\r\n")
        file.flush()
        greeting = b""
        while not greeting.endswith(b"250 ENHANCEDSTATUSCODES\r\n"):
            greeting += file.readline()
        assert tls.session is not None
        return greeting, tls.session
