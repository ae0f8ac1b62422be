"""A scripted SMTP server: an honest dialogue, any reply of which a test may replace by octets, a close or silence.

It keeps a ledger: a message is accepted when its final dot has come and the script answers it with 2yz, whether or not
that reply reaches the client.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

EXTENSIONS = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8")


class Act(Enum):
    """What a server may do instead of answering."""

    CLOSE = "FIN"
    RESET = "RST"
    HANG = "silence"
    DEAF = "reads no more"
    PAUSE = "waits 10 ms"
    READ_ONE = "reads a segment and drops it"
    START_TLS = "handshake"


Answer = bytes | Act | tuple[bytes | Act, ...]

_DEFAULTS: Mapping[str, Answer] = {
    "HELO": b"250 mx.example\r\n",
    "STARTTLS": (b"220 2.0.0 go ahead\r\n", Act.START_TLS),
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "QUIT": (b"221 2.0.0 bye\r\n", Act.CLOSE),
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a connection is cut: after so many octets of one direction."""

    sent: int | None = None
    received: int | None = None
    act: Act = Act.CLOSE


@dataclass(frozen=True, kw_only=True)
class Script:
    """How one connection goes."""

    banner: Answer = b"220 mx.example ESMTP\r\n"
    extensions: Sequence[str] = EXTENSIONS
    answers: Mapping[str, Answer | list[Answer]] = field(default_factory=dict)
    """By verb, ``.`` for the final dot and ``data`` for the first octets of content; a list is used up one by one, and
    its last answer stays."""
    tls: ssl.SSLContext | None = None
    extensions_in_tls: Sequence[str] | None = None
    cut: Cut | None = None


@dataclass(kw_only=True)
class Accepted:
    """A message that the server took responsibility for; ``content`` without dot-stuffing and without the dot."""

    mail: str
    recipients: list[str]
    content: bytes


class Dialogue:
    """The server's half of one connection: octets in, answers out; knows no socket."""

    def __init__(self, script: Script, ledger: list[Accepted]) -> None:
        """Start before the greeting."""
        self.commands: list[str] = []
        self.is_tls = False
        self._script = script
        self._ledger = ledger
        self._left = {verb: list(a) if isinstance(a, list) else [a] for verb, a in script.answers.items()}
        self._input = b""
        self._in_data = False
        self._mail: str | None = None
        self._recipients: list[str] = []

    def feed(self, data: bytes) -> Iterator[Answer]:
        """Take what the client sent and give an answer to each command that is complete."""
        self._input += data
        while True:
            end = b"\r\n.\r\n" if self._in_data else b"\r\n"
            if self._in_data and self._input.startswith(b".\r\n"):
                block, self._input = b"", self._input[3:]
            elif end in self._input:
                block, self._input = self._input.split(end, 1)
                block += b"\r\n" if self._in_data else b""
            else:
                if self._in_data and self._input and "data" in self._left:
                    yield self._pick("data", b"")
                return
            yield self._take_content(block) if self._in_data else self._take_command(block.decode())

    def _take_content(self, block: bytes) -> Answer:
        self._in_data = False
        self.commands.append(".")
        answer = self._pick(".", b"250 2.0.0 queued\r\n")
        if _first_digit(answer) == b"2":
            content = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in block.split(b"\r\n"))
            self._ledger.append(Accepted(mail=self._mail or "", recipients=self._recipients, content=content))
        self._mail, self._recipients = None, []
        return answer

    def _take_command(self, line: str) -> Answer:
        self.commands.append(line)
        verb = line.split(maxsplit=1)[0].upper() if line.strip() else ""
        answer = self._pick(verb, self._default(verb))
        if verb in ("MAIL", "RSET", "EHLO", "HELO"):
            agreed = verb == "MAIL" and _first_digit(answer) == b"2"
            self._mail, self._recipients = line[10:] if agreed else None, []
        elif verb == "RCPT" and _first_digit(answer) == b"2":
            self._recipients.append(line[8:])
        elif verb == "DATA" and _first_digit(answer) == b"3":
            self._in_data = True
        return answer

    def _default(self, verb: str) -> Answer:
        offered = self._script.extensions
        if self.is_tls and self._script.extensions_in_tls is not None:
            offered = self._script.extensions_in_tls
        if verb == "EHLO":
            starttls = ["STARTTLS"] if self._script.tls and not self.is_tls else []
            lines = ["mx.example", *offered, *starttls]
            marks = ["-"] * (len(lines) - 1) + [" "]
            return "".join(f"250{mark}{line}\r\n" for mark, line in zip(marks, lines, strict=True)).encode()
        if verb == "RCPT" and self._mail is None:
            return b"503 5.5.1 MAIL first\r\n"
        if verb == "DATA":
            return b"354 go ahead\r\n" if self._recipients else b"554 5.5.1 no valid recipients\r\n"
        return _DEFAULTS.get(verb, b"500 5.5.2 unknown command\r\n")

    def _pick(self, verb: str, default: Answer) -> Answer:
        answers = self._left.get(verb)
        if not answers:
            return default
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _first_digit(answer: Answer) -> bytes:
    first = answer[0] if isinstance(answer, tuple) else answer
    return first[:1] if isinstance(first, bytes) else b""


