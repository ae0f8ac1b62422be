"""Replies cut from octets: whole, byte by byte, malformed, too many, without end."""

import asyncio

import pytest
from aiosmtplib import SMTPReadTimeoutError, SMTPServerDisconnected
from typing_extensions import override

from ptt.smtp.protocol import MAX_LINE, MAX_REPLY, MalformedReply, ReplyProtocol, UnsolicitedReply
from tests.memory import tracing_memory


class Wire(asyncio.Transport):
    """The other side of a protocol: keeps what is written and knows whether it is read and open."""

    def __init__(self) -> None:
        """Start open and read."""
        super().__init__()
        self.written = b""
        self.is_read = True
        self.is_open = True

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    @override
    def pause_reading(self) -> None:
        self.is_read = False

    @override
    def is_closing(self) -> bool:
        return not self.is_open

    @override
    def abort(self) -> None:
        self.is_open = False


async def connect(due: int = 1) -> tuple[ReplyProtocol, Wire]:
    """Give a protocol that waits for ``due`` replies."""
    protocol, wire = ReplyProtocol(asyncio.get_running_loop()), Wire()
    protocol.connection_made(wire)
    if due > 1:
        protocol.write_group(b"", replies=due - 1)
    return protocol, wire


GOOD = [
    (b"220 hi\r\n", [(220, "hi")]),
    (b"250\r\n", [(250, "")]),
    (b"250-a\r\n250-b\r\n250 c\r\n", [(250, "a\nb\nc")]),
    (b"250-\r\n250\r\n", [(250, "\n")]),
    (b"250 bare LF\n", [(250, "bare LF")]),
    (b"250 a\r\n550 b\r\n354 c\r\n", [(250, "a"), (550, "b"), (354, "c")]),
    (b"299 x\r\n599 \xc3\xa4 \xff\x1b\r\n", [(299, "x"), (599, "ä \ufffd\x1b")]),
]


@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize(("octets", "expected"), GOOD)
async def test_replies_in_any_pieces_are_read_in_order(
    octets: bytes, expected: list[tuple[int, str]], step: int
) -> None:
    """RFC 2920 section 3.1: replies come in the order of the commands, whatever the segments."""
    protocol, wire = await connect(len(expected))
    for start in range(0, len(octets), step):
        protocol.data_received(octets[start : start + step])
    assert [tuple(await protocol.read_response(1)) for _ in expected] == expected
    assert protocol.is_in_step
    assert wire.is_open


BAD = [
    b"\r\n", b"2\r\n", b"25\r\n", b"2_5 x\r\n", b"+25 x\r\n", b"850 x\r\n", b"000 x\r\n", b"150 x\r\n", b"abc\r\n",
    b"250x\r\n", b"2500 x\r\n", b" 250 x\r\n", b"250\tx\r\n", "٢٥٠ x\r\n".encode(), b"250-a\r\n550 b\r\n",
    b"250-a\r\n251-b\r\n", b"250-a\r\nxyz\r\n", b"250 a\0b\r\n", b"250-" + b"x" * MAX_LINE + b"\r\n",
    b"x" * (MAX_LINE + 1), b"250-a\r\n" * (MAX_REPLY // 7 + 1),
]  # fmt: skip


@pytest.mark.parametrize("step", [1, 1_000_000])
@pytest.mark.parametrize("octets", BAD, ids=[repr(octets[:20]) for octets in BAD])
async def test_malformed_reply_cuts_the_connection(octets: bytes, step: int) -> None:
    """RFC 5321 section 4.2.1: what is no reply, or has two codes, is not guessed at."""
    protocol, wire = await connect()
    for start in range(0, len(octets), step):
        protocol.data_received(octets[start : start + step])
    with pytest.raises(MalformedReply):
        await protocol.read_response(1)
    assert not wire.is_open
    with pytest.raises(MalformedReply):
        protocol.write(b"MAIL\r\n")


async def test_reply_to_the_final_dot_with_nul_counts() -> None:
    """To take 250 for nothing because of its text would send the message again."""
    protocol, _ = await connect()
    protocol.data_received(b"220 hi\r\n")
    await protocol.read_response(1)
    protocol.write_group(b".\r\n", replies=1, is_final=True)
    protocol.data_received(b"250 a\0b\r\n")
    assert (await protocol.read_response(1)).code == 250


async def test_reply_without_command_stops_reading() -> None:
    """A reply that no command asked for can be paired with none that follow: nothing more is read or written."""
    protocol, wire = await connect()
    protocol.data_received(b"220 hi\r\n250 extra\r\n250 more\r\n")
    assert not wire.is_read
    assert (await protocol.read_response(1)).code == 220
    assert not protocol.is_in_step
    with pytest.raises(UnsolicitedReply) as caught:
        protocol.write(b"MAIL\r\n")
    assert caught.value.response.message == "extra"
    assert wire.written == b""


async def test_endless_octets_take_bounded_memory() -> None:
    """Neither a line without end, nor a reply without end, nor replies without end may fill the memory."""
    for octets in (b"x" * 65536, b"250-x\r\n" * 9000, b"250 x\r\n" * 9000):
        protocol, wire = await connect()
        with tracing_memory() as measure:
            for _ in range(100):
                protocol.data_received(octets)
            kept, _ = measure()
        assert kept < 10 * MAX_REPLY
        assert not (wire.is_open and wire.is_read)


async def test_read_without_reply_times_out() -> None:
    """RFC 5321 section 4.5.3.2: each wait has an end."""
    protocol, _ = await connect()
    with pytest.raises(SMTPReadTimeoutError):
        await protocol.read_response(0.01)


async def test_drain_of_a_peer_that_takes_nothing_times_out() -> None:
    """RFC 5321 section 4.5.3.2.5: so has each block of the content."""
    protocol, _ = await connect()
    protocol.pause_writing()
    with pytest.raises(SMTPReadTimeoutError):
        await protocol.drain(0.01)
    protocol.resume_writing()
    await protocol.drain(0.01)


async def test_drain_ends_when_the_peer_speaks_out_of_turn() -> None:
    """A server that refuses in the midst of the content and reads no further must not cost three minutes."""
    protocol, _ = await connect()
    protocol.data_received(b"220 hi\r\n")
    protocol.pause_writing()
    waiting = asyncio.create_task(protocol.drain(10))
    await asyncio.sleep(0)
    protocol.data_received(b"552 too big\r\n")
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(UnsolicitedReply):
        protocol.check()


async def test_loss_after_replies_lets_them_be_read_first() -> None:
    """``250`` and FIN in one segment: the reply counts, what follows does not."""
    protocol, _ = await connect()
    protocol.data_received(b"220 hi\r\n")
    assert protocol.eof_received() is False
    assert (await protocol.read_response(1)).code == 220
    with pytest.raises(SMTPServerDisconnected):
        await protocol.read_response(1)
    protocol.connection_lost(None)
    assert protocol.lost.done()
    assert not protocol.is_in_step


async def test_loss_wakes_who_waits() -> None:
    """A connection that is lost is not waited for until the timer."""
    protocol, _ = await connect()
    waiting = asyncio.create_task(protocol.read_response(10))
    await asyncio.sleep(0)
    protocol.connection_lost(ConnectionResetError())
    with pytest.raises(SMTPServerDisconnected):
        await asyncio.wait_for(waiting, 5)
