"""A TCP proxy that does to connections what networks do: holds octets, delays them, cuts after the n-th, resets.

A blackhole holds what it took and passes it on when it heals, as TCP's retransmission does: also what a side sent
before it gave up, and its FIN. netem would do the same below TCP; it is not in every kernel.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

_LINGER_NONE = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing sends RST."""
_SETTLE_S = 0.02
"""So long the last octets before a cut may travel: a reset would overtake them."""


class Way(Enum):
    """The direction of octets."""

    OUT = "out"
    """From who connected."""
    BACK = "back"


class Cutting(Enum):
    """How a connection ends."""

    FIN = "fin"
    """Both sides are closed in order."""
    RST = "rst"
    """Both sides are reset."""
    HALF = "half"
    """The receiver sees the end, the sender does not, until the receiver closes too."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What to do to one connection: end it after so many octets of one direction."""

    way: Way
    after_bytes: int
    kind: Cutting


@dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    cut: Cut | None
    ends: dict[Way, asyncio.StreamWriter]
    """By direction, where its octets go."""
    passed: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))
    is_cut: bool = False

    def reset(self) -> None:
        """Reset both sides."""
        for writer in self.ends.values():
            reset(writer)

    async def end(self, kind: Cutting) -> None:
        """Cut both sides."""
        self.is_cut = True
        await asyncio.sleep(_SETTLE_S)
        for writer in self.ends.values():
            if kind is Cutting.RST:
                reset(writer)
            else:
                writer.close()


@dataclass
class Proxy:
    """Listens on one address and connects each connection on to another."""

    target: tuple[str, int]
    delay_s: float = 0.0
    """How long each piece of octets is held up."""
    is_refusing: bool = False
    """Whether new connections are reset at once."""
    plans: "deque[Cut]" = field(default_factory=deque)
    """What happens to the next connections, each taking one; without a plan a connection is left alone."""
    links: list[Link] = field(default_factory=list)
    """All connections so far."""
    _gates: dict[Way, asyncio.Event] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, target: tuple[str, int], address: str, port: int) -> "contextlib.AsyncIterator[Self]":  # type: ignore[name-defined]
        """Run a proxy."""
        proxy = cls(target)
        proxy._gates = {way: asyncio.Event() for way in Way}
        proxy.heal()
        proxy._server = await asyncio.start_server(proxy._serve, address, port, backlog=500)
        try:
            yield proxy
        finally:
            proxy._server.close()
            for task in list(proxy._tasks):
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)

    def hold(self, *ways: Way) -> None:
        """Let no octet through in these directions until `heal`."""
        for way in ways:
            self._gates[way].clear()

    def refuse(self) -> None:
        """Reset all connections, and new ones until `heal`."""
        self.is_refusing = True
        self.reset_all()

    def reset_all(self) -> None:
        """Reset the connections that there are."""
        for link in self.links:
            link.reset()

    def heal(self) -> None:
        """Let everything through; what was held goes on its way."""
        self.is_refusing = False
        for gate in self._gates.values():
            gate.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.is_refusing:
            reset(writer)
            return
        cut = self.plans.popleft() if self.plans else None
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            reset(writer)
            return
        link = Link(cut, {Way.OUT: far_writer, Way.BACK: writer})
        self.links.append(link)
        try:
            await asyncio.gather(self._pump(link, Way.OUT, reader), self._pump(link, Way.BACK, far_reader))
        except asyncio.CancelledError:
            return  # the proxy ends; asyncio's server would print it as an error
        finally:
            for end in link.ends.values():
                end.close()

    async def _pump(self, link: Link, way: Way, reader: asyncio.StreamReader) -> None:
        writer = link.ends[way]
        with contextlib.suppress(OSError):
            while not link.is_cut:
                octets = await self._read(link, way, reader)
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._gates[way].wait()
                if link.cut and link.cut.way is way and link.passed[way] + len(octets) >= link.cut.after_bytes:
                    await self._cut(link, link.cut, octets)
                    return
                link.passed[way] += len(octets)
                if not octets:
                    writer.write_eof()
                    return
                writer.write(octets)
                await writer.drain()

    async def _read(self, link: Link, way: Way, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(65_536)
        except OSError:
            # Killed with something left to read, a server resets: who only waits for its answer would never know.
            await self._gates[way].wait()
            if not link.is_cut:
                link.reset()
            raise

    async def _cut(self, link: Link, cut: Cut, octets: bytes) -> None:
        writer = link.ends[cut.way]
        writer.write(octets[: cut.after_bytes - link.passed[cut.way]])
        await writer.drain()
        if cut.kind is Cutting.HALF:
            writer.write_eof()  # the other direction goes on until its sender ends it
        else:
            await link.end(cut.kind)


def reset(writer: asyncio.StreamWriter) -> None:
    """Send RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    writer.transport.abort()
