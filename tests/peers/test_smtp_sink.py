"""The courier against smtp-sink, Postfix's test server, which misbehaves on demand: another author's view of SMTP."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ptt.smtp.courier import SmtpCourier
from tests.letters import CONTENT, DESTINATION, Letter, make_options, tell
from tests.servers.ports import free_port
from tests.servers.postfix import find_program
from tests.waiting import wait_until


@contextmanager
def running_sink(*options: str) -> Iterator[int]:
    """Run smtp-sink and give its port."""
    port = free_port()
    process = subprocess.Popen([find_program("smtp-sink"), "-u", "nobody", *options, f"127.0.0.1:{port}", "50"])
    try:
        wait_until(lambda: _accepts(port), "smtp-sink accepts connections")
        yield port
    finally:
        process.terminate()
        process.wait(60)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


CASES: list[tuple[str, str, str]] = [
    *[("-q", phase, "deferred") for phase in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA")],
    ("-q", ".", "uncertain"),
    # 421 to the final dot is a reply: the message was not taken.
    *[("-Q", phase, "deferred 4.0.0") for phase in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")],
    *[("-r", phase, "deferred 4.3.0") for phase in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")],
    *[("-f", phase, "failed 5.3.0") for phase in ("CONNECT", "MAIL", "RCPT", "DATA", ".")],
    # EHLO is refused for good: HELO is tried, and taken.
    ("-f", "EHLO", "delivered 2.0.0"),
]


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one by one"])
@pytest.mark.parametrize(("option", "phase", "expected"), CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
async def test_fault_at_phase_has_its_outcome(option: str, phase: str, expected: str, *, pipelining: bool) -> None:
    """Drop (-q), 421 and drop (-Q), 4yz (-r) and 5yz (-f) at each phase."""
    with running_sink(option, phase, *([] if pipelining else ["-p"])) as port:
        courier = SmtpCourier(make_options(port))
        outcomes = tell(await courier.deliver(DESTINATION, Letter(recipients=("a@example.test",)).message))
        await courier.close()
        assert outcomes == [expected]


@pytest.mark.parametrize("options", [[], ["-p"], ["-8"], ["-e"], ["-E"], ["-F"], ["-N"], ["-P"]], ids=" ".join)
async def test_hidden_extensions_and_other_greetings_do_not_matter(options: list[str]) -> None:
    """Without PIPELINING, 8BITMIME, ESMTP or enhanced codes, and with a Cisco PIX greeting: 7-bit mail goes."""
    with running_sink(*options) as port:
        courier = SmtpCourier(replace(make_options(port), messages_per_connection=10))
        results = await asyncio.gather(*(courier.deliver(DESTINATION, Letter().message) for _ in range(30)))
        await courier.close()
        assert {tell(outcomes)[0].split()[0] for outcomes in results} == {"delivered"}


async def test_refusal_before_the_dot_is_heard() -> None:
    """smtp-sink answers 550 in the midst of the content and reads no further: its verdict, without a dot."""
    with running_sink("-A", "0") as port:
        courier = SmtpCourier(make_options(port))
        outcomes = tell(await courier.deliver(DESTINATION, Letter(content=CONTENT * 200_000).message))
        await courier.close()
        assert outcomes == ["failed 550"]
