"""Each code at each phase, with and without PIPELINING; partial acceptance; replies that fit nowhere."""

import itertools
from collections.abc import Sequence

import pytest

from ptt.core.outcome import Delivered
from tests.letters import CONTENT, DESTINATION, Letter, tell
from tests.scripted import EXTENSIONS, Act, Answer, Script, scripted_server
from tests.unit.smtp.conftest import MakeCourier

CODES = [421, 450, 451, 452, 454, 500, 501, 550, 552, 554]
PEERS = pytest.mark.parametrize("extensions", [EXTENSIONS, ("SIZE", "8BITMIME")], ids=["pipelining", "one by one"])
THREE = ("a@example.test", "b@example.test", "c@example.test")


def reply(code: int) -> bytes:
    """Give a reply whose enhanced status tells nothing but the class."""
    return f"{code} {code // 100}.0.{code % 100} scripted\r\n".encode()


def word(code: int) -> str:
    """Give the outcome that a code stands for."""
    return f"{'deferred 4' if code < 500 else 'failed 5'}.0.{code % 100}"


@PEERS
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("verb", ["MAIL", "DATA", "."])
async def test_code_at_message_phase_decides_for_all_and_spares_the_next(
    verb: str, code: int, extensions: Sequence[str], make_courier: MakeCourier
) -> None:
    """RFC 5321 section 4.2.1: 4yz is deferred, 5yz fails; the next message goes as if nothing had been."""
    bad = Script(
        extensions=extensions, answers={verb: [reply(code), b"354 go\r\n" if verb == "DATA" else b"250 ok\r\n"]}
    )
    async with scripted_server(bad, Script()) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter(recipients=THREE).message)) == [word(code)] * 3
        assert server.accepted == []
        assert tell(await courier.deliver(DESTINATION, Letter().message)) in (["delivered 2.0.0"], ["delivered 250"])
        assert [accepted.content for accepted in server.accepted] == [CONTENT]


@PEERS
@pytest.mark.parametrize("code", CODES)
async def test_code_at_rcpt_decides_for_its_recipient(
    code: int, extensions: Sequence[str], make_courier: MakeCourier
) -> None:
    """One recipient's reply is its own; 552 to RCPT is temporary (RFC 5321 section 4.5.3.1.10); 421 ends all."""
    answers: dict[str, Answer | list[Answer]] = {"RCPT": [b"250 ok\r\n", reply(code), b"250 ok\r\n"]}
    async with scripted_server(Script(extensions=extensions, answers=answers), Script()) as server:
        courier = make_courier(server.port)
        outcomes = tell(await courier.deliver(DESTINATION, Letter(recipients=THREE).message))
        if code == 421:
            assert outcomes == ["deferred 4.0.21"] * 3
        else:
            expected = "deferred 5.0.52" if code == 552 else word(code)
            assert outcomes == ["delivered 2.0.0", expected, "delivered 2.0.0"]
            assert server.accepted[0].recipients == ["<a@example.test>", "<c@example.test>"]
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("phase", ["banner", "EHLO"])
async def test_code_at_greeting_decides_if_no_other_host_is_left(
    phase: str, code: int, make_courier: MakeCourier
) -> None:
    """RFC 5321 section 3.1: a host may refuse at its greeting; with no other host left that is the outcome."""
    both: Answer = (reply(code), Act.CLOSE)
    script = Script(banner=both) if phase == "banner" else Script(answers={"EHLO": both, "HELO": both})
    async with scripted_server(script) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, Letter().message)) == [word(code)]


@pytest.mark.parametrize("code", CODES)
async def test_code_at_rset_opens_another_connection(code: int, make_courier: MakeCourier) -> None:
    """RSET is our own housekeeping: that it fails says nothing of the message."""
    answers: dict[str, Answer | list[Answer]] = {"RCPT": [reply(550), b"250 ok\r\n"], "RSET": reply(code)}
    async with scripted_server(Script(answers=answers), Script()) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == [word(550)]
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert len(server.commands) == 2


