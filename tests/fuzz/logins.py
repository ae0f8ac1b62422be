"""Logging in, whatever the client answers: base64, and the messages of each mechanism up to the one final reply."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ptt.core.errors import MalformedInput, Refused
from ptt.core.scram import parse_client_first, parse_verifier
from ptt.ingress.bearer import parse_bearer
from ptt.ingress.channel import Channel
from ptt.ingress.gate import Gate
from ptt.ingress.guard import Guard
from ptt.ingress.login import log_in
from ptt.ingress.sasl import MECHANISMS, decode_response
from ptt.ingress.steps import Authenticate
from tests.fuzz.target import Target, split_choice
from tests.fuzz.wire import quiet_loop, settle
from tests.servers.submission import ALICE, PASSWORD, SEAL_KEY, CountedGuesses, FixedUsers, encode

CERTIFICATE = "dns:alice.example.test"
TOKEN = "good.token"
BINDING = b"tls-unique of this connection"
_USERS = FixedUsers({"alice": replace(ALICE, certificates=frozenset({CERTIFICATE}))})
_MECHANISMS = tuple(MECHANISMS)
_FINAL = {"235 2.7.0", "535 5.7.8", "501 5.5.2", "501 5.7.0", "500 5.5.6"}
_Given = TypeVar("_Given")


class OneToken:
    """Knows one access token."""

    scope = "mail"

    def check(self, token: str) -> str:
        """Give its user."""
        if token != TOKEN:
            raise MalformedInput("token: unknown")
        return "alice"


@dataclass
class Talk:
    """A client that answers challenges with what it was given, line by line."""

    lines: list[bytes]
    first: bytes = b""
    challenges: list[bytes] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    """What the client said, decoded; without what is no base64."""
    has_proved: bool = False

    async def ask(self, line: bytes) -> bytes:
        """Answer one challenge; at the end of the lines the client gives up."""
        assert line.startswith(b"334 ")
        challenge = base64.b64decode(line[4:], validate=True)
        self.challenges.append(challenge)
        return self.say(self.lines.pop(0)) if self.lines else b"*"

    def say(self, line: bytes) -> bytes:
        """Give what goes out for a line of the input."""
        filled = self.fill(line)
        with suppress(binascii.Error):
            self.said.append(base64.b64decode(b"" if filled == b"=" else filled, validate=True))
        return filled

    def fill(self, line: bytes) -> bytes:
        """Put in what only a client that takes part can know; ``%`` before plain text has it encoded."""
        if not line.startswith(b"%"):
            return line
        nonce, _, _ = (self.challenges[-1] if self.challenges else b"").partition(b",")
        text = line[1:].replace(b"%N", nonce).replace(b"%B", encode(b"p=tls-unique,," + BINDING).encode())
        if text.endswith(b"%P"):
            text = self._prove(text[:-2])
            self.has_proved = True
        elif text.endswith(b"%Q"):
            text = text[:-2] + b",p=" + encode(bytes(32)).encode()
        self.first = self.first or text
        return encode(text).encode()

    def _prove(self, without_proof: bytes) -> bytes:
        verifier = ALICE.scram
        assert verifier is not None
        bare = self.first.split(b",", 2)[-1]
        said = b",".join((bare, self.challenges[-1] if self.challenges else b"", without_proof))
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD, verifier.salt, verifier.iterations)
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(verifier.stored_key, said, "sha256")
        return without_proof + b",p=" + encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).encode()


async def _finish(exchange: Awaitable[_Given]) -> _Given:
    given = await exchange
    await settle()
    return given


def check_login(octets: bytes) -> None:
    """An exchange ends with one reply of its few; it succeeds only for who knew the secret, and only as that user."""
    choice, rest = split_choice(octets)
    mechanism = _MECHANISMS[choice % len(_MECHANISMS)]
    lines = rest.split(b"\r\n")
    talk = Talk(lines)
    initial = None
    if choice & 0x80:
        # As the dialogue has it: text, without blanks around.
        text = lines.pop(0).decode("utf-8", "ignore").strip(" ")
        initial = talk.say(text.encode()).decode() if text else None
    gate = Gate(
        users=_USERS,
        guard=Guard(CountedGuesses(), SEAL_KEY, delay_s=0),
        client_address="192.0.2.1",
        tokens=OneToken(),
        channel=Channel({"tls-unique": BINDING}, frozenset({CERTIFICATE})),
        offers_binding=bool(choice & 0x40),
    )
    exchange = log_in(Authenticate(mechanism, initial), talk.ask, gate)
    reply, login = quiet_loop().run_until_complete(_finish(exchange))
    assert str(reply)[:9] in _FINAL, reply
    assert (reply.code == 235) == bool(login)
    if login:
        assert login == "alice"
        _check_earned(mechanism, talk)


def _check_earned(mechanism: str, talk: Talk) -> None:
    said = talk.said
    if mechanism.startswith("SCRAM"):
        assert talk.has_proved
    elif mechanism == "LOGIN":
        assert said == [b"alice", PASSWORD]
    elif mechanism == "PLAIN":
        assert said in ([b"\0alice\0" + PASSWORD], [b"alice\0alice\0" + PASSWORD])
    elif mechanism == "EXTERNAL":
        assert said in ([b""], [b"alice"])
    else:
        assert TOKEN.encode() in said[0]


def check_login_text(octets: bytes) -> None:
    """Only MalformedInput and Refused leave the parsers of log-in; what they take is what was said."""
    choice, rest = split_choice(octets)
    try:
        match choice % 4:
            case 0:
                assert base64.b64encode(decode_response(rest)) == rest
            case 1:
                first = parse_client_first(rest)
                assert first.gs2_header + first.bare == rest
                assert first.gs2_header.count(b",") == 2
                name = first.login.replace("=", "=3D").replace(",", "=2C").encode()
                assert first.bare.startswith(b"n=" + name + b",r=" + first.nonce) or b"=2C" in rest or b"=3D" in rest
            case 2:
                bearer = parse_bearer(rest)
                assert bearer.token.encode() in rest
                assert bearer.token.isascii()
            case _:
                verifier = parse_verifier(rest.decode("utf-8", "replace"))
                assert parse_verifier(str(verifier)) == verifier
    except MalformedInput as error:
        assert str(error)
    except Refused as refusal:
        assert refusal.reply.code == 501


_SCRAM = b"%n,,n=alice,r=abcdefgh\r\n%c=biws,%N%P\r\n"
_EXCHANGES = {
    "SCRAM-SHA-256": (
        _SCRAM,
        _SCRAM.replace(b"%P", b"%Q"),
        _SCRAM.replace(b"n,,", b"y,a=alice,"),
        _SCRAM.replace(b"alice", b"b=2Cob=3D"),
    ),
    "SCRAM-SHA-256-PLUS": (b"%p=tls-unique,,n=alice,r=abcdefgh\r\n%c=%B,%N%P\r\n", b"%p=tls-exporter,,n=a,r=b\r\n*"),
    "PLAIN": (b"%\0alice\0correct horse\r\n", b"%alice\0alice\0wrong", b"AGFsaWNlAGNvcnJlY3QgaG9yc2U="),
    "LOGIN": (b"%alice\r\n%correct horse", b"=\r\n%x", b"YWxpY2U=\r\n*"),
    "EXTERNAL": (b"=", b"%alice", b"%bob"),
    "OAUTHBEARER": (
        b"%n,a=alice,\x01auth=Bearer good.token\x01\x01",
        b"%n,,\x01host=h\x01auth=bearer x\x01\x01\r\nAQ==",
    ),
}

TARGETS = (
    Target(
        name="login",
        check=check_login,
        seeds=tuple(
            bytes([_MECHANISMS.index(mechanism) + 6 * 21 * (start > 0)]) + text
            for mechanism, texts in _EXCHANGES.items()
            for text in texts
            for start in (0, 1)
        ),
        words=(
            b"\r\n",
            b"%",
            b"%N",
            b"%P",
            b"%Q",
            b",",
            b"=2C",
            b"=3D",
            b"\0",
            b"\x01",
            b"n,,",
            b"n=alice",
            b"r=",
            b"c=",
            b"=",
            b"*",
            b"alice",
            b"correct horse",
        ),
        max_bytes=1000,
        suite_executions=6000,
    ),
    Target(
        name="login-text",
        check=check_login_text,
        seeds=(
            b"\0YWxpY2U=",
            b"\1n,,n=a=2Cb,r=x",
            b"\1p=tls-unique,a=a,n=a,r=x,e=1",
            b"\2n,a=a=2Cb,\x01auth=Bearer x\x01\x01",
            b"\3" + str(ALICE.scram).encode(),
        ),
        words=(b",", b"=", b"=2C", b"=3D", b"\x01", b"n=", b"r=", b"p=", b"auth=Bearer ", b"$", b":", b"\xff"),
    ),
)
