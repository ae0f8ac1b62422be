"""The numbered cases of bad and odd input: what is sent, and the exact reply; tests/data/cases/submission.toml."""

import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.submission import PASSWORD, Client, SubmissionServer, connected, encode, plain, running_submission

HEADER = b"From: alice@example.test\r\nSubject: s\r\n\r\n"
SMUGGLED = (
    b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<victim@destination.test>\r\nDATA\r\n"
    b"From: alice@example.test\r\n\r\nsmuggled\r\n.\r\n"
)
NAMES: Mapping[str, bytes] = {
    "H": HEADER,
    "S": SMUGGLED,
    "BIG": (b"x" * 98 + b"\r\n") * 2100,
    "BLANKS": (b" " * 98 + b"\r\n") * 1900,
    "CRLFS": b"\r\n" * 90_000,
    "10M": b"x" * 10_000_000,
    "12288": b"A" * 12_288,
    "d190": b".".join([b"x" * 62] * 3 + [b"test"]),
    "2001 FIELDS": b"X: y\r\n" * 2001,
    "300K FIELD": b"X: " + b" y\r\n" * 70_000,
    "100 RECEIVED": b"Received: x\r\n" * 100,
    "99 RECEIVED": b"Received: x\r\n" * 99,
    "LEVELS": b"".join(b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n" % (n, n + 1) for n in range(3000)),
    "9 FOLDS": b"\tboundary=" + b"\r\n\t".join([b"x" * 980] * 9) + b"\r\n",
    "GOOD": plain("alice", PASSWORD).encode(),
    "SELF": plain("alice", PASSWORD, "alice").encode(),
    "OTHER": plain("alice", PASSWORD, "root").encode(),
    "NOUSER": plain("", PASSWORD).encode(),
    "NOPASSWORD": plain("alice", b"").encode(),
    "NONUL": encode(b"alice").encode(),
    "NULS": encode(b"\0alice\0\0" + PASSWORD).encode(),
}
"""What would be long to write; a plain number is so many x."""
STEPS: Mapping[str, list[str]] = {
    "clear": [],
    "start": [],
    "ehlo": ["EHLO client.test"],
    "login": [],
    "mail": ["MAIL FROM:<alice@example.test>"],
    "rcpt": ["MAIL FROM:<alice@example.test>", "RCPT TO:<rita@destination.test>"],
    "data": ["MAIL FROM:<alice@example.test>", "RCPT TO:<rita@destination.test>", "DATA"],
    "mail utf8": ["MAIL FROM:<alice@example.test> SMTPUTF8"],
    "data utf8": ["MAIL FROM:<alice@example.test> SMTPUTF8", "RCPT TO:<rita@destination.test>", "DATA"],
}
"""What is said before the case begins; from ``login`` on after EHLO and AUTH."""
_NAME = re.compile(rb"\{([^{}]+)\}")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the file."""

    id: str
    at: str
    send: str
    expect: list[str]
    closed: bool = False
    queued: str | None = None


def read_octets(text: str) -> bytes:
    """Resolve the escapes, and then the names."""
    octets = text.encode("latin-1").decode("unicode_escape").encode("latin-1")
    return _NAME.sub(lambda match: _resolve(match[1].decode()), octets)


def _resolve(name: str) -> bytes:
    return NAMES[name] if name in NAMES else b"x" * int(name)


def load_cases() -> list[Case]:
    """Read the file."""
    path = Path(__file__).parents[2] / "data/cases/submission.toml"
    return [Case(**row) for row in tomllib.loads(path.read_text())["case"]]


async def reach(client: Client, at: str) -> None:
    """Bring the session to where the case begins."""
    if at not in {"clear", "start", "ehlo"}:
        await client.log_in()
    for reply in await client.ask_all(STEPS[at]):
        assert reply[0] in "23", reply


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.id)
async def test_case_gets_its_reply(case: Case) -> None:
    """Each command gets its one reply, nothing that was smuggled runs, and the session lives unless it must not."""
    async with running_submission(max_message_bytes=200_000) as server, _connect(server, case) as client:
        await reach(client, case.at)
        await client.send(read_octets(case.send))
        heads = [
            " ".join((await client.reply()).partition("\n")[0].replace("-", " ").split(" ")[:2]) for _ in case.expect
        ]
        assert [head[: len(wanted)] for head, wanted in zip(heads, case.expect, strict=True)] == case.expect
        if case.closed:
            assert await client.replies() == []
        else:
            assert await client.ask("NOOP") == "250 2.0.0 OK"
        contents = server.spool.contents
    assert len(contents) == (case.queued is not None)
    if case.queued is not None:
        assert read_octets(case.queued) in contents[0]


def test_cases_have_names_of_their_own() -> None:
    """A case that is there twice would hide the other in a report."""
    ids = [case.id for case in load_cases()]
    assert len(ids) == len(set(ids))


def _connect(server: SubmissionServer, case: Case) -> AbstractAsyncContextManager[Client]:
    make: Callable[..., AbstractAsyncContextManager[Client]] = connected
    return make(server, implicit=case.at != "clear")
