"""Commands over a real connection: order, arguments, limits. RFC 5321 section 4.1, RFC 6409."""

import time

import pytest

from ptt.core.notify import Notify, RecipientRequest
from ptt.core.options import Options
from ptt.ingress.dialogue import MAX_JUNK
from tests.servers.submission import HOSTNAME, connected, logged_in, running_submission

HEADER = b"From: alice@example.test\r\nSubject: s\r\n\r\n"
ALICE = "MAIL FROM:<alice@example.test>"
RITA = "RCPT TO:<rita@destination.test>"


OFFERED = ["MT-PRIORITY", "DELIVERBY 60", "FUTURERELEASE 604800"]


def sort_extensions(lines: list[str]) -> list[str]:
    """Give the lines of EHLO without code, and FUTURERELEASE without its instant, which moves."""
    return [line[4:].rpartition(" ")[0] if "FUTURERELEASE" in line else line[4:] for line in lines]


def heads(replies: list[str]) -> list[str]:
    """Give code and enhanced status of each reply."""
    return [" ".join(reply.split(" ")[:2]) for reply in replies]


async def test_ehlo_lists_what_is_implemented_and_nothing_else() -> None:
    """RFC 3207 section 4.2, RFC 4954 section 4, RFC 8689 section 2: STARTTLS in clear, AUTH and REQUIRETLS in TLS."""
    common = ["PIPELINING", "SIZE 200000", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "LIMITS RCPTMAX=100"]
    async with running_submission() as server:
        async with connected(server, implicit=False) as client:
            lines = (await client.ask("EHLO client.test")).split("\n")
            assert sort_extensions(lines) == [HOSTNAME, *common, *OFFERED, "STARTTLS", "ENHANCEDSTATUSCODES"]
        async with connected(server) as client:
            lines = (await client.ask("EHLO client.test")).split("\n")
            auth = "AUTH SCRAM-SHA-256 PLAIN LOGIN"
            assert sort_extensions(lines) == [HOSTNAME, *common, *OFFERED, "REQUIRETLS", auth, "ENHANCEDSTATUSCODES"]


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"NOOP\nNOOP", "500 5.5.2"),
        (b"NOOP\r", "500 5.5.2"),
        (b"EHLO\0x", "500 5.5.2"),
        (b"\x80\x81\x82\x83", "500 5.5.2"),
        (b"", "500 5.5.2"),
        (b"NOOP " + b"x" * 505, "250 2.0.0"),
        (b"NOOP " + b"x" * 506, "500 5.5.2"),
        (b"x" * 2_000_000, "500 5.5.2"),
        (b"AUTH PLAIN " + b"A" * 13_000, "500 5.5.6"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2", "500 5.5.1"),
        (b"FOO", "500 5.5.1"),
        (b"EHLO", "501 5.5.4"),
        (b"HELO ", "501 5.5.4"),
        (b"EHLO " + b"x" * 300, "501 5.5.4"),
        (b"EHLO \x1b[2J", "501 5.5.2"),
        (b"EHLO a b", "501 5.5.4"),
        (b"RSET x", "501 5.5.4"),
        (b"DATA x", "501 5.5.4"),
        (b"QUIT x", "501 5.5.4"),
        (b"STARTTLS x", "501 5.5.4"),
        (b"STARTTLS", "503 5.5.1"),
        (b"VRFY alice", "252 2.0.0"),
        (b"VRFY nobody", "252 2.0.0"),
        (b"VRFY", "501 5.5.4"),
        (b"EXPN alice", "502 5.5.1"),
        (b"HELP", "214 2.0.0"),
        (b"help mail", "214 2.0.0"),
        (b"noop anything", "250 2.0.0"),
        (b"ETRN x", "500 5.5.1"),
        (b"MAIL FROM:<alice@example.test>", "503 5.5.1"),
        (b"AUTH PLAIN AA==", "503 5.5.1"),
    ],
)
async def test_command_before_ehlo_is_answered_once(octets: bytes, expected: str) -> None:
    """Cases 29 to 55: each line gets one reply with an enhanced status (RFC 2034), and the session lives."""
    async with running_submission() as server, connected(server) as client:
        assert heads([await client.ask(octets)]) == [expected]
        assert await client.ask("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("name", ["[999.1.1.1]", "a_b", "localhost"])
async def test_client_name_is_not_judged(name: str) -> None:
    """Cases 44 and 45: RFC 5321 section 4.1.4, a server must not refuse for the name alone."""
    async with running_submission() as server, connected(server) as client:
        assert (await client.ask(f"EHLO {name}")).startswith(f"250-{HOSTNAME}")
        assert await client.ask(f"HELO {name}") == f"250 {HOSTNAME}"


@pytest.mark.parametrize("request_line", ["GET / HTTP/1.1", "POST /x HTTP/1.0", "CONNECT a:1 HTTP/1.1"])
@pytest.mark.parametrize("implicit", [True, False])
async def test_http_request_is_refused_and_closed(request_line: str, implicit: bool) -> None:  # noqa: FBT001 - a case
    """Cases 36 to 38: a browser must not be made to submit mail."""
    async with running_submission() as server, connected(server, implicit=implicit) as client:
        await client.send(f"{request_line}\r\nHost: {HOSTNAME}\r\n\r\nEHLO x\r\nNOOP\r\n".encode())
        assert heads(await client.replies()) == ["502 5.5.1"]


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([RITA], ["503 5.5.1"]),
        (["DATA"], ["503 5.5.1"]),
        ([ALICE, "DATA"], ["250 2.1.0", "503 5.5.1"]),
        ([ALICE, ALICE], ["250 2.1.0", "503 5.5.1"]),
        ([ALICE, RITA, "RSET", RITA], ["250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1"]),
        ([ALICE, "HELO x", RITA], ["250 2.1.0", f"250 {HOSTNAME}", "503 5.5.1"]),
        (["MAIL FROM:<>", RITA], ["250 2.1.0", "250 2.1.5"]),
        (["MAIL FROM:<any@alerts.example.test>"], ["250 2.1.0"]),
        (['MAIL FROM:<"a b"@example.test>'], ["250 2.1.0"]),
        (["MAIL FROM:<bob@example.test>", RITA], ["550 5.7.1", "503 5.5.1"]),
        (["MAIL FROM:<alice@sub.alerts.example.test>"], ["550 5.7.1"]),
        (["MAIL FROM:<alice@[127.0.0.1]>"], ["550 5.7.1"]),
        (["MAIL FROM:<alice@example.test"], ["501 5.1.7"]),
        ([f"{ALICE} SIZE=200000"], ["250 2.1.0"]),
        ([f"{ALICE} SIZE=200001"], ["552 5.3.4"]),
        ([f"{ALICE} SIZE=²"], ["501 5.5.4"]),
        ([f"{ALICE} BODY=9BIT"], ["501 5.5.4"]),
        ([f"{ALICE} RET=HALF"], ["501 5.5.4"]),
        (["MAIL FROM:<алиса@example.test>"], ["553 5.6.7"]),
        ([ALICE, "RCPT TO:<>"], ["250 2.1.0", "501 5.1.3"]),
        ([ALICE, "RCPT TO:<a@[127.0.0.1]>"], ["250 2.1.0", "550 5.1.2"]),
        ([ALICE, "RCPT TO:<алиса@example.test>"], ["250 2.1.0", "553 5.6.7"]),
        ([f"{ALICE} SMTPUTF8", "RCPT TO:<алиса@example.test>"], ["250 2.1.0", "250 2.1.5"]),
        ([ALICE, f"{RITA} NOTIFY=NEVER,DELAY"], ["250 2.1.0", "501 5.5.4"]),
    ],
)
async def test_transaction_commands_after_login(commands: list[str], expected: list[str]) -> None:
    """Cases 48 to 100: order of commands, ownership of the reverse-path, parameters."""
    async with running_submission() as server, logged_in(server) as client:
        if "HELO x" in commands:
            expected = [*expected[:-1], "503 5.5.1"]
        assert heads(await client.ask_all(commands)) == expected
        assert server.spool.submissions == []