@pytest.mark.parametrize("code", CODES)
async def test_code_at_quit_is_ignored(code: int, make_courier: MakeCourier) -> None:
    """RFC 5321 section 4.1.1.10: QUIT is said, its reply waited for, and whatever it is, it changes nothing."""
    async with scripted_server(Script(answers={"QUIT": reply(code)})) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        await courier.close()
        assert server.commands[0][-1] == "QUIT"


@pytest.mark.parametrize("code", [200, 250, 251, 252, 299])
async def test_any_2yz_to_the_dot_is_delivered(code: int, make_courier: MakeCourier) -> None:
    """RFC 5321 section 4.2.1: a client that knows 250 only would send the message twice."""
    async with scripted_server(Script(answers={".": reply(code)})) as server:
        outcomes = await make_courier(server.port).deliver(DESTINATION, Letter().message)
        assert isinstance(outcomes[0][1], Delivered)
        assert outcomes[0][1].reply.code == code
        assert outcomes[0][1].peer.mx_host == "mx.example"


RCPT_REPLIES = {"delivered": b"250 2.1.5 ok\r\n", "deferred": b"450 4.2.1 busy\r\n", "failed": b"550 5.1.1 who\r\n"}
DOT_REPLIES = {
    "delivered 2.6.0": b"250 2.6.0 ok\r\n",
    "deferred 4.3.0": b"451 4.3.0 not now\r\n",
    "failed 5.7.1": b"554 5.7.1 no\r\n",
}


@PEERS
@pytest.mark.parametrize("dot", DOT_REPLIES)
@pytest.mark.parametrize("kinds", list(itertools.product(RCPT_REPLIES, repeat=3)), ids=" ".join)
async def test_partial_acceptance_gives_each_recipient_its_own_outcome(
    kinds: tuple[str, ...], dot: str, extensions: Sequence[str], make_courier: MakeCourier
) -> None:
    """RFC 5321 section 3.3: the reply to the dot is for those accepted, that to RCPT for the others; 81 cases."""
    script = Script(
        extensions=extensions, answers={"RCPT": [RCPT_REPLIES[kind] for kind in kinds], ".": DOT_REPLIES[dot]}
    )
    refused = {"delivered": dot, "deferred": "deferred 4.2.1", "failed": "failed 5.1.1"}
    async with scripted_server(script) as server:
        letter = Letter(recipients=THREE)
        outcomes = tell(await make_courier(server.port).deliver(DESTINATION, letter.message))
        assert outcomes == [refused[kind] for kind in kinds]
        taken = [f"<{name}>" for name, kind in zip(THREE, kinds, strict=True) if kind == "delivered"]
        assert [a.recipients for a in server.accepted] == ([taken] if taken and dot.startswith("delivered") else [])
        assert letter.commits == bool(taken)
        assert server.commands[0].count(".") == bool(taken)


async def test_354_with_no_recipient_accepted_sends_an_empty_message_to_nobody(make_courier: MakeCourier) -> None:
    """RFC 2920 section 3.1: a server may answer 354 to a pipelined DATA although it took no recipient."""
    script = Script(
        answers={"RCPT": [reply(550), b"250 ok\r\n"], "DATA": b"354 go\r\n", ".": [reply(554), b"250 ok\r\n"]}
    )
    async with scripted_server(script) as server:
        courier, letter = make_courier(server.port), Letter()
        assert tell(await courier.deliver(DESTINATION, letter.message)) == [word(550)]
        assert letter.commits == 0
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 250"]
        assert len(server.commands) == 1
        assert "RSET" not in server.commands[0]
        assert [accepted.content for accepted in server.accepted] == [CONTENT]


async def test_refusal_of_all_resets_before_the_next(make_courier: MakeCourier) -> None:
    """RFC 5321 section 4.1.1.5: MAIL was accepted and nothing came of it, so that RSET must come before the next."""
    async with scripted_server(Script(answers={"RCPT": [reply(550), b"250 ok\r\n"]})) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == [word(550)]
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert server.commands[0].count("RSET") == 1
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert server.commands[0].count("RSET") == 1


