"""AUTH over a real connection. RFC 4954, RFC 4616; one final reply for each attempt, whatever comes."""

import json
import logging

import pytest

from ptt.core.errors import Unavailable
from ptt.core.scram import make_verifier
from ptt.ingress.gate import MAX_PASSWORD
from ptt.maillog import JsonFormatter
from tests.servers.submission import ALICE, PASSWORD, connected, encode, logged_in, plain, running_submission
from tests.waiting import wait_until_async

OK = "235 2.7.0 Authentication successful"
INVALID = "535 5.7.8 Authentication credentials invalid"
GOOD = plain("alice", PASSWORD)
MAIL = "MAIL FROM:<alice@example.test>"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([f"AUTH PLAIN {GOOD}"], id="plain"),
        pytest.param([f"auth plain {GOOD}"], id="C113"),
        pytest.param([f"AUTH PLAIN {plain('alice', PASSWORD, 'alice')}"], id="C124"),
        pytest.param(["AUTH PLAIN", GOOD], id="plain-asked"),
        pytest.param(["AUTH LOGIN", encode(b"alice"), encode(PASSWORD)], id="login"),
        pytest.param([f"AUTH LOGIN {encode(b'alice')}", encode(PASSWORD)], id="login-initial"),
        pytest.param(["aUtH lOgIn", encode(b"alice"), encode(PASSWORD)], id="C113-login"),
    ],
)
@pytest.mark.parametrize("implicit", [True, False])
async def test_right_password_logs_in(lines: list[str], implicit: bool) -> None:  # noqa: FBT001 - a case
    """PLAIN and LOGIN, with and without initial response, over implicit TLS and STARTTLS."""
    async with running_submission() as server, connected(server, implicit=implicit) as client:
        if not implicit:
            await client.start_tls(server.certificate)
        await client.ask("EHLO client.test")
        replies = await client.ask_all(lines)
        assert all(reply.startswith("334 ") for reply in replies[:-1])
        assert replies[-1] == OK
        assert (await client.ask(MAIL)).startswith("250 ")


