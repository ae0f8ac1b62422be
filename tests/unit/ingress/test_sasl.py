"""The SASL exchanges, response by response, against users with one password."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.errors import Refused
from ptt.ingress.channel import Channel
from ptt.ingress.gate import MAX_PASSWORD, Gate
from ptt.ingress.guard import Guard
from ptt.ingress.sasl import MECHANISMS, Exchange, decode_initial, decode_response, list_mechanisms
from tests.servers.scram_client import scram_steps
from tests.servers.submission import PASSWORD, SEAL_KEY, CountedGuesses, FixedUsers

BINDING = ("tls-unique", b"octets of this connection")
PLUS = "SCRAM-SHA-256-PLUS"


def make_gate(*, offers_binding: bool = False, channel: Channel = Channel()) -> Gate:  # noqa: B008 - frozen
    """Make what checks an attempt."""
    return Gate(
        users=FixedUsers(),
        guard=Guard(CountedGuesses(), SEAL_KEY),
        client_address="192.0.2.1",
        channel=channel,
        offers_binding=offers_binding,
    )


async def run(mechanism: str, gate: Gate, initial: bytes | None, *responses: bytes) -> tuple[str, list[bytes]]:
    """Run an exchange; give the login and the challenges."""
    challenges: list[bytes] = []
    waiting = list(responses)

    async def ask(challenge: bytes) -> bytes:
        challenges.append(challenge)
        return waiting.pop(0)

    login = await MECHANISMS[mechanism](Exchange(gate, ask, initial))
    assert not waiting
    return login, challenges


async def run_scram(mechanism: str, gate: Gate, password: str, binding: tuple[str, bytes] | None) -> str:
    """Run an exchange with scramp as the client, up to its check of our proof."""
    first, answer, check = scram_steps("alice", password, binding)
    seen: list[bytes] = []

    async def ask(challenge: bytes) -> bytes:
        seen.append(challenge)
        if len(seen) == 1:
            return answer(challenge)
        check(challenge)
        return b""

    return await MECHANISMS[mechanism](Exchange(gate, ask, first.encode()))


@pytest.mark.parametrize("response", [b"\0alice\0" + PASSWORD, b"alice\0alice\0" + PASSWORD])
async def test_plain_with_and_without_initial_response(response: bytes) -> None:
    """RFC 4616: the authorisation identity is empty or the login."""
    assert await run("PLAIN", make_gate(), response) == ("alice", [])
    assert await run("PLAIN", make_gate(), None, response) == ("alice", [b""])


async def test_login_with_and_without_initial_response() -> None:
    """Login first, then password."""
    assert await run("LOGIN", make_gate(), None, b"alice", PASSWORD) == ("alice", [b"Username:", b"Password:"])
    assert await run("LOGIN", make_gate(), b"alice", PASSWORD) == ("alice", [b"Password:"])


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "malformed"),
        (b"alice", "malformed"),
        (b"alice\0secret", "malformed"),
        (b"\0alice\0secret\0", "malformed"),
        (b"root\0alice\0secret", "act for another"),
        (b"\0\xff\0secret", "not UTF-8"),
        (b"\0" + b"a" * 10_000 + b"\0secret", "too long"),
        (b"\0\0secret", "empty"),
        (b"\0alice\0" + b"x" * (MAX_PASSWORD + 1), "too long"),
    ],
)
async def test_wrong_plain_response_is_refused_before_anything_is_hashed(response: bytes, reason: str) -> None:
    """RFC 4616 section 2: 535 for what names no user, another user, or is too long to be worth hashing."""
    gate = make_gate()
    with pytest.raises(Refused) as caught:
        await run("PLAIN", gate, response)
    assert caught.value.reply.code == 535
    assert reason in gate.reason
    assert isinstance(gate.users, FixedUsers)
    assert gate.users.asked == []


@pytest.mark.parametrize(("login", "reason"), [("alice", "wrong password"), ("nobody", "no such user")])
async def test_reason_is_kept_for_the_log(login: str, reason: str) -> None:
    """The client hears the same; the operator reads which."""
    gate = make_gate()
    with pytest.raises(Refused) as caught:
        await run("LOGIN", gate, login.encode(), b"wrong")
    assert (caught.value.reply.code, gate.login) == (535, login)
    assert reason in gate.reason


async def test_scram_right_and_wrong_password() -> None:
    """With a client that is not ours; it checks our proof."""
    assert await run_scram("SCRAM-SHA-256", make_gate(), PASSWORD.decode(), None) == "alice"
    gate = make_gate()
    with pytest.raises(Refused) as caught:
        await run_scram("SCRAM-SHA-256", gate, "wrong", None)
    assert (caught.value.reply.code, gate.reason) == (535, "wrong password")


async def test_scram_bound_to_this_connection() -> None:
    """RFC 5802 section 6: right octets, wrong octets, a binding that we cannot compute."""
    channel = Channel(dict([BINDING]))
    assert await run_scram(PLUS, make_gate(channel=channel), PASSWORD.decode(), BINDING) == "alice"
    for binding, reason in (
        (("tls-unique", b"of another"), "another channel"),
        (("tls-server-end-point", b"x"), "not supported"),
    ):
        gate = make_gate(channel=channel)
        with pytest.raises(Refused):
            await run_scram(PLUS, gate, PASSWORD.decode(), binding)
        assert reason in gate.reason


async def test_scram_downgrade_is_refused() -> None:
    """RFC 5802 section 6: a client that can bind says "y" only if nobody told it that we can."""
    for offers_binding in (False, True):
        gate = make_gate(offers_binding=offers_binding)
        with pytest.raises(Refused):
            await run("SCRAM-SHA-256", gate, b"y,,n=alice,r=abc", b"c=eSws,r=abc,p=" + b"A" * 43 + b"=")
        assert ("somebody changes" in gate.reason) is offers_binding


@pytest.mark.parametrize(
    ("mechanism", "first"),
    [
        ("SCRAM-SHA-256", b"p=tls-unique,,n=alice,r=abc"),
        (PLUS, b"n,,n=alice,r=abc"),
        (PLUS, b"y,,n=alice,r=abc"),
        ("SCRAM-SHA-256", b"n,a=root,n=alice,r=abc"),
        ("SCRAM-SHA-256", b"n,,n=" + b"a" * 300 + b",r=abc"),
        ("SCRAM-SHA-256", b"nonsense"),
        ("SCRAM-SHA-256", b""),
    ],
)
async def test_scram_wrong_first_message_is_refused_at_once(mechanism: str, first: bytes) -> None:
    """No challenge is given to what cannot become a login."""
    gate = make_gate(channel=Channel(dict([BINDING])))
    with pytest.raises(Refused) as caught:
        await run(mechanism, gate, first)
    assert caught.value.reply.code == 535
    assert gate.reason


async def test_scram_unknown_user_looks_like_a_known_one() -> None:
    """RFC 5802 section 9: a salt that is the same each time, then 535."""
    firsts = []
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await run("SCRAM-SHA-256", make_gate(), b"n,,n=nobody,r=abc", b"")
        assert caught.value.reply.code == 535
        challenges: list[bytes] = []

        async def ask(challenge: bytes, into: list[bytes] = challenges) -> bytes:
            into.append(challenge)
            return b""

        with pytest.raises(Refused):
            await MECHANISMS["SCRAM-SHA-256"](Exchange(make_gate(), ask, b"n,,n=nobody,r=abc"))
        firsts.append(challenges[0].partition(b",")[2])
    assert firsts[0] == firsts[1]
    assert firsts[0].startswith(b"s=")


def test_list_mechanisms_offers_what_can_work() -> None:
    """-PLUS with a binding, EXTERNAL with a certificate, OAUTHBEARER with keys; what is not allowed never."""
    every, full = tuple(MECHANISMS), Channel(dict([BINDING]), frozenset({"dns:a.test"}))
    assert list_mechanisms(every, Channel(), has_tokens=False) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert list_mechanisms(every, full, has_tokens=True) == every
    assert list_mechanisms(("LOGIN", "PLAIN"), full, has_tokens=True) == ("PLAIN", "LOGIN")


@pytest.mark.parametrize(
    "text",
    [b"!", b"AGE", b"AGE=AGE=", b"AG E=", b"AGE=\t", b"A-__", b"AGF=", b"=", b"====", b"AGE=====", b"\xff\xff\xff\xff"],
)
def test_what_is_not_canonical_base64_is_refused(text: bytes) -> None:
    """RFC 4954 section 4: 501; blanks, other alphabets, missing padding and stray bits are not base64."""
    with pytest.raises(Refused) as caught:
        decode_response(text)
    assert (caught.value.reply.code, caught.value.reply.enhanced_status) == (501, "5.5.2")


def test_initial_response_of_no_octets_is_an_equals_sign() -> None:
    """RFC 4954 section 4."""
    assert decode_initial("=") == b""


@given(st.sampled_from(list(MECHANISMS)), st.lists(st.binary(max_size=60), min_size=4, max_size=4))
def test_any_responses_end_in_a_refusal(mechanism: str, responses: list[bytes]) -> None:
    """Whatever is said, no mechanism raises anything else, and none lets in."""
    with pytest.raises(Refused):
        asyncio.run(run(mechanism, make_gate(channel=Channel(dict([BINDING]))), *responses))
