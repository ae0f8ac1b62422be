"""Cases 145 to 152: what a client may put into TLS that no client should, and what a resumed session brings with it."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass

import pytest

from tests.servers.submission import PASSWORD, connected, plain, running_submission


@dataclass(frozen=True)
class Talk:
    """What came of one connection."""

    session: ssl.SSLSession | None
    is_resumed: bool
    reply: str


def _talk(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None, command: str) -> Talk:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as line,
        context.wrap_socket(line, server_hostname="127.0.0.1", session=session) as tls,
        tls.makefile("rwb") as stream,
    ):
        stream.readline()
        stream.write(b"EHLO client.test\r\n")
        stream.flush()
        while stream.readline()[3:4] == b"-":
            pass
        stream.write(f"{command}\r\n".encode())
        stream.flush()
        return Talk(tls.session, bool(tls.session_reused), stream.readline().decode())


@pytest.mark.parametrize("name", ["nobody.test", ".".join(["x" * 60] * 4)])
@pytest.mark.parametrize("protocols", [[], ["junk", "h2"]])
async def test_odd_client_hello_is_served_as_any_other(name: str, protocols: list[str]) -> None:
    """Names that are unknown or as long as can be, protocols, and a certificate nobody asked for make no difference."""
    async with running_submission() as server:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.options &= ~ssl.OP_NO_COMPRESSION
        context.load_cert_chain(server.certificate.certificate_file, server.certificate.key_file)
        if protocols:
            context.set_alpn_protocols(protocols)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=context, server_hostname=name)
        assert (await reader.readline()).startswith(b"220 ")
        assert writer.get_extra_info("compression") is None
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
        writer.close()
        async with connected(server) as client:
            assert (await client.ask("NOOP")).startswith("250 ")


async def test_renegotiation_ends_the_connection() -> None:
    """A client cannot make the server pay for one handshake after the other on one connection."""
    openssl = shutil.which("openssl")
    assert openssl, "openssl is missing: apt-get install openssl"
    async with running_submission() as server:
        process = await asyncio.create_subprocess_exec(
            *(openssl, "s_client", "-connect", f"127.0.0.1:{server.tls_port}", "-tls1_2"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(60):
            await process.stdout.readuntil(b"\n220 ")
            # Its input stays open: it must be the refusal that ends it.
            process.stdin.write(b"R\n")
            said = await process.stdout.read()
            await process.wait()
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said


async def test_resumed_session_of_tls_has_no_login() -> None:
    """Keys are resumed, who logged in is not."""
    login = f"AUTH PLAIN {plain('alice', PASSWORD)}"
    async with running_submission() as server:
        context = server.certificate.trust()
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # its ticket comes with the handshake
        first = await asyncio.to_thread(_talk, server.tls_port, context, None, login)
        again = await asyncio.to_thread(
            _talk, server.tls_port, context, first.session, "MAIL FROM:<alice@example.test>"
        )
    assert first.reply.startswith("235 ")
    assert (again.is_resumed, again.reply[:9]) == (True, "530 5.7.0")