async def test_challenges_are_what_clients_know() -> None:
    """An empty challenge for PLAIN with its blank (RFC 4954 section 4), and the two of LOGIN."""
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        assert await client.ask_all(["AUTH PLAIN", "*"]) == ["334 ", "501 5.7.0 Authentication cancelled"]
        challenges = await client.ask_all(["AUTH LOGIN", encode(b"alice"), encode(PASSWORD)])
        assert challenges == [f"334 {encode(b'Username:')}", f"334 {encode(b'Password:')}", OK]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["AUTH"], "501 5.5.4", id="C111"),
        pytest.param(["AUTH NOPE"], "504 5.5.4", id="C112"),
        pytest.param(["AUTH PLAIN ="], "535 5.7.8", id="C114"),
        pytest.param(["AUTH PLAIN !"], "501 5.5.2", id="C115"),
        pytest.param(["AUTH PLAIN AGE= x"], "501 5.5.2", id="C116"),
        pytest.param(["AUTH PLAIN", "A-__"], "501 5.5.2", id="C117"),
        pytest.param(["AUTH PLAIN", "AGE"], "501 5.5.2", id="C118"),
        pytest.param(["AUTH PLAIN", ""], "535 5.7.8", id="C114-asked"),
        pytest.param(["AUTH PLAIN", "*"], "501 5.7.0", id="C125-plain"),
        pytest.param(["AUTH LOGIN", "*"], "501 5.7.0", id="C125-login"),
        pytest.param(["AUTH LOGIN", encode(b"alice"), "*"], "501 5.7.0", id="C125-password"),
        pytest.param(["AUTH LOGIN", encode(b"alice"), "!"], "501 5.5.2", id="C115-password"),
        pytest.param([f"AUTH PLAIN {plain('alice', b'wrong')}"], "535 5.7.8", id="C122-wrong"),
        pytest.param([f"AUTH PLAIN {plain('nobody', PASSWORD)}"], "535 5.7.8", id="C121-unknown"),
        pytest.param([f"AUTH PLAIN {plain('', PASSWORD)}"], "535 5.7.8", id="C121"),
        pytest.param([f"AUTH PLAIN {plain('alice', b'')}"], "535 5.7.8", id="C122"),
        pytest.param([f"AUTH PLAIN {plain('alice', PASSWORD, 'root')}"], "535 5.7.8", id="C123"),
        pytest.param([f"AUTH PLAIN {encode(b'alice')}"], "535 5.7.8", id="C119"),
        pytest.param([f"AUTH PLAIN {encode(b'a' + bytes(3) + b'b')}"], "535 5.7.8", id="C120"),
        pytest.param([f"AUTH PLAIN {plain('../alice', PASSWORD)}"], "535 5.7.8", id="C130-path"),
        pytest.param([f"AUTH PLAIN {plain('*', PASSWORD)}"], "535 5.7.8", id="C130-glob"),
        pytest.param(
            [f"AUTH PLAIN {encode(bytes([0]) + b'alice' + bytes([10, 0]) + PASSWORD)}"],
            "535 5.7.8",
            id="C130-line-feed",
        ),
        pytest.param([f"AUTH PLAIN {encode(bytes([0, 255, 0]) + PASSWORD)}"], "535 5.7.8", id="C131"),
        pytest.param(["AUTH LOGIN", encode(b"ali\0ce"), encode(PASSWORD)], "535 5.7.8", id="C130-nul"),
        pytest.param(["AUTH PLAIN", "A" * 12_284], "535 5.7.8", id="C126"),
        pytest.param(["AUTH PLAIN", "A" * 12_287], "500 5.5.6", id="C127"),
        pytest.param(["AUTH LOGIN", "A" * 2_000_000], "500 5.5.6", id="C127-endless"),
    ],
)
async def test_failed_attempt_gets_one_reply_and_the_session_lives(lines: list[str], expected: str) -> None:
    """Cases C111 to C131: refused, and the next attempt may succeed."""
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        assert (await client.ask_all(lines))[-1].startswith(f"{expected} ")
        assert await client.ask(MAIL) == "530 5.7.0 Authentication required"
        assert await client.ask(f"AUTH PLAIN {GOOD}") == OK


@pytest.mark.parametrize("password", [b"x" * (MAX_PASSWORD + 1), b"x" * 9000])
async def test_long_password_is_refused_without_asking(password: bytes) -> None:
    """Cases 128 and 129: hashing is dear, and its price is not the client's choice."""
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        assert await client.ask(f"AUTH PLAIN {plain('alice', password)}") == INVALID
        assert await client.ask(f"AUTH PLAIN {plain('a' * 8000, PASSWORD)}") == INVALID
        assert server.users.asked == []


async def test_third_failure_closes_the_connection() -> None:
    """Guessing costs a connection each few tries."""
    wrong = f"AUTH PLAIN {plain('alice', b'wrong')}"
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        assert await client.ask_all([wrong, wrong]) == [INVALID] * 2
        await client.send(f"{wrong}\r\nAUTH PLAIN {GOOD}\r\n".encode())
        assert [reply[:9] for reply in await client.replies()] == ["421 4.7.0"]
        assert len(server.users.asked) == 3


async def test_login_is_possible_once() -> None:
    """Cases 109, 110 and 134: not again, not in a transaction, not in the same segment."""
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        await client.send(f"AUTH PLAIN {GOOD}\r\nAUTH PLAIN {GOOD}\r\n{MAIL}\r\nAUTH PLAIN {GOOD}\r\n".encode())
        heads = [(await client.reply())[:9] for _ in range(4)]
        assert heads == ["235 2.7.0", "503 5.5.1", "250 2.1.0", "503 5.5.1"]


async def test_command_pipelined_behind_a_failed_login_is_refused() -> None:
    """Case 135: never accepted without a login."""
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        await client.send(f"AUTH PLAIN {plain('alice', b'wrong')}\r\n{MAIL}\r\n".encode())
        assert await client.reply() == INVALID
        assert await client.reply() == "530 5.7.0 Authentication required"


