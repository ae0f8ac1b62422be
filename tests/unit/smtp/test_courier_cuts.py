"""The connection is cut at any octet, or a phase never ends: no double, no loss, no false certainty."""

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import trustme

from ptt.core.outcome import Deferred, Delivered
from ptt.core.verdict import Phase
from ptt.smtp.courier import SmtpCourier
from ptt.smtp.timeouts import make_timeouts
from tests.letters import CONTENT, DESTINATION, Letter, make_options, tell, with_timeout
from tests.scripted import EXTENSIONS, Act, Cut, Script, scripted_server
from tests.unit.smtp.conftest import MakeCourier

pytestmark = pytest.mark.timeout(300)  # hundreds of connections in each test
PEERS = pytest.mark.parametrize("extensions", [EXTENSIONS, ("8BITMIME",)], ids=["pipelining", "one by one"])
STEP = 3
"""Each third octet is cut at: a line end, a digit and a letter of each reply and command are among them."""


async def deliver_over(script: Script) -> None:
    """Deliver two messages to a server whose first connection goes by the script; check what must always hold."""
    async with scripted_server(script, Script(extensions=script.extensions)) as server:
        courier = SmtpCourier(make_options(server.port))
        letters = [Letter(recipients=("a@example.test", "b@example.test")) for _ in range(2)]
        for letter in letters:
            before = len(server.accepted)
            outcomes = [outcome for _, outcome in await courier.deliver(DESTINATION, letter.message)]
            accepted = len(server.accepted) - before
            assert accepted <= 1, "sent twice in one attempt"
            assert letter.commits == 1 or not accepted, "sent without commit"
            for outcome in outcomes:
                assert isinstance(outcome, Delivered | Deferred)
                is_uncertain = isinstance(outcome, Deferred) and outcome.uncertain
                assert isinstance(outcome, Delivered) <= bool(accepted), "lost"
                assert bool(accepted) <= (isinstance(outcome, Delivered) or is_uncertain), (
                    "a double that nobody knows of"
                )
        await courier.close()


@PEERS
@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET])
@pytest.mark.parametrize("direction", ["sent", "received"])
async def test_cut_at_any_octet_keeps_the_outcome_true(direction: str, act: Act, extensions: Sequence[str]) -> None:
    """What the server took is delivered or uncertain, what it did not take is neither delivered nor sent twice."""
    async with scripted_server(Script(extensions=extensions)) as server:
        courier = SmtpCourier(make_options(server.port))
        for _ in range(2):
            await courier.deliver(DESTINATION, Letter(recipients=("a@example.test", "b@example.test")).message)
        await courier.close()
        traffic = server.traffic[0]
    total = traffic[0] if direction == "sent" else traffic[1]
    for start in range(1, total, STEP * 20):
        cuts = [Cut(**{direction: octets}, act=act) for octets in range(start, min(start + STEP * 20, total), STEP)]
        await asyncio.gather(*(deliver_over(Script(extensions=extensions, cut=cut)) for cut in cuts))


async def test_cut_in_tls_keeps_the_outcome_true() -> None:
    """The same through TLS, where a FIN without close_notify is no end."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.example").configure_cert(tls)
    for act in (Act.CLOSE, Act.RESET):
        for octets in range(1, 900, 60):
            await deliver_over(Script(tls=tls, cut=Cut(received=octets, act=act)))


HANGS = {
    Phase.GREETING: Script(banner=Act.HANG),
    Phase.EHLO: Script(answers={"EHLO": Act.HANG}),
    Phase.MAIL: Script(answers={"MAIL": Act.HANG}),
    Phase.RCPT: Script(answers={"RCPT": Act.HANG}),
    Phase.DATA: Script(answers={"DATA": Act.HANG}),
    Phase.DOT: Script(answers={".": Act.HANG}),
}


@PEERS
@pytest.mark.parametrize("phase", HANGS)
async def test_silence_is_waited_for_as_long_as_its_phase_may_take(phase: Phase, extensions: Sequence[str]) -> None:
    """RFC 5321 section 4.5.3.2: each phase has a timer of its own; here that of all others is minutes."""
    async with scripted_server(replace(HANGS[phase], extensions=extensions)) as server:
        courier = SmtpCourier(replace(make_options(server.port), timeouts=with_timeout(0.2, phase)))
        started = time.monotonic()
        word = tell(await courier.deliver(DESTINATION, Letter().message))[0]
        assert time.monotonic() - started >= 0.2
        await courier.close()
    assert word == ("uncertain" if phase is Phase.DOT else "deferred")


def test_timers_are_as_long_as_the_rfc_asks() -> None:
    """RFC 5321 section 4.5.3.2: 5, 5, 5, 5, 2, 3 and 10 minutes."""
    timeouts = make_timeouts()
    assert [timeouts[phase] for phase in HANGS] == [300, 300, 300, 300, 120, 600]
    assert timeouts[Phase.CONTENT] == 180


async def test_slow_peer_within_the_timers_gets_its_mail(make_courier: MakeCourier) -> None:
    """A greeting that takes its time, octet by octet, is waited for."""
    octets = tuple(step for octet in b"220 mx.example ESMTP\r\n" for step in (bytes([octet]), Act.PAUSE))
    async with scripted_server(Script(banner=octets)) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert server.accepted[0].content == CONTENT
