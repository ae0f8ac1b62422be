"""The content and its end: commit before the dot, backpressure, chunks of recipients, what the peer must offer."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256

import pytest

from ptt.core.address import Address, ReversePath, parse_address
from ptt.core.errors import LeaseLost, Unavailable
from ptt.core.notify import NEVER_REPORT
from ptt.core.options import ByMode, Deadline, Options
from ptt.core.verdict import Phase
from tests.letters import CONTENT, DESTINATION, SENDER, Letter, tell, with_timeout
from tests.scripted import EXTENSIONS, Act, Answer, Script, scripted_server
from tests.unit.smtp.conftest import MakeCourier
from tests.waiting import wait_until_async

PEERS = pytest.mark.parametrize("extensions", [EXTENSIONS, ("8BITMIME",)], ids=["pipelining", "one by one"])
LARGE = b"Subject: large\r\n\r\n" + b".a line that starts with a dot and goes on for a while\r\n" * 20_000
SENDER_UTF8 = parse_address("älice@example.org", smtputf8=True)


@PEERS
@pytest.mark.parametrize("part_bytes", [1, 65_536, 100_000, 10_000_000])
@pytest.mark.parametrize("content", [CONTENT, LARGE, b"", b".", b"a\r\n.", b".\r\n.\r\n"], ids=lambda c: f"{len(c)}")
async def test_content_in_any_parts_arrives_unchanged(
    content: bytes, part_bytes: int, extensions: Sequence[str], make_courier: MakeCourier
) -> None:
    """RFC 5321 section 4.5.2: what the peer has after undoing the dots is what was given; a last CRLF is added."""
    if part_bytes == 1 and content is LARGE:
        content = LARGE[:70_000] + b"\r\n"
    async with scripted_server(Script(extensions=extensions)) as server:
        letter = Letter(content=content, part_bytes=part_bytes)
        outcomes = await make_courier(server.port).deliver(DESTINATION, letter.message)
        assert tell(outcomes) == ["delivered 2.0.0"]
        expected = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
        assert sha256(server.accepted[0].content).digest() == sha256(expected).digest()
        assert letter.commits == 1


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
async def test_commit_comes_before_the_dot(content: bytes, make_courier: MakeCourier) -> None:
    """Up to the commit the attempt can be given up without a double: nothing that ends the content may be out."""
    async with scripted_server() as server:
        seen: list[int] = []

        async def look() -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            seen.append(server.commands[0].count("DATA"))
            seen.append(server.commands[0].count("."))

        letter = Letter(content=content, before_commit=look)
        assert tell(await make_courier(server.port).deliver(DESTINATION, letter.message)) == ["delivered 2.0.0"]
        assert seen == [1, 0]


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
async def test_lease_lost_at_commit_cuts_before_the_dot(content: bytes, make_courier: MakeCourier) -> None:
    """Another worker owns the message: it must not be sent, and nothing is known that could be recorded."""
    async with scripted_server(Script(), Script()) as server:
        courier = make_courier(server.port)
        with pytest.raises(LeaseLost):
            await courier.deliver(DESTINATION, Letter(content=content, commit_error=LeaseLost()).message)
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert [commands[-1] for commands in server.commands] == ["DATA", "."]
        assert [accepted.content for accepted in server.accepted] == [CONTENT]


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("where", ["commit_error", "read_error"])
async def test_spool_away_cuts_before_the_dot_and_defers(content: bytes, where: str, make_courier: MakeCourier) -> None:
    """Nothing is committed to the remote while the spool cannot be asked: deferred, and not uncertain."""
    async with scripted_server(Script(), Script()) as server:
        courier = make_courier(server.port)
        letter = Letter(content=content, recipients=("a@example.test", "b@example.test"))
        setattr(letter, where, Unavailable("the spool is away"))
        assert tell(await courier.deliver(DESTINATION, letter.message)) == ["deferred", "deferred"]
        assert server.accepted == []
        assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]


async def test_bare_newline_fails_and_is_never_sent(make_courier: MakeCourier) -> None:
    """RFC 5321 section 2.3.8: ``LF.LF`` could end the message at some server, and the rest would be commands."""
    content = b"Subject: x\r\n\r\nhello\n.\nMAIL FROM:<evil@example.org>\r\n"
    async with scripted_server() as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter(content=content).message)) == ["failed 5.6.0"]
        assert server.accepted == []


async def test_fault_of_our_own_is_deferred(make_courier: MakeCourier, caplog: pytest.LogCaptureFixture) -> None:
    """A message that makes our own code fail stays in the queue, and the fault is logged with its queue-id."""
    async with scripted_server() as server:
        message = Letter(reverse_path=Address("a\r\nDATA", SENDER.domain)).message
        outcomes = await make_courier(server.port).deliver(DESTINATION, message)
        assert tell(outcomes) == ["deferred"]
        assert outcomes[0][1].scope == "attempt"  # type: ignore[union-attr]
        assert "MAIL" not in "".join(server.commands[0])
    record = next(record for record in caplog.records if record.getMessage() == "delivery.crashed")
    assert record.__dict__["fields"]["queue_id"] == message.queue_id


EARLY: list[tuple[str, Answer, str]] = [
    ("552", b"552 5.3.4 too big\r\n", "failed 5.3.4"),
    ("452", b"452 4.3.1 full\r\n", "deferred 4.3.1"),
    ("421", b"421 4.3.2 closing\r\n", "deferred 4.3.2"),
    ("250", b"250 2.0.0 ok\r\n", "deferred"),
    ("552 and reads no more", (b"552 5.3.4 too big\r\n", Act.DEAF), "failed 5.3.4"),
    ("close", Act.CLOSE, "deferred"),
    ("reset", Act.RESET, "deferred"),
]


@pytest.mark.parametrize(("answer", "expected"), [case[1:] for case in EARLY], ids=[case[0] for case in EARLY])
async def test_reply_in_the_midst_of_content_ends_it_without_the_dot(
    answer: Answer, expected: str, make_courier: MakeCourier
) -> None:
    """A refusal before the end is the peer's verdict; a success before the end is nonsense and no delivery."""
    huge = LARGE * 5
    async with scripted_server(Script(answers={"data": answer})) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter(content=huge).message)) == [expected]
        assert server.accepted == []