async def test_auth_in_clear_or_before_ehlo_is_refused() -> None:
    """Cases C107 and C108: not offered and 530 before TLS, whatever the mechanism; 503 before EHLO."""
    async with running_submission() as server:
        async with connected(server, implicit=False) as client:
            assert "AUTH" not in await client.ask("EHLO client.test")
            for line in (f"AUTH PLAIN {GOOD}", "AUTH LOGIN", "AUTH SCRAM-SHA-256", "AUTH EXTERNAL =", "AUTH NOPE"):
                assert (await client.ask(line)).startswith("530 5.7.0 ")
        async with connected(server) as client:
            assert (await client.ask(f"AUTH PLAIN {GOOD}")).startswith("503 5.5.1 ")
        assert server.users.asked == []


async def test_passwords_that_differ_in_form_differ() -> None:
    """Case C132: PLAIN and LOGIN compare octets, and SCRAM what SASLprep makes of them."""
    forms = ["e\u0301".encode(), "\u00e9".encode()]
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        for form in forms:
            await client.ask(f"AUTH PLAIN {plain('alice', form)}")
        assert server.users.passwords == forms
    one, other = [make_verifier(form, b"salt", 4096) for form in forms]
    assert one == other


@pytest.mark.parametrize("line", ["AUTH PLAIN", "AUTH LOGIN", f"AUTH SCRAM-SHA-256 {encode(b'n,,n=alice,r=abc')}"])
async def test_client_that_leaves_after_334_is_forgotten(line: str) -> None:
    """Case C133: no login, no connection that stays."""
    async with running_submission() as server:
        async with connected(server) as client:
            await client.ask("EHLO client.test")
            assert (await client.ask(line)).startswith("334 ")
        await wait_until_async(lambda: server.listener.connection_count == 0, "the connection is forgotten")
        assert server.users.asked == []


async def test_helo_client_cannot_log_in() -> None:
    """AUTH is an extension, and HELO knows none (RFC 5321 section 4.1.1.1)."""
    async with running_submission() as server, connected(server) as client:
        await client.ask("HELO client.test")
        assert await client.ask(f"AUTH PLAIN {GOOD}") == "503 5.5.1 Send EHLO first"


async def test_missing_snapshot_of_users_is_a_temporary_failure() -> None:
    """RFC 4954 section 6: 454, and no hint at the cause."""
    async with running_submission() as server, connected(server) as client:
        server.users.fault = Unavailable("/var/lib/ptt/users.git: gone")
        await client.ask("EHLO client.test")
        assert await client.ask(f"AUTH PLAIN {GOOD}") == "454 4.7.0 Temporary authentication failure"
        server.users.fault = OSError(24, "a secret cause")
        assert await client.ask(f"AUTH PLAIN {GOOD}") == "451 4.3.0 Temporary failure, try again later"
        server.users.fault = None
        assert await client.ask(f"AUTH PLAIN {GOOD}") == OK


async def test_user_who_is_gone_cannot_begin_another_message() -> None:
    """Case 136: a push to the users repository counts at the next MAIL, with 535."""
    async with running_submission() as server, logged_in(server) as client:
        assert (await client.ask(MAIL)).startswith("250 ")
        await client.ask("RSET")
        del server.users.users["alice"]
        assert await client.ask(MAIL) == "535 5.7.8 Authentication credentials are no longer valid"
        server.users.users["alice"] = ALICE
        assert (await client.ask(MAIL)).startswith("250 ")


async def test_failed_login_is_logged_without_the_password(caplog: pytest.LogCaptureFixture) -> None:
    """The log names who, from where and how, in one line without control characters."""
    caplog.set_level(logging.INFO, "ptt")
    async with running_submission() as server, connected(server) as client:
        await client.ask("EHLO client.test")
        await client.ask(f"AUTH PLAIN {plain('ali' + chr(27) + 'ce', b'hunter2')}")
    (record,) = [record for record in caplog.records if record.message == "auth.failed"]
    line = JsonFormatter().format(record)
    assert {"user": "ali\x1bce", "mechanism": "PLAIN", "client_address": "127.0.0.1"}.items() <= json.loads(
        line
    ).items()
    assert "hunter2" not in line
    assert encode(b"hunter2") not in line
    assert line.isprintable()
