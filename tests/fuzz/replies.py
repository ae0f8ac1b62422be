"""What a remote server answers: the relay's reader of replies, and what is made of a reply."""

import asyncio
import re
from dataclasses import dataclass, field

from aiosmtplib import SMTPResponse
from typing_extensions import override

from ptt.core.reply import make_reply
from ptt.smtp.protocol import MAX_LINE, MAX_REPLY, ReplyProtocol, UnsolicitedReply
from tests.fuzz.target import Target, cut, split_choice

_loop: list[asyncio.AbstractEventLoop] = []


class NullWire(asyncio.Transport):
    """The way to nobody."""

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    @override
    def pause_reading(self) -> None:
        pass

    @override
    def abort(self) -> None:
        pass

    @override
    def is_closing(self) -> bool:
        return False


@dataclass
class Reading:
    """What came of some octets."""

    responses: list[SMTPResponse] = field(default_factory=list)
    fault: str = ""
    unsolicited: str = ""


def check_replies(octets: bytes) -> None:
    """However it is cut, a stream gives the replies of its definition, no more than are due, and then one fault."""
    choice, stream = split_choice(octets)
    due = 1 + choice % 4
    whole = _read([stream], due)
    assert _read(cut(stream, choice // 4), due) == whole
    assert whole.responses == _define(stream)[:due]
    for code, text in whole.responses:
        assert 200 <= code <= 599
        reply = make_reply(code, text)
        assert re.fullmatch(r"[ -~]+", str(reply))
        assert make_reply(code, str(reply)[4:]) == reply


def _read(pieces: list[bytes], due: int) -> Reading:
    if not _loop:
        _loop.append(asyncio.new_event_loop())
    protocol = ReplyProtocol(_loop[0])
    protocol.connection_made(NullWire())
    if due > 1:
        protocol.write_group(b"", replies=due - 1)
    for piece in pieces:
        protocol.data_received(piece)
    reading = Reading()
    while len(reading.responses) < due and (response := _take(protocol)) is not None:
        reading.responses.append(response)
    try:
        protocol.check()
    except UnsolicitedReply as error:
        reading.unsolicited = str(error.response)
    except Exception as error:  # noqa: BLE001 - its name is compared, whatever it is
        reading.fault = type(error).__name__
        assert reading.fault == "MalformedReply"
    protocol.connection_lost(None)
    return reading


def _take(protocol: ReplyProtocol) -> SMTPResponse | None:
    reading = protocol.read_response()
    try:
        reading.send(None)
    except StopIteration as done:
        response: SMTPResponse = done.value
        return response
    except ValueError:
        return None
    reading.close()
    return None


def _define(stream: bytes) -> list[SMTPResponse]:
    """Read replies as RFC 5321 section 4.2 defines them, up to what is none."""
    found: list[SMTPResponse] = []
    lines: list[bytes] = []
    for line in stream.split(b"\n")[:-1]:
        lines.append(line.removesuffix(b"\r"))
        size = sum(len(one) + 2 for one in lines)
        is_reply = re.fullmatch(rb"[2-5][0-9][0-9]([ -][^\0]*)?", lines[-1])
        if not is_reply or lines[-1][:3] != lines[0][:3] or len(lines[-1]) > MAX_LINE or size > MAX_REPLY:
            break
        if lines[-1][3:4] != b"-":
            text = b"\n".join(one[4:] for one in lines).decode("utf-8", "replace")
            found.append(SMTPResponse(int(lines[0][:3]), text))
            lines = []
    return found


_STREAMS = (
    b"220 mx ESMTP\r\n",
    b"250-mx\r\n250-SIZE 10\r\n250 PIPELINING\r\n",
    b"250\r\n",
    b"250 2.1.0 ok\r\n550 5.1.1 no\r\n",
    b"354 go\n",
    b"421 4.3.2 bye\r\n",
    b"250-a\r\n550 b\r\n",
    b"250 \xff\x1b[2J\r\n",
    b"250-\r\n250 \r\n",
)

TARGETS = (
    Target(
        name="replies",
        check=check_replies,
        seeds=tuple(choice + stream for choice in (b"\0", b"\3", b"\7", b"\x27") for stream in _STREAMS),
        words=(b"\r\n", b"\n", b"\r", b"250 ", b"250-", b"550 5.1.1 ", b"4.2.2", b"\0", b"25", b"-", b" "),
    ),
)