async def test_peer_that_takes_no_content_is_given_up_after_the_block_timeout(make_courier: MakeCourier) -> None:
    """RFC 5321 section 4.5.3.2.5: a window of zero is waited for as long as a block may take, and memory stays flat."""
    async with scripted_server(Script(answers={"DATA": (b"354 go\r\n", Act.DEAF)})) as server:
        letter = Letter(content=LARGE * 5)
        courier = make_courier(server.port, timeouts=with_timeout(0.2, Phase.CONTENT))
        assert tell(await courier.deliver(DESTINATION, letter.message)) == ["deferred"]
        assert letter.commits == 0


@PEERS
async def test_many_recipients_go_in_chunks(extensions: Sequence[str], make_courier: MakeCourier) -> None:
    """RFC 5321 section 4.5.3.1.8: 100 recipients are what each server must take; the rest follow on the connection."""
    recipients = tuple(f"user{i}@example.test" for i in range(250))
    async with scripted_server(Script(extensions=extensions)) as server:
        letter = Letter(recipients=recipients)
        outcomes = await make_courier(server.port).deliver(DESTINATION, letter.message)
        assert [str(recipient) for recipient, _ in outcomes] == list(recipients)
        assert set(tell(outcomes)) == {"delivered 2.0.0"}
        assert [len(accepted.recipients) for accepted in server.accepted] == [100, 100, 50]
        assert len(server.dialogues) == 1
        assert letter.commits == 3


@pytest.mark.parametrize("refusal", [b"452 4.5.3 too many\r\n", b"552 too many\r\n", b"452 too many\r\n"])
async def test_too_many_recipients_go_in_a_further_transaction(refusal: bytes, make_courier: MakeCourier) -> None:
    """RFC 5321 section 4.5.3.1.10: who was one too many is sent to in the next transaction, not in an hour."""
    ok = b"250 ok\r\n"
    recipients = tuple(f"user{i}@example.test" for i in range(5))
    async with scripted_server(
        Script(answers={"RCPT": [ok, ok, refusal, refusal, refusal, ok, ok, refusal, ok]})
    ) as server:
        outcomes = await make_courier(server.port).deliver(DESTINATION, Letter(recipients=recipients).message)
        assert tell(outcomes) == ["delivered 2.0.0"] * 5
        assert [len(accepted.recipients) for accepted in server.accepted] == [2, 2, 1]


async def test_too_many_recipients_without_headway_is_deferred(make_courier: MakeCourier) -> None:
    """A server that finds even one recipient too many is not asked for ever."""
    async with scripted_server(Script(answers={"RCPT": b"452 4.5.3 too many\r\n"})) as server:
        letter = Letter(recipients=("a@example.test", "b@example.test"))
        outcomes = await make_courier(server.port).deliver(DESTINATION, letter.message)
        assert tell(outcomes) == ["deferred 4.5.3"] * 2
        assert server.commands[0].count("DATA") == 1


async def test_recipient_named_twice_is_sent_to_once(make_courier: MakeCourier) -> None:
    """Each recipient of the message has an outcome, and each mailbox one copy."""
    async with scripted_server() as server:
        letter = Letter(recipients=("a@example.test", "b@example.test", "a@example.test"))
        outcomes = await make_courier(server.port).deliver(DESTINATION, letter.message)
        assert tell(outcomes) == ["delivered 2.0.0"] * 3
        assert server.accepted[0].recipients == ["<a@example.test>", "<b@example.test>"]


