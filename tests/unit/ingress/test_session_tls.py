"""TLS: what may be said in clear, STARTTLS, and what must not survive it. RFC 3207, RFC 8314."""

import asyncio
import gc
import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from ptt.core.errors import ConfigError
from ptt.ingress.tls import CertificateFiles, ServerTls
from tests.servers.submission import (
    HOSTNAME,
    PASSWORD,
    SubmissionServer,
    connected,
    logged_in,
    make_certificate,
    plain,
    running_submission,
)
from tests.waiting import wait_until_async

TLS_FIRST = "530 5.7.0 Send STARTTLS first"
LOGIN = f"AUTH PLAIN {plain('alice', PASSWORD)}"


@pytest.mark.parametrize(
    "command", [LOGIN, "AUTH", "MAIL FROM:<a@b.test>", "RCPT TO:<a@b.test>", "DATA", "RSET", "VRFY a", "EXPN a", "HELP"]
)
async def test_command_in_clear_is_refused(command: str) -> None:
    """RFC 3207 section 4: nothing but NOOP, EHLO, STARTTLS and QUIT; no password is even looked at."""
    async with running_submission() as server, connected(server, implicit=False) as client:
        await client.ask("EHLO client.test")
        assert await client.ask(command) == TLS_FIRST
        assert await client.ask("NOOP") == "250 2.0.0 OK"
        assert server.users.asked == []


@pytest.mark.parametrize("injected", ["EHLO evil.test", "MAIL FROM:<alice@example.test>", "x"])
async def test_plaintext_behind_starttls_closes_the_connection(injected: str) -> None:
    """Case 139: a command injected in clear never runs inside TLS (CVE-2011-0411, CVE-2024-34083)."""
    async with running_submission() as server, connected(server, implicit=False) as client:
        await client.ask("EHLO client.test")
        await client.send(f"STARTTLS\r\n{injected}\r\n".encode())
        assert [reply[:9] for reply in await client.replies()] == ["421 4.7.0"]


async def test_plaintext_in_place_of_the_handshake_closes_the_connection() -> None:
    """What comes in clear after the 220 goes to the TLS engine, and that ends it."""
    async with running_submission() as server, connected(server, implicit=False) as client:
        assert (await client.ask("STARTTLS")).startswith("220 ")
        await client.send(b"EHLO evil.test\r\n")
        async with asyncio.timeout(30):
            rest = await client.reader.read()
        assert b"250" not in rest


@pytest.mark.parametrize("end", ["closed", "reset", "cut by the server"])
async def test_handshake_that_is_broken_off_is_no_fault(end: str, caplog: pytest.LogCaptureFixture) -> None:
    """The session ends without a trace: nothing in the log, nothing in memory."""
    gc.collect()  # what tests before this one have left may be told of now, and not while this one looks
    caplog.clear()
    async with running_submission() as server:
        tasks = len(asyncio.all_tasks())
        async with connected(server, implicit=False) as client:
            assert (await client.ask("STARTTLS")).startswith("220 ")
            if end == "reset":
                linger = struct.pack("ii", 1, 0)
                client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if end == "cut by the server":
                await server.listener.stop(timeout_s=0.1)
        await wait_until_async(lambda: server.listener.connection_count == 0, "the connection is gone")
        await wait_until_async(lambda: len(asyncio.all_tasks()) == tasks, "the session has ended")
    assert caplog.records == []


async def test_client_that_leaves_with_its_last_octets_of_the_handshake_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """RFC 8446 section 6.1: close_notify may come with Finished, as from `openssl s_client </dev/null`."""
    async with running_submission() as server:
        caplog.clear()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(server.certificate.authority_file))
        client = context.wrap_bio(incoming, outgoing, server_hostname=HOSTNAME)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        async with asyncio.timeout(30):
            while client.version() is None:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65_536))
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
            with pytest.raises(ssl.SSLWantReadError):
                client.unwrap()
            writer.write(outgoing.read())
            await reader.read()
        writer.close()
        await wait_until_async(lambda: server.listener.connection_count == 0, "the connection is gone")
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_session_in_clear_is_forgotten_after_starttls() -> None:
    """Case 142 and RFC 3207 section 4.2: the name from before does not count, STARTTLS is offered no more."""
    async with running_submission() as server, connected(server, implicit=False) as client:
        await client.ask("EHLO before.test")
        await client.start_tls(server.certificate)
        assert await client.ask(LOGIN) == "503 5.5.1 Send EHLO first"
        lines = await client.ask("EHLO after.test")
        assert "STARTTLS" not in lines
        assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in lines
        assert await client.ask("STARTTLS") == "503 5.5.1 TLS is active already"
        assert (await client.ask(LOGIN)).startswith("235 ")
        assert (await client.submit(b"From: alice@example.test\r\n\r\n")).startswith("250 ")
    assert server.spool.contents[0].startswith(b"Received: from after.test ([127.0.0.1])\r\n")


