"""A destination MX for whole-process tests: takes everything over STARTTLS and keeps it in a file, length in front.

Only recipients whose local part begins with ``refused`` are refused, for good.

Run as ``python tests/servers/sink.py ADDRESS PORT CERTIFICATE KEY FILE``; prints ``ready``. What is answered with 250
is in the file.
"""

import asyncio
import json
import ssl
import struct
import sys
from pathlib import Path
from typing import BinaryIO

OFFERS = ("sink.test", "PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 50000000", "ENHANCEDSTATUSCODES")


async def converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, file: BinaryIO
) -> None:
    """Hold one SMTP session."""
    envelope: list[str] = []
    tls = False
    writer.write(b"220 sink.test\r\n")
    while line := await reader.readline():
        command = line.strip().upper()
        if command.startswith(b"EHLO"):
            writer.write(b"".join(b"250-%s\r\n" % offer.encode() for offer in OFFERS))
            writer.write(b"250 HELP\r\n" if tls else b"250 STARTTLS\r\n")
        elif command == b"STARTTLS":
            writer.write(b"220 2.0.0 go\r\n")
            await writer.start_tls(context)
            tls = True
        elif command.startswith(b"RCPT TO:<REFUSED"):
            writer.write(b"550 5.1.1 no such user\r\n")
        elif command == b"DATA" and not any(word.startswith("RCPT") for word in envelope):
            writer.write(b"554 5.5.1 no recipients\r\n")
        elif command == b"DATA":
            writer.write(b"354 go\r\n")
            keep(file, {"envelope": envelope, "tls": tls}, await reader.readuntil(b"\r\n.\r\n"))
            envelope = []
            writer.write(b"250 2.0.0 kept\r\n")
        elif command == b"QUIT":
            writer.write(b"221 2.0.0 bye\r\n")
            break
        else:
            envelope = [] if command == b"RSET" else [*envelope, line.decode().strip()]
            writer.write(b"250 2.1.0 ok\r\n")
        await writer.drain()
    writer.close()


def keep(file: BinaryIO, head: dict[str, object], data: bytes) -> None:
    """Write one message to the file."""
    content = data[:-3].replace(b"\r\n..", b"\r\n.").removeprefix(b".")
    text = json.dumps(head).encode()
    file.write(struct.pack("!II", len(text), len(content)) + text + content)
    file.flush()


async def main(address: str, port: str, certificate: str, key: str, path: str) -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Path(path).open("ab") as file:  # noqa: ASYNC230 - a test's file

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await converse(reader, writer, context, file)
            except (OSError, asyncio.IncompleteReadError):
                writer.close()

        server = await asyncio.start_server(serve, address, int(port), limit=64 * 1024 * 1024, backlog=200)
        print("ready", flush=True)  # noqa: T201 - who started it waits for this
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