async def test_commit_names_whom_the_dot_is_for_and_who_was_served(make_courier: MakeCourier) -> None:
    """After a crash exactly those of the last dot are in doubt: neither who was refused nor who was served before."""
    ok, too_many, unknown = b"250 ok\r\n", b"452 4.5.3 too many\r\n", b"550 5.1.1 unknown\r\n"
    answers: dict[str, Answer | list[Answer]] = {"RCPT": [ok, unknown, ok, too_many, ok]}
    async with scripted_server(Script(answers=answers)) as server:
        names = [f"{name}@example.test" for name in "abcd"]
        letter = Letter(recipients=names)
        outcomes = await make_courier(server.port).deliver(DESTINATION, letter.message)
        assert tell(outcomes) == ["delivered 2.0.0", "failed 5.1.1", "delivered 2.0.0", "delivered 2.0.0"]
        assert letter.committed == [([names[0], names[2]], []), ([names[3]], [names[0], names[2]])]


async def test_connection_lost_between_chunks_defers_the_rest(make_courier: MakeCourier) -> None:
    """What was delivered stays so; after a final dot no other connection is made in the same attempt."""
    recipients = tuple(f"user{i}@example.test" for i in range(150))
    script = Script(answers={"MAIL": [b"250 ok\r\n", Act.CLOSE]})
    async with scripted_server(script, Script()) as server:
        outcomes = await make_courier(server.port).deliver(DESTINATION, Letter(recipients=recipients).message)
        assert tell(outcomes) == ["delivered 2.0.0"] * 100 + ["deferred"] * 50
        assert len(server.dialogues) == 1


async def test_connection_lost_after_the_dot_of_a_chunk_is_uncertain_for_it_alone(make_courier: MakeCourier) -> None:
    """Only those whom the dot was sent for are in doubt."""
    recipients = tuple(f"user{i}@example.test" for i in range(150))
    async with scripted_server(Script(answers={".": Act.CLOSE}), Script()) as server:
        outcomes = await make_courier(server.port).deliver(DESTINATION, Letter(recipients=recipients).message)
        assert tell(outcomes) == ["uncertain"] * 100 + ["deferred"] * 50


async def test_connection_lost_after_the_dot_leaves_those_not_in_it_certain(make_courier: MakeCourier) -> None:
    """Who was one recipient too many was not part of what the dot ended."""
    answers: dict[str, Answer | list[Answer]] = {"RCPT": [b"250 ok\r\n", b"452 4.5.3 too many\r\n"], ".": Act.CLOSE}
    async with scripted_server(Script(answers=answers), Script()) as server:
        letter = Letter(recipients=("a@example.test", "b@example.test"))
        outcomes = await make_courier(server.port).deliver(DESTINATION, letter.message)
        assert tell(outcomes) == ["uncertain", "deferred"]
        assert len(server.dialogues) == 1


async def test_connection_lost_between_commit_and_dot_is_certain(make_courier: MakeCourier) -> None:
    """The dot could not be written any more: nobody can have the message."""
    async with scripted_server(Script(answers={"DATA": (b"354 go\r\n", Act.RESET)})) as server:

        async def wait() -> None:
            await wait_until_async(lambda: server.open_count == 0, "the server is gone")
            for _ in range(20):
                await asyncio.sleep(0)

        letter = Letter(before_commit=wait)
        assert tell(await make_courier(server.port).deliver(DESTINATION, letter.message)) == ["deferred"]
        assert letter.commits == 1


async def test_message_over_the_size_limit_fails_before_it_is_sent(make_courier: MakeCourier) -> None:
    """RFC 1870 section 6.1: 5.3.4 at once; one octet less goes."""
    async with scripted_server(Script(extensions=("PIPELINING", "SIZE 1000"))) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter(size_bytes=1001).message)) == ["failed 5.3.4"]
        assert tell(await courier.deliver(DESTINATION, Letter(size_bytes=1000).message)) == ["delivered 2.0.0"]
        assert [c for c in server.commands[0] if c.startswith("MAIL")] == ["MAIL FROM:<alice@example.org> SIZE=1000"]


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE abc"])
async def test_size_without_a_limit_limits_nothing(size: str, make_courier: MakeCourier) -> None:
    """RFC 1870 section 4: 0 or no parameter is no limit."""
    async with scripted_server(Script(extensions=("PIPELINING", size))) as server:
        outcomes = await make_courier(server.port).deliver(DESTINATION, Letter(size_bytes=10**9).message)
        assert tell(outcomes) == ["delivered 2.0.0"]