async def test_client_hello_on_the_starttls_port_is_turned_away() -> None:
    """Case 39: a client that begins with TLS hears so instead of waiting for a timeout."""
    async with running_submission() as server, connected(server, implicit=False) as client:
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert [reply[:9] for reply in await client.replies()] == ["421 4.7.0"]


async def test_cleartext_on_the_tls_port_is_cut() -> None:
    """Case 40: no greeting in clear."""
    async with running_submission() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
        writer.write(b"EHLO client.test\r\n")
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()


async def _shake_hands(server: SubmissionServer, context: ssl.SSLContext, *, implicit: bool) -> None:
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if implicit:
        await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=context)
    async with connected(server, implicit=False) as client:
        assert (await client.ask("STARTTLS")).startswith("220 ")
        await client.writer.start_tls(context)


@pytest.mark.parametrize("implicit", [True, False])
async def test_old_tls_is_refused_by_an_alert(implicit: bool) -> None:  # noqa: FBT001 - a case
    """Case 144 and RFC 8997: nothing below TLS 1.2, and the client is told (RFC 8446 section 6.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    async with running_submission() as server:
        with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"):
            await _shake_hands(server, context, implicit=implicit)


@pytest.mark.parametrize("implicit", [True, False])
async def test_no_shared_cipher_is_refused_by_an_alert(implicit: bool) -> None:  # noqa: FBT001 - a case
    """RFC 9325 section 4.2: no cipher without forward secrecy; the client hears why (RFC 8446 section 6.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    async with running_submission() as server:
        with pytest.raises(ssl.SSLError, match="SSLV3_ALERT_HANDSHAKE_FAILURE"):
            await _shake_hands(server, context, implicit=implicit)


async def test_tls_1_2_is_served() -> None:
    """RFC 8314 section 4.1: TLS 1.2 and newer; the Received field says which it was."""
    async with running_submission() as server:
        context = server.certificate.trust()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=context)
        assert (await reader.readline()).startswith(f"220 {HOSTNAME}".encode())
        writer.close()


async def test_renewed_certificate_counts_for_new_sessions(tmp_path: Path) -> None:
    """SIGHUP: an open session goes on, the next one sees the new certificate."""
    old = make_certificate(tmp_path)
    trusting_old = old.trust()
    async with running_submission(certificate=old) as server, logged_in(server) as client:
        make_certificate(tmp_path)
        server.tls.reload()
        assert await client.ask("NOOP") == "250 2.0.0 OK"
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=trusting_old)
        async with logged_in(server):
            pass


@pytest.mark.parametrize("fault", ["garbage", "foreign key", "missing"])
async def test_unusable_certificate_leaves_the_old_one(tmp_path: Path, fault: str) -> None:
    """A half-written or wrong file must not take the service down; the reason names the file."""
    certificate = make_certificate(tmp_path)
    async with running_submission(certificate=certificate) as server:
        if fault == "garbage":
            certificate.certificate_file.write_text("-----BEGIN CERTIFICATE-----\n")
        elif fault == "missing":
            certificate.key_file.unlink()
        else:
            other = tmp_path / "other"
            other.mkdir()
            certificate.key_file.write_bytes(make_certificate(other).key_file.read_bytes())
        with pytest.raises(ConfigError, match=str(tmp_path)):
            server.tls.reload()
        async with logged_in(server):
            pass


def test_certificate_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    """One line that names the file; an encrypted key is refused and not asked for on the terminal."""
    certificate = make_certificate(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere\.pem"):
        ServerTls([CertificateFiles(tmp_path / "nowhere.pem", certificate.key_file)])
    certificate.key_file.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBpjBABgkqhkiG9w0BBQ0wMzAb\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(ConfigError, match=r"key\.pem: ingress\.key_file: not a PEM"):
        ServerTls([CertificateFiles(certificate.certificate_file, certificate.key_file)])
