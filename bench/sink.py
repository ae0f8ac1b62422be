"""The destination MX of both sides, in a process of its own: STARTTLS, PIPELINING, 8BITMIME, SIZE.

It counts the copies of each message by its id, keeps the SHA-256 of each body and the first few messages as a sample;
all checking is done after the run by who asks. Commands are JSON lines on stdin, answers JSON lines on stdout.

    {"do": "reset", "run": "r7"}  forget everything; from now on count ids that start with r7-
    {"do": "status"}              how many different messages have arrived, and when the last one did (monotonic clock)
    {"do": "take"}                all counts, hashes and the sample
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus import ID_FIELD
from typing_extensions import override

SIZE_LIMIT = 64 * 1024 * 1024
END_OF_DATA = b"\r\n.\r\n"


@dataclass(slots=True)
class Tally:
    """What has arrived since the last reset."""

    run: str = ""
    sample_size: int = 0
    hashes: dict[str, str] = field(default_factory=dict)
    copies: dict[str, int] = field(default_factory=dict)
    sample: list[bytes] = field(default_factory=list)
    strays: int = 0
    last_at: float = 0.0
    in_clear: int = 0
    connections: int = 0

    def count(self, content: bytes, *, tls: bool) -> None:
        """Note one message."""
        header, _, body = content.partition(b"\r\n\r\n")
        message_id = header.partition(ID_FIELD)[2].partition(b"\r\n")[0].decode("ascii", "replace")
        if not self.run or not message_id.startswith(self.run + "-"):
            self.strays += 1
            return
        self.last_at = time.monotonic()
        self.in_clear += not tls
        self.hashes[message_id] = hashlib.sha256(body).hexdigest()
        self.copies[message_id] = self.copies.get(message_id, 0) + 1
        if len(self.sample) < self.sample_size:
            self.sample.append(content)

    def describe(self) -> dict[str, Any]:
        """Give everything, JSON-ready."""
        return {
            "hashes": self.hashes,
            "duplicates": {name: copies for name, copies in self.copies.items() if copies > 1},
            "sample": [base64.b64encode(content).decode() for content in self.sample],
            "strays": self.strays,
            "in_clear": self.in_clear,
            "connections": self.connections,
        }


@dataclass(slots=True)
class Sink:
    """What all sessions share."""

    context: ssl.SSLContext
    tally: Tally


class Session(asyncio.Protocol):
    """One SMTP session."""

    def __init__(self, sink: Sink) -> None:
        """Start in the command state."""
        self.sink = sink
        self.buffer = bytearray()
        self.in_data = False
        self.searched = 0
        self.tls = False
        self.upgrading = False
        self.counted = False
        self.transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"220 sink.example ESMTP\r\n")

    @override
    def data_received(self, data: bytes) -> None:
        """Handle all complete lines and messages."""
        self.buffer += data
        self._work()

    def _work(self) -> None:
        while self.buffer and not self.upgrading and (self._finish_data() if self.in_data else self._run_command()):
            pass

    def _run_command(self) -> bool:
        end = self.buffer.find(b"\n")
        if end < 0:
            return False
        line = bytes(self.buffer[:end]).strip()
        del self.buffer[: end + 1]
        verb = line[:4].upper()
        if verb == b"STAR" and not self.tls:
            return self._start_tls()
        if verb == b"DATA":
            # The reader needs a line end before a dot in the first line of the message.
            self.in_data, self.searched = True, 0
            self.buffer[0:0] = b"\r\n"
        self.transport.write(self._reply(verb))
        if verb == b"QUIT":
            self.transport.close()
            return False
        return True

    def _reply(self, verb: bytes) -> bytes:
        match verb:
            case b"EHLO":
                tls = b"" if self.tls else b"250-STARTTLS\r\n"
                return b"250-sink.example\r\n" + tls + b"250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE %d\r\n" % SIZE_LIMIT
            case b"HELO" | b"MAIL" | b"RCPT" | b"RSET" | b"NOOP":
                return b"250 2.0.0 ok\r\n"
            case b"DATA":
                return b"354 go ahead\r\n"
            case b"QUIT":
                return b"221 2.0.0 bye\r\n"
            case _:
                return b"502 5.5.2 not known\r\n"

    def _finish_data(self) -> bool:
        end = self.buffer.find(END_OF_DATA, max(0, self.searched - len(END_OF_DATA)))
        if end < 0:
            self.searched = len(self.buffer)
            return False
        content = bytes(self.buffer[2 : end + 2])
        del self.buffer[: end + len(END_OF_DATA)]
        self.in_data = False
        if content.startswith(b".") or b"\r\n." in content:
            content = content.replace(b"\r\n..", b"\r\n.").removeprefix(b".")
        if not self.counted:  # here, so that a connection is charged to the run that used it
            self.counted = True
            self.sink.tally.connections += 1
        self.sink.tally.count(content, tls=self.tls)
        self.transport.write(b"250 2.0.0 delivered\r\n")
        return True

    def _start_tls(self) -> bool:
        # Reading stops before the 220 goes out: the ClientHello must reach TLS, not the line reader.
        self.transport.pause_reading()
        self.buffer.clear()
        self.upgrading = True
        self.transport.write(b"220 2.0.0 ready\r\n")
        task = asyncio.get_running_loop().create_task(self._upgrade())
        UPGRADES.add(task)
        task.add_done_callback(UPGRADES.discard)
        return False

    async def _upgrade(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(self.transport, self, self.sink.context, server_side=True)
        except (OSError, ssl.SSLError):
            self.transport.abort()
            return
        if secured is None:  # the peer hung up during the handshake
            return
        # The first command may have come in one flight with the end of the handshake, before this line runs: it is
        # answered now, for on the old transport the answer would go out in clear.
        self.transport, self.tls, self.upgrading = secured, True, False
        self._work()


UPGRADES: set[asyncio.Task[None]] = set()
"""The event loop keeps no task alive by itself."""


async def serve(options: argparse.Namespace) -> None:
    """Listen until stdin ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    sink = Sink(context, Tally())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(sink), options.host, options.port, backlog=1024)
    answer({"port": server.sockets[0].getsockname()[1]})
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        answer(obey(sink, json.loads(line), options.sample))
    server.close()


def obey(sink: Sink, command: dict[str, str], sample_size: int) -> dict[str, Any]:
    """Carry out one command and give its answer."""
    match command["do"]:
        case "reset":
            sink.tally = Tally(run=command["run"], sample_size=sample_size)
            return {}
        case "status":
            return {"count": len(sink.tally.hashes), "last_at": sink.tally.last_at}
        case "take":
            return sink.tally.describe()
        case _:
            raise ValueError(command)


def answer(fields: dict[str, Any]) -> None:
    """Write one JSON line."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cert", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=20, help="how many messages of a run to keep whole")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
