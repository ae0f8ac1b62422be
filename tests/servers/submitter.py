"""A submission client for load: kept TLS connections that each send one message after the other."""

import asyncio
import base64
import contextlib
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """What was answered with 250: by id, the SHA-256 of the body; and what was refused or cut."""

    accepted: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    cut: int = 0


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whom to speak to and as whom."""

    address: str
    port: int
    context: ssl.SSLContext
    login: str
    password: str
    sender: str


def make_body(number: int, size_bytes: int) -> bytes:
    """Make a body that no other message has, in lines."""
    seed = hashlib.sha256(str(number).encode()).hexdigest().encode()
    line = (seed + b" .leading dots and  blanks\t")[:76] + b"\r\n"
    lines = [b"%06d " % index + line for index in range(size_bytes // (len(line) + 7))]
    return b"..two dots\r\n.one dot\r\n" + b"".join(lines)


async def submit_all(
    account: Account, numbers: list[int], connections: int, size_bytes: int, recipient: Callable[[int], str]
) -> Ledger:
    """Send one message for each number over some connections; what is cut is sent again under a new id."""
    ledger = Ledger()
    queue = list(reversed(numbers))
    await asyncio.gather(*(_work(account, queue, ledger, size_bytes, recipient) for _ in range(connections)))
    return ledger


async def _work(
    account: Account, queue: list[int], ledger: Ledger, size_bytes: int, recipient: Callable[[int], str]
) -> None:
    while queue:
        writer = None
        try:
            reader, writer = await _log_in(account)
            while queue:
                number = queue.pop()
                try:
                    await _send(reader, writer, account, ledger, (number, size_bytes, recipient(number)))
                except (OSError, asyncio.IncompleteReadError, TimeoutError):
                    queue.append(number)
                    raise
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            ledger.cut += 1
            await asyncio.sleep(0.1)  # the server is away; its supervisor brings it back
        finally:
            if writer is not None:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()


async def _log_in(account: Account) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(account.address, account.port, ssl=account.context)
    await _expect(reader, b"220")
    token = base64.b64encode(f"\0{account.login}\0{account.password}".encode())
    writer.write(b"EHLO client.test\r\n")
    await _expect(reader, b"250")
    writer.write(b"AUTH PLAIN " + token + b"\r\n")
    await _expect(reader, b"235")
    return reader, writer


async def _send(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    account: Account,
    ledger: Ledger,
    message: tuple[int, int, str],
) -> None:
    number, size_bytes, recipient = message
    identity = f"n{number}-{ledger.cut}-{len(ledger.refused)}"
    body = make_body(number, size_bytes)
    header = (
        f"From: {account.sender}\r\nTo: {recipient}\r\nSubject: {number}\r\nX-Identity: {identity}\r\n"
        f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{identity}@example.test>\r\n\r\n"
    ).encode()
    writer.write(f"MAIL FROM:<{account.sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
    replies = [await _reply(reader) for _ in range(3)]
    if not replies[-1].startswith(b"354"):
        ledger.refused.append(f"{replies!r}")
        raise ConnectionResetError("refused")
    writer.write((header + body).replace(b"\r\n.", b"\r\n..") + b".\r\n")
    reply = await _reply(reader)
    if not reply.startswith(b"250"):
        ledger.refused.append(reply.decode())
        raise ConnectionResetError("refused")
    ledger.accepted[identity] = hashlib.sha256(body).hexdigest()


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    reply = await _reply(reader)
    if not reply.startswith(code):
        raise ConnectionResetError(reply.decode())


async def _reply(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(120):
        while (line := await reader.readuntil(b"\r\n"))[3:4] == b"-":
            pass
        return line