async def test_what_is_asked_of_reports_reaches_the_envelope() -> None:
    """RFC 3461 section 4: RET, ENVID, NOTIFY and ORCPT are kept; who asks nothing leaves nothing."""
    async with running_submission() as server, logged_in(server) as client:
        asked = [f"{ALICE} RET=full ENVID=x+20y", f"{RITA} NOTIFY=success ORCPT=rfc822;R+2B@x.test"]
        await client.ask_all([*asked, "RCPT TO:<bob@destination.test>", "DATA"])
        await client.send(HEADER + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        (envelope,) = server.spool.envelopes
    assert (envelope.ret, envelope.envid) == ("FULL", "x+20y")
    request = RecipientRequest(notify=frozenset({Notify.SUCCESS}), original_recipient="rfc822;R+2B@x.test")
    assert envelope.requests == {envelope.recipients[0]: request}


async def test_what_is_asked_of_the_way_reaches_the_envelope_and_the_spool() -> None:
    """RFC 4865 and RFC 6710: sealed for all who come after, and plain for the queue."""
    async with running_submission() as server, logged_in(server) as client:
        await client.ask_all([f"{ALICE} HOLDFOR=3600 MT-PRIORITY=-3", RITA, "DATA"])
        began = time.time()
        await client.send(HEADER + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        (envelope,), (submission,) = server.spool.envelopes, server.spool.submissions
    assert int(began) + 3600 <= envelope.options.release_at <= time.time() + 3600
    assert envelope.options == Options(release_at=submission.release_at, priority=-3)
    assert submission.priority == -3


async def test_recipients_reach_the_envelope_once_and_as_they_were_written() -> None:
    """Cases 70, 72, 83, 84 and 102: local parts are kept, a repeated recipient is one, postmaster is ours."""
    recipients = ["Rita@B.test", '"a b"@c.test', "@x.test,@y.test:a@b.test", "postmaster", "a%e@b.test", "Rita@b.test"]
    async with running_submission() as server, logged_in(server) as client:
        await client.begin(*recipients, *["again@b.test"] * 150)
        await client.send(HEADER + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        (envelope,) = server.spool.envelopes
    expected = ["Rita@b.test", '"a b"@c.test', "a@b.test", f"postmaster@{HOSTNAME}", "a%e@b.test", "again@b.test"]
    assert [str(recipient) for recipient in envelope.recipients] == expected


async def test_recipient_over_the_limit_is_refused_and_the_others_stay() -> None:
    """Case 101: RFC 5321 section 4.5.3.1.10, 452, and what was accepted before is delivered."""
    recipients = [f"r{number}@destination.test" for number in range(100)]
    async with running_submission(max_recipients=100) as server, logged_in(server) as client:
        await client.ask(ALICE)
        replies = await client.ask_all(f"RCPT TO:<{recipient}>" for recipient in [*recipients, "more@b.test"])
        assert heads(replies) == ["250 2.1.5"] * 100 + ["452 4.5.3"]
        assert (await client.ask("RCPT TO:<r7@destination.test>")).startswith("250 ")
        await client.ask("DATA")
        await client.send(HEADER + b".\r\n")
        assert (await client.reply()).startswith("250 ")
        assert [str(recipient) for recipient in server.spool.envelopes[0].recipients] == recipients


async def test_pipelined_commands_are_answered_in_order() -> None:
    """RFC 2920 section 3.2: one reply each, in the order of the commands, whatever they are."""
    commands = [ALICE, RITA, "RCPT TO:<", "NOOP", "FOO", RITA, "DATA"]
    async with running_submission() as server, logged_in(server) as client:
        await client.send("".join(f"{command}\r\n" for command in commands).encode())
        codes = [(await client.reply())[:3] for _ in commands]
        assert codes == ["250", "250", "501", "250", "500", "250", "354"]
        await client.send(HEADER + b".\r\n" + b"NOOP\r\nQUIT\r\nNOOP\r\n")
        assert [reply[:3] for reply in await client.replies()] == ["250", "250", "221"]


async def test_commands_octet_by_octet_are_the_same_as_whole() -> None:
    """Segments mean nothing."""
    async with running_submission() as server, logged_in(server) as client:
        for octet in f"{ALICE}\r\n{RITA}\r\nRSET\r\n".encode():
            await client.send(bytes([octet]))
        assert heads([await client.reply() for _ in range(3)]) == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]


@pytest.mark.parametrize("command", ["FOO", "NOOP", "RSET", "VRFY a", "HELP", "MAIL x", "EXPN a"])
async def test_junk_commands_are_answered_up_to_a_limit(command: str) -> None:
    """Case 104: RFC 5321 section 3.8, no close before the limit, and then with 421."""
    async with running_submission() as server, logged_in(server) as client:
        await client.send(f"{command}\r\n".encode() * 1000)
        replies = await client.replies()
        assert len(replies) == MAX_JUNK + 1
        assert len(set(replies[:-1])) == 1
        assert replies[-1].startswith("421 4.7.0 ")


async def test_wrong_recipients_beside_a_right_one_are_no_junk() -> None:
    """A long list with many wrong addresses still goes to the right ones; without any of these it is junk."""
    async with running_submission() as server, logged_in(server) as client:
        await client.ask_all([ALICE, RITA])
        for _ in range(MAX_JUNK + 1):
            assert (await client.ask("RCPT TO:<x")).startswith("501 5.1.3 ")
        assert (await client.ask("DATA")).startswith("354 ")


async def test_accepted_mail_clears_the_junk() -> None:
    """RSET between messages is what clients do all day."""
    async with running_submission() as server, logged_in(server) as client:
        for _ in range(MAX_JUNK + 10):
            assert await client.ask("RSET") == "250 2.0.0 OK"
            assert (await client.submit(HEADER)).startswith("250 ")


async def test_ehlo_repeated_changes_no_limit() -> None:
    """Case 105: the line limits are constants, of this session and of all others."""
    async with running_submission() as server, logged_in(server) as client:
        await client.send(b"EHLO client.test\r\n" * 1000)
        for _ in range(1000):
            assert (await client.reply()).startswith(f"250-{HOSTNAME}\n")
        too_long = f"{ALICE} AUTH=" + "x" * 1300
        assert await client.ask(too_long) == "500 5.5.2 Line too long"
        assert (await client.ask(ALICE)).startswith("250 ")


async def test_ehlo_in_a_transaction_resets_it() -> None:
    """Case 52: RFC 5321 section 4.1.4; the login stays."""
    async with running_submission() as server, logged_in(server) as client:
        await client.ask_all([ALICE, RITA])
        assert (await client.ask("EHLO other.test")).startswith(f"250-{HOSTNAME}")
        assert heads(await client.ask_all(["DATA", ALICE])) == ["503 5.5.1", "250 2.1.0"]
