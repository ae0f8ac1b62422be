"""The destination MX of the rig: each message is in its ledger, on disk, before the sender reads 250.

Run as ``python -m tests.chaos.sink ADDRESS PORT LEDGER CONTENTS [--dot-delay S] [--certificate F --key F]``; prints
``ready``. The ledger has a line for each message; the contents have the message itself, its length in front.
A recipient ``never-…`` is refused with 550, and ``later-…`` with 450 when it is named for the first time.
"""

import argparse
import asyncio
import hashlib
import re
import ssl
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tests.chaos.ledger import Ledger

_OFFERS = ("sink.test", "PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 50000000", "ENHANCEDSTATUSCODES")
_IDENTITY = re.compile(rb"\r\nX-Identity: (\S+)\r\n")
_QUEUE_ID = re.compile(rb"^Received:(?:[^\r]|\r\n[ \t])*?\sid ([0-9A-Z]{20})\b", re.MULTILINE)
_REPORT = re.compile(rb"^Message-ID: <([0-9A-Z]{20})@", re.MULTILINE)
_RECIPIENT = re.compile(r"TO:<([^>]*)>", re.IGNORECASE)


@dataclass
class Sink:
    """What all sessions share."""

    ledger: Ledger
    contents: BinaryIO
    dot_delay_s: float
    tls: ssl.SSLContext | None
    named: set[str] = field(default_factory=set)
    """Recipients ``later-…`` that were put off once."""

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold one session."""
        session = _Session(self, reader, writer)
        try:
            await session.run()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def keep(self, recipients: list[str], content: bytes) -> None:
        """Write down one message; it is on disk when this returns."""
        header = content.partition(b"\r\n\r\n")[0]
        is_report = b"multipart/report" in header
        identity = _IDENTITY.search(content)  # of a report: that of the message that it returns
        queue_id = _REPORT.search(header) if is_report else _QUEUE_ID.search(content)
        self.contents.write(struct.pack("!I", len(content)) + content)
        self.contents.flush()
        line = {
            "id": identity[1].decode() if identity else "",
            "queue_id": queue_id[1].decode() if queue_id else "",
            "recipients": recipients,
            "is_report": is_report,
            "sha256": hashlib.sha256(content.partition(b"\r\n\r\n")[2]).hexdigest(),
            "at": time.time(),
        }
        self.ledger.write(line)

    def answer_rcpt(self, recipient: str) -> bytes:
        """Give the reply to RCPT."""
        if recipient.startswith("never-"):
            return b"550 5.1.1 no such user\r\n"
        if recipient.startswith("later-") and recipient not in self.named:
            self.named.add(recipient)
            return b"450 4.2.1 try again\r\n"
        return b"250 2.1.5 ok\r\n"


@dataclass
class _Session:
    sink: Sink
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    recipients: list[str] = field(default_factory=list)
    is_tls: bool = False

    async def run(self) -> None:
        self.writer.write(b"220 sink.test\r\n")
        while (line := await self.reader.readline()).endswith(b"\r\n"):
            command = line.strip().decode("utf-8", "replace")
            verb = command.split(" ", 1)[0].upper()
            if verb == "QUIT":
                self.writer.write(b"221 2.0.0 bye\r\n")
                break
            await self._answer(verb, command)
            await self.writer.drain()

    async def _answer(self, verb: str, command: str) -> None:
        match verb:
            case "EHLO":
                offers = [*_OFFERS, *(["STARTTLS"] if self.sink.tls and not self.is_tls else [])]
                self.writer.write("".join(f"250-{one}\r\n" for one in offers).encode() + b"250 HELP\r\n")
            case "STARTTLS" if self.sink.tls:
                self.writer.write(b"220 2.0.0 go\r\n")
                await self.writer.start_tls(self.sink.tls)
                self.is_tls = True
            case "RCPT":
                self._take_recipient(command)
            case "DATA" if not self.recipients:
                self.writer.write(b"554 5.5.1 no valid recipients\r\n")
            case "DATA":
                await self._take_content()
            case _:
                if verb in {"RSET", "MAIL"}:
                    self.recipients = []
                self.writer.write(b"250 2.1.0 ok\r\n")

    def _take_recipient(self, command: str) -> None:
        recipient = _RECIPIENT.findall(command)[0]
        reply = self.sink.answer_rcpt(recipient)
        if reply.startswith(b"250"):
            self.recipients.append(recipient)
        self.writer.write(reply)

    async def _take_content(self) -> None:
        self.writer.write(b"354 go\r\n")
        content = await self.reader.readuntil(b"\r\n.\r\n")
        self.sink.keep(self.recipients, content[:-3].replace(b"\r\n..", b"\r\n.").removeprefix(b"."))
        self.recipients = []
        if self.sink.dot_delay_s:
            await asyncio.sleep(self.sink.dot_delay_s)
        self.writer.write(b"250 2.0.0 kept\r\n")


async def serve(options: argparse.Namespace) -> None:
    """Serve until killed."""
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate, options.key)
    with options.contents.open("ab") as contents:
        sink = Sink(Ledger(options.ledger), contents, options.dot_delay, tls)
        server = await asyncio.start_server(
            sink.converse, options.address, options.port, limit=64 * 1024 * 1024, backlog=500
        )
        print("ready", flush=True)  # noqa: T201 - who started it waits for this
        await server.serve_forever()


def main() -> None:
    """Run the sink."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("contents", type=Path)
    parser.add_argument("--dot-delay", type=float, default=0.0)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