async def test_eight_bit_content_to_a_seven_bit_host_fails(make_courier: MakeCourier) -> None:
    """RFC 6152 section 3: without 8BITMIME 8-bit content must not go; re-encoding would break its signature."""
    async with scripted_server(Script(extensions=("PIPELINING",))) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter(body="8BITMIME").message)) == ["failed 5.6.3"]
        assert tell(await courier.deliver(DESTINATION, Letter(body="7BIT").message)) == ["delivered 2.0.0"]


async def test_message_that_must_come_back_in_time_goes_only_to_who_keeps_deadlines(make_courier: MakeCourier) -> None:
    """RFC 2852: with mode R a host without DELIVERBY gets nothing, and the next message is unhurt; mode N goes on."""
    late, told = (Options(deadline=Deadline(at=2**31, mode=mode)) for mode in (ByMode.RETURN, ByMode.NOTIFY))
    async with scripted_server(Script(extensions=("PIPELINING",))) as server:
        courier = make_courier(server.port)
        assert tell(await courier.deliver(DESTINATION, Letter(options=late).message)) == ["failed 5.4.7"]
        assert tell(await courier.deliver(DESTINATION, Letter(options=told).message)) == ["delivered 2.0.0"]
        assert len(server.accepted) == 1
    async with scripted_server(Script(extensions=("PIPELINING", "DELIVERBY"))) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, Letter(options=late).message)) == [
            "delivered 2.0.0"
        ]


HEADER_UTF8 = "Subject: grüße\r\n\r\nx\r\n".encode()
BODY_UTF8 = "Subject: x\r\n\r\ngrüße\r\n".encode()
LOCAL_UTF8 = "jörg@example.test"
SMTPUTF8_CASES: list[tuple[str, ReversePath, Sequence[str], bytes, list[str]]] = [
    ("all ASCII", SENDER, ["a@example.test"], CONTENT, ["delivered 2.0.0"]),
    ("body only", SENDER, ["a@example.test"], BODY_UTF8, ["delivered 2.0.0"]),
    ("header", SENDER, ["a@example.test", "b@example.test"], HEADER_UTF8, ["failed 5.6.7"] * 2),
    ("sender", SENDER_UTF8, ["a@example.test"], CONTENT, ["failed 5.6.7"]),
    ("null sender", None, ["a@example.test"], CONTENT, ["delivered 2.0.0"]),
    ("one recipient", SENDER, ["a@example.test", LOCAL_UTF8], CONTENT, ["delivered 2.0.0", "failed 5.6.7"]),
    ("all recipients", SENDER, [LOCAL_UTF8], CONTENT, ["failed 5.6.7"]),
]


@pytest.mark.parametrize(
    ("sender", "recipients", "content", "expected"), [c[1:] for c in SMTPUTF8_CASES], ids=[c[0] for c in SMTPUTF8_CASES]
)
async def test_smtputf8_message_to_a_host_without_it_fails_for_those_who_need_it(
    sender: ReversePath, recipients: Sequence[str], content: bytes, expected: list[str], make_courier: MakeCourier
) -> None:
    """RFC 6531 section 3.2: what is all ASCII may go without the extension; nothing else may."""
    letter = Letter(reverse_path=sender, recipients=recipients, content=content, smtputf8=True)
    async with scripted_server(Script(extensions=("PIPELINING", "8BITMIME"))) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, letter.message)) == expected
    async with scripted_server() as server:
        outcomes = await make_courier(server.port).deliver(DESTINATION, letter.message)
        assert set(tell(outcomes)) == {"delivered 2.0.0"}
        assert "SMTPUTF8" in server.accepted[0].mail.split()


@pytest.mark.parametrize("offers", [True, False])
async def test_what_was_asked_goes_to_who_offers_dsn_alone(offers: bool, make_courier: MakeCourier) -> None:  # noqa: FBT001 - a parameter of the test
    """RFC 3461 sections 5.2.1 and 5.2.2; the outcome tells who is left to report success."""
    letter = Letter(ret="HDRS", envid="x", requests={"bob@example.test": NEVER_REPORT})
    extensions = ("PIPELINING", *(["DSN"] if offers else []))
    async with scripted_server(Script(extensions=extensions)) as server:
        ((_, outcome),) = await make_courier(server.port).deliver(DESTINATION, letter.message)
        (accepted,) = server.accepted
    assert accepted.mail.endswith(" RET=HDRS ENVID=x") is offers
    assert accepted.recipients[0].endswith(" NOTIFY=NEVER") is offers
    assert outcome.peer.takes_requests is offers


async def test_spool_away_at_the_header_defers(make_courier: MakeCourier) -> None:
    """The header has to be read before anything is sent, and cannot be."""
    letter = Letter(content=b"Subject: x\r\n", smtputf8=True, read_error=Unavailable("the spool is away"))
    async with scripted_server(Script(extensions=("PIPELINING",))) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, letter.message)) == ["deferred"]