@PEERS
@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_refusal_and_close_in_one_is_the_refusal(
    verb: str, extensions: Sequence[str], make_courier: MakeCourier
) -> None:
    """A server that says 550 and closes has said 550: that it closed is no network error."""
    async with scripted_server(Script(extensions=extensions, answers={verb: (reply(550), Act.CLOSE)})) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, Letter().message)) == [word(550)]


ODD: list[tuple[str, bytes, str]] = [
    ("MAIL", b"354 go\r\n", "deferred"),
    ("RCPT", b"354 go\r\n", "deferred"),
    ("DATA", b"250 ok\r\n", "deferred"),
    ("MAIL", b"250-a\r\n550 b\r\n", "deferred"),
    ("RCPT", b"150 x\r\n", "deferred"),
    ("DATA", b"354\0 go\r\n", "deferred"),
    ("MAIL", b"250 ok\r\n250 twice\r\n", "deferred"),
    ("EHLO", b"250-a\r\n550 b\r\n", "deferred"),
    ("EHLO", b"250-" + b"x" * 10_000, "deferred"),
    ("MAIL", b"250-x\r\n" * 10_000, "deferred"),
    (".", b"354 go\r\n", "uncertain"),
    (".", b"250-a\r\n550 b\r\n", "uncertain"),
    (".", b"2_5 x\r\n", "uncertain"),
    (".", b"250 o\0k\r\n", "delivered"),
]


@PEERS
@pytest.mark.parametrize(("verb", "answer", "expected"), ODD, ids=[f"{case[0]} {case[1][:14]!r}" for case in ODD])
async def test_reply_that_fits_nowhere_is_deferred_and_spares_the_next(
    verb: str, answer: Answer, expected: str, extensions: Sequence[str], make_courier: MakeCourier
) -> None:
    """Nonsense proves nothing about the message: deferred before the dot, uncertain after it; the connection is cut."""
    async with scripted_server(Script(extensions=extensions, answers={verb: answer}), Script()) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message))[0].split()[0] == expected
        if verb == "EHLO":
            return  # the host counts as dead for a moment
        assert tell(await courier.deliver(DESTINATION, Letter().message)) in (["delivered 2.0.0"], ["delivered 250"])


async def test_enhanced_status_of_another_class_does_not_count(make_courier: MakeCourier) -> None:
    """RFC 2034 section 4: the code decides, whatever an enhanced status of another class claims."""
    async with scripted_server(Script(answers={".": b"451 5.7.1 code wins\r\n"})) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, Letter().message)) == ["deferred 451"]


async def test_354_after_mail_was_refused_cuts_the_connection(make_courier: MakeCourier) -> None:
    """A server so confused may have taken the recipients: a lone dot would send them an empty message."""
    answers: dict[str, Answer | list[Answer]] = {"MAIL": reply(550), "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n"}
    async with scripted_server(Script(answers=answers), Script()) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == [word(550)]
        assert server.accepted == []
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert len(server.commands) == 2


async def test_ehlo_refused_falls_back_to_helo(make_courier: MakeCourier) -> None:
    """RFC 5321 section 3.2: a server that does not know EHLO is greeted with HELO and offers nothing."""
    async with scripted_server(Script(answers={"EHLO": b"502 5.5.1 what\r\n"})) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert server.commands[0][:3] == [
            "EHLO relay.example.org",
            "HELO relay.example.org",
            "MAIL FROM:<alice@example.org>",
        ]


async def test_reply_text_is_cleaned(make_courier: MakeCourier) -> None:
    """What a remote server writes cannot write lines or escape codes into our log and reports."""
    async with scripted_server(Script(answers={"MAIL": b"550-5.7.1 a\x1b[2J\r\n550 b\xff\r\n"})) as server:
        outcomes = await make_courier(server.port).deliver(DESTINATION, Letter().message)
        assert str(outcomes[0][1].reply) == "550 5.7.1 a?[2J b?"
