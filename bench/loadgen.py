"""Submits mail as N clients at once: TLS, AUTH PLAIN, one command a round trip as most client libraries do.

``kept``: each client logs in once, before the clock starts, and then submits one message after the other.
``new``: each message has its own connection: connect, TLS, AUTH, message, QUIT; all of it is on the clock.

Clients submit for a fixed time. Prints {"ready": true} when the clients are connected, starts when it reads a line,
and prints one JSON object with what was accepted. All instants are of the monotonic clock, which all processes share.
"""

import argparse
import asyncio
import base64
import json
import resource
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from corpus import build_data, make_id
from typing_extensions import override

REPLY_TIMEOUT_S = 60.0
MAX_ERRORS = 20  # a side that refuses everything must not keep us busy


class RejectedError(Exception):
    """The server answered something else than it should."""


class Wire(asyncio.Protocol):
    """Writes commands, reads one reply for each."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self.partial = b""
        self.replies: list[bytes] = []
        self.waiter: asyncio.Future[None] | None = None
        self.lost: Exception | None = None
        self.transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        """Collect replies; a line with a hyphen after the code is continued (RFC 5321 section 4.2.1)."""
        *lines, self.partial = (self.partial + data).split(b"\r\n")
        self.replies += [line for line in lines if line[3:4] != b"-"]
        if self.replies:
            self._wake()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Let whoever waits know."""
        self.lost = exc or ConnectionResetError("closed by the server")
        self._wake()

    def _wake(self) -> None:
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)

    async def expect(self, code: bytes) -> None:
        """Wait for the next reply and insist on its code."""
        while not self.replies:
            if self.lost:
                raise self.lost
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        reply = self.replies.pop(0)
        if not reply.startswith(code):
            raise RejectedError(reply.decode("utf-8", "replace"))

    async def command(self, line: bytes, code: bytes) -> None:
        """Write one command and wait for its reply."""
        self.transport.write(line + b"\r\n")
        await self.expect(code)


@dataclass(slots=True)
class Load:
    """What to submit, and what came of it."""

    options: argparse.Namespace
    context: ssl.SSLContext
    credentials: bytes
    stop_at: float = 0.0
    attempted: int = 0
    accepted: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    last_accepted_at: float = 0.0

    async def connect(self) -> Wire:
        """Connect, secure and log in."""
        loop, options = asyncio.get_running_loop(), self.options
        implicit = self.context if options.tls == "implicit" else None
        _, wire = await loop.create_connection(Wire, options.host, options.port, ssl=implicit)
        await wire.expect(b"220")
        await wire.command(b"EHLO client.example", b"250")
        if not implicit:
            await wire.command(b"STARTTLS", b"220")
            secured = await loop.start_tls(wire.transport, wire, self.context, server_hostname=options.host)
            if secured is None:
                raise ConnectionResetError("closed during the TLS handshake")
            wire.transport = secured
            await wire.command(b"EHLO client.example", b"250")
        await wire.command(b"AUTH PLAIN " + self.credentials, b"235")
        return wire

    async def submit(self, wire: Wire, began_at: float) -> None:
        """Submit one message and note how long its client waited for the final 250."""
        options = self.options
        message_id = make_id(options.run, self.attempted)
        recipient = f"r{self.attempted % 100}@{options.domains[self.attempted % len(options.domains)]}"
        self.attempted += 1
        payload = build_data(message_id, options.size, options.sender, recipient)
        await wire.command(b"MAIL FROM:<%s>" % options.sender.encode(), b"250")
        await wire.command(b"RCPT TO:<%s>" % recipient.encode(), b"250")
        await wire.command(b"DATA", b"354")
        wire.transport.write(payload)
        await wire.expect(b"250")
        self.last_accepted_at = time.monotonic()
        self.latencies_s.append(self.last_accepted_at - began_at)
        self.accepted.append(message_id)

    async def run_kept(self, wire: Wire) -> None:
        """Submit on one connection until the time is up; a refused message costs the connection."""
        while (now := time.monotonic()) < self.stop_at and self.errors.total() < MAX_ERRORS:
            try:
                await asyncio.wait_for(self.submit(wire, now), REPLY_TIMEOUT_S)
            except (OSError, RejectedError) as error:
                self.errors[repr(error)] += 1
                wire.transport.abort()
                wire = await self.connect()
        wire.transport.write(b"QUIT\r\n")

    async def run_new(self) -> None:
        """Submit each message on a connection of its own until the time is up."""
        while (now := time.monotonic()) < self.stop_at and self.errors.total() < MAX_ERRORS:
            try:
                await asyncio.wait_for(self._one_new(now), REPLY_TIMEOUT_S)
            except (OSError, RejectedError) as error:
                self.errors[repr(error)] += 1

    async def _one_new(self, began_at: float) -> None:
        wire = await self.connect()
        try:
            await self.submit(wire, began_at)
            await wire.command(b"QUIT", b"221")
        finally:
            wire.transport.close()

    def describe(self, started_at: float) -> dict[str, Any]:
        """Give the result, JSON-ready."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "attempted": self.attempted,
            "accepted": self.accepted,
            "errors": dict(self.errors),
            "started_at": started_at,
            "last_accepted_at": self.last_accepted_at,
            "latency_ms": {f"p{percent}": percentile(self.latencies_s, percent) * 1e3 for percent in (50, 95, 99)},
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }


def percentile(values: list[float], percent: int) -> float:
    """Give the nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


async def run(options: argparse.Namespace) -> None:
    """Connect, wait for the start, submit, report."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate is the rig's own
    login = options.login.encode()
    load = Load(options, context, base64.b64encode(b"\0" + login + b"\0" + options.password.encode()))
    build_data(make_id(options.run, 0), options.size, options.sender, "warm@up.example")  # fills its caches
    wires = await _connect_all(load) if options.mode == "kept" else []
    _say({"ready": True})
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    started_at = time.monotonic()
    load.stop_at = started_at + options.seconds
    clients = [load.run_kept(wire) for wire in wires] or [load.run_new() for _ in range(options.clients)]
    await asyncio.gather(*clients)
    _say(load.describe(started_at))


async def _connect_all(load: Load) -> list[Wire]:
    """Connect ten at a time: this is not what is measured, and a burst could meet a limit."""
    wires: list[Wire] = []
    while len(wires) < load.options.clients:
        count = min(10, load.options.clients - len(wires))
        wires += await asyncio.gather(*(load.connect() for _ in range(count)))
    return wires


def _say(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls", choices=["starttls", "implicit"], default="starttls")
    parser.add_argument("--mode", choices=["kept", "new"], default="kept")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--size", type=int, default=10_240, help="octets of one message")
    parser.add_argument("--run", default="r0", help="start of each message's id")
    parser.add_argument("--login", required=True)
    parser.add_argument("--password", required=True, help="of a user that lives as long as the run")
    parser.add_argument("--sender", required=True)
    parser.add_argument("--domains", nargs="+", required=True, help="destinations, in turn")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