class ScriptedServer:
    """Plays one script per connection; the last one stays."""

    def __init__(self, *scripts: Script) -> None:
        """Prepare; `scripted_server` starts it."""
        self.scripts = list(scripts) or [Script()]
        self.accepted: list[Accepted] = []
        self.dialogues: list[Dialogue] = []
        self.clients: list[str] = []
        """Where each connection came from."""
        self.traffic: list[tuple[int, int]] = []
        """Octets sent and received on each connection that has ended, by the server's count, without TLS."""
        self.open_count = 0
        self.most_open = 0
        self.port = 0

    @property
    def commands(self) -> list[list[str]]:
        """The commands of each connection, in order; ``.`` is the final dot."""
        return [dialogue.commands for dialogue in self.dialogues]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        script = self.scripts[min(len(self.dialogues), len(self.scripts) - 1)]
        dialogue = Dialogue(script, self.accepted)
        self.dialogues.append(dialogue)
        self.clients.append(writer.get_extra_info("peername")[0])
        self.open_count += 1
        self.most_open = max(self.most_open, self.open_count)
        connection = _Connection(script, dialogue, reader, writer)
        try:
            await connection.run()
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass  # The client has gone; what it did is in the ledger.
        finally:
            self.open_count -= 1
            self.traffic.append((connection.sent, connection.received))
            writer.transport.abort()


class _CutError(ConnectionError):
    pass


class _Connection:
    def __init__(
        self, script: Script, dialogue: Dialogue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._script = script
        self._dialogue = dialogue
        self._reader = reader
        self._writer = writer
        self.sent = 0
        self.received = 0

    async def run(self) -> None:
        await self._answer(self._script.banner)
        limit = self._script.cut.received if self._script.cut else None
        while data := await self._reader.read(65536 if limit is None else max(0, limit - self.received)):
            self.received += len(data)
            answers = self._dialogue.feed(data)
            if limit is not None and self.received >= limit:
                list(answers)  # What came counts, but no answer to the last of it leaves.
                await self._act(self._script.cut.act if self._script.cut else Act.CLOSE)
            for answer in answers:
                await self._answer(answer)

    async def _answer(self, answer: Answer) -> None:
        for step in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(step, Act):
                await self._act(step)
            else:
                await self._send(step)

    async def _send(self, data: bytes) -> None:
        cut = self._script.cut
        if cut is not None and cut.sent is not None and self.sent + len(data) >= cut.sent:
            self._writer.write(data[: cut.sent - self.sent])
            await self._writer.drain()
            await self._act(cut.act)
        self.sent += len(data)
        self._writer.write(data)
        await self._writer.drain()

    async def _act(self, act: Act) -> None:
        if act is Act.START_TLS:
            assert self._script.tls is not None
            await self._writer.start_tls(self._script.tls)
            self._dialogue.is_tls = True
        elif act is Act.DEAF:
            self._writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.Event().wait()
        elif act is Act.PAUSE:
            await asyncio.sleep(0.01)
        elif act is Act.READ_ONE:
            await self._reader.read(65536)
        elif act is Act.HANG:
            while await self._reader.read(65536):
                pass
        elif act is Act.RESET:
            # SO_LINGER of 0 s: close sends RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
            raise _CutError
        else:
            self._writer.close()
            await self._writer.wait_closed()
            raise _CutError


@asynccontextmanager
async def scripted_server(*scripts: Script, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[ScriptedServer]:
    """Run a scripted server on a loopback address."""
    server = ScriptedServer(*scripts)
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.ensure_future(server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(begin, address, port)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await asyncio.sleep(0)  # connections that were accepted already still begin
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:  # a task that was cancelled before it began has closed nothing
            writer.transport.abort()
