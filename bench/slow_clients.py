"""What thousands of slow clients cost: the time of a good client beside them, and the memory of each connection.

Run it from the root of the checkout:  python -m bench.slow_clients [--clients 2000] [--messages 400]
Starts an embedded Valkey and a ptt-ingress of its own on the loopback. It asserts nothing: it prints what it measured.
A fifth of the slow clients each stays (1) before its TLS handshake, (2) silent after it, and sends an octet every 5 s
(3) as a command before EHLO, (4) within AUTH LOGIN, (5) within DATA.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import multiprocessing
import resource
import ssl
import statistics
import tempfile
import time
from asyncio import sslproto
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from bench.conditions import describe_machine
from tests.servers.ingress import LOGIN, PASSWORD, SENDER, IngressProcess, IngressSite, make_site, running_ingress
from tests.servers.redis import running_server

OCTET_EVERY_S = 5.0
STAGES = ("before TLS", "silent", "command", "AUTH", "DATA")
BODY_BYTES = 10_000
WARM_UP = 50
OPENING_AT_ONCE = 40
MEMORY_CLIENTS = 2000


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    """Read one reply, of several lines perhaps."""
    while (line := await reader.readuntil(b"\r\n"))[3:4] == b"-":
        pass
    return line


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], octets: bytes, code: bytes) -> None:
    """Send octets and expect a code."""
    streams[1].write(octets)
    reply = await read_reply(streams[0])
    if not reply.startswith(code):
        raise ConnectionError(f"{octets[:40]!r}: {reply!r}")


async def enter(port: int, context: ssl.SSLContext, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect over TLS, and read the greeting."""
    streams = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="127.0.0.1", local_addr=(address, 0), limit=4096
    )
    await ask(streams, b"", b"220")
    return streams


async def log_in(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Say EHLO and AUTH."""
    await ask(streams, b"EHLO bench.test\r\n", b"250")
    token = base64.b64encode(f"\0{LOGIN}\0{PASSWORD}".encode())
    await ask(streams, b"AUTH PLAIN " + token + b"\r\n", b"235")


class SlowClients:
    """Many clients that do as little as they may."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        """Open none yet."""
        self._port = port
        self._context = context
        self._dripping: list[asyncio.StreamWriter] = []
        self._kept: list[asyncio.StreamWriter] = []

    async def open(self, count: int, stages: tuple[str, ...]) -> None:
        """Open so many, in equal parts at each stage."""
        gate = asyncio.Semaphore(OPENING_AT_ONCE)

        async def open_one(number: int) -> None:
            async with gate:
                await self._open_one(stages[number % len(stages)], f"127.0.{1 + number // 250}.{1 + number % 250}")

        await asyncio.gather(*(open_one(number) for number in range(count)))

    async def drip(self) -> None:
        """Send an octet on each, spread over the time, for ever."""
        while True:
            pause_s = OCTET_EVERY_S / max(1, len(self._dripping))
            for writer in self._dripping:
                writer.write(b"x")
                await asyncio.sleep(pause_s)
            if not self._dripping:
                await asyncio.sleep(OCTET_EVERY_S)

    def count_open(self) -> int:
        """Count those that the server has not closed."""
        return sum(not writer.transport.is_closing() for writer in (*self._kept, *self._dripping))

    async def _open_one(self, stage: str, address: str) -> None:
        if stage == "before TLS":
            _, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
            self._kept.append(writer)
            return
        streams = await enter(self._port, self._context, address)
        if stage == "AUTH":
            await ask(streams, b"EHLO bench.test\r\n", b"250")
            await ask(streams, b"AUTH LOGIN\r\n", b"334")
        elif stage == "DATA":
            await log_in(streams)
            await ask(streams, f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250")
            await ask(streams, b"RCPT TO:<rita@destination.test>\r\n", b"250")
            await ask(streams, b"DATA\r\n", b"354")
        (self._kept if stage == "silent" else self._dripping).append(streams[1])


def run_slow_clients(pipe: Pipe, port: int, authority: str, count: int, stages: tuple[str, ...]) -> None:
    """Be the process of the slow clients: say when all are open, count them when asked, end when asked again."""
    sslproto.SSLProtocol.max_size = 16_640  # or this process would need half a gigabyte itself

    async def main() -> None:
        clients = SlowClients(port, ssl.create_default_context(cafile=authority))
        await clients.open(count, stages)
        dripping = asyncio.create_task(clients.drip())
        pipe.send(clients.count_open())
        await asyncio.to_thread(pipe.recv)
        pipe.send(clients.count_open())
        await asyncio.to_thread(pipe.recv)
        dripping.cancel()

    raise_limit()
    with contextlib.suppress(EOFError):
        asyncio.run(main())


async def measure(port: int, context: ssl.SSLContext, messages: int) -> list[float]:
    """Submit messages one after the other on one connection; give the seconds of each from MAIL to 250."""
    streams = await enter(port, context, "127.0.0.1")
    await log_in(streams)
    body = (f"From: {SENDER}\r\n\r\n".encode() + (b"x" * 76 + b"\r\n") * (BODY_BYTES // 78)) + b".\r\n"
    times = []
    for _ in range(messages):
        began = time.perf_counter()
        await ask(streams, f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250")
        await ask(streams, b"RCPT TO:<rita@destination.test>\r\n", b"250")
        await ask(streams, b"DATA\r\n", b"354")
        await ask(streams, body, b"250")
        times.append(time.perf_counter() - began)
    streams[1].close()
    return times[WARM_UP:]


def read_rss_bytes(pid: int) -> int:
    """Read the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(pid)


def raise_limit() -> None:
    """Allow this process as many open files as the system does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def slow_clients(ingress: IngressProcess, site: IngressSite, count: int, stages: tuple[str, ...]):  # noqa: ANN201 - a generator
    """Run slow clients in a process of their own; give the pipe to it once all are open."""
    ours, theirs = multiprocessing.Pipe()
    authority = str(site.certificate.authority_file)
    arguments = (theirs, ingress.port("implicit"), authority, count, stages)
    process = multiprocessing.get_context("spawn").Process(target=run_slow_clients, args=arguments)
    process.start()
    try:
        print(f"slow clients open: {ours.recv()} of {count}")
        yield ours
    finally:
        process.terminate()
        process.join()


def summarise(times: list[float]) -> dict[str, float]:
    """Give the percentiles, in ms."""
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": round(cuts[49] * 1e3, 2), "p95_ms": round(cuts[94] * 1e3, 2), "p99_ms": round(cuts[98] * 1e3, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--messages", type=int, default=400)
    options = parser.parse_args()
    raise_limit()
    with tempfile.TemporaryDirectory(prefix="ptt-slow-") as folder, running_server() as redis:
        print(json.dumps(describe_machine(Path(folder)), indent=2))
        site = make_site(Path(folder), redis.url)
        site.write_config(max_connections=options.clients + 100)
        context = site.certificate.trust()
        with running_ingress(site) as ingress:
            port, pid = ingress.port("implicit"), ingress.process.pid
            before = summarise(asyncio.run(measure(port, context, options.messages + WARM_UP)))
            print("alone:              ", before)
            with slow_clients(ingress, site, options.clients, STAGES) as pipe:
                during = summarise(asyncio.run(measure(port, context, options.messages + WARM_UP)))
                pipe.send("count")
                print("beside slow clients:", during, "still open:", pipe.recv())
            print("ratio of p99:       ", round(during["p99_ms"] / before["p99_ms"], 2))
        site.write_config(max_connections=options.clients + 100)
        with running_ingress(site) as ingress:
            pid = ingress.process.pid
            asyncio.run(measure(ingress.port("implicit"), context, WARM_UP + 2))
            empty = read_rss_bytes(pid)
            with slow_clients(ingress, site, MEMORY_CLIENTS, ("silent",)):
                full = read_rss_bytes(pid)
            print(
                f"memory of {MEMORY_CLIENTS} idle TLS connections: {(full - empty) / 1e6:.0f} MB,"
                f" {(full - empty) / MEMORY_CLIENTS / 1e3:.1f} kB each (VmRSS {empty / 1e6:.0f} -> {full / 1e6:.0f} MB)"
            )


if __name__ == "__main__":
    main()
