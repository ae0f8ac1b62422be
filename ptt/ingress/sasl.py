"""The SASL mechanisms, each as what is said in turn: challenge out, response in, and in the end who it is.

PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login), SCRAM-SHA-256 and its -PLUS (RFC 5802, RFC 7677), EXTERNAL
(RFC 4422 appendix A), OAUTHBEARER (RFC 7628). Login and password of PLAIN and LOGIN are taken as they are, without
SASLprep: what differs in one octet differs.
"""

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from ptt.core.errors import MalformedInput, Refused
from ptt.core.reply import Reply
from ptt.core.scram import NONCE_BYTES, Challenge, ClientFirst, parse_client_first
from ptt.ingress.bearer import format_problem, parse_bearer
from ptt.ingress.channel import Channel
from ptt.ingress.gate import INVALID_CREDENTIALS, Gate

EMPTY_RESPONSE = "="  # RFC 4954 section 4: an initial response of no octets

BAD_BASE64 = Reply(501, "5.5.2", "Response is not base64")
NO_RESPONSE_WANTED = Reply(501, "5.5.2", "An empty response was expected")
PLUS = "SCRAM-SHA-256-PLUS"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One attempt: ``initial`` is the initial response, if there was one."""

    gate: Gate
    ask: Callable[[bytes], Awaitable[bytes]]
    """Sends a challenge and gives the response, both decoded."""
    initial: bytes | None

    async def start(self, challenge: bytes = b"") -> bytes:
        """Give the first response."""
        return await self.ask(challenge) if self.initial is None else self.initial


async def run_plain(exchange: Exchange) -> str:
    """Run PLAIN: one response of authorisation identity, login and password with NUL between."""
    authzid, separator, rest = (await exchange.start()).partition(b"\0")
    authcid, separator, password = rest.partition(b"\0") if separator else (b"", b"", b"")
    # RFC 4616 section 2: nobody here may act for another, so the authorisation identity says nothing new.
    if not separator or b"\0" in password:
        exchange.gate.refuse("malformed response")
    if authzid not in {b"", authcid}:
        exchange.gate.refuse("the client wants to act for another user")
    return await exchange.gate.check_password(authcid, password)


async def run_login(exchange: Exchange) -> str:
    """Run LOGIN: login and password, each asked for."""
    login = await exchange.start(b"Username:")
    return await exchange.gate.check_password(login, await exchange.ask(b"Password:"))


async def run_scram(exchange: Exchange) -> str:
    """Run SCRAM-SHA-256 without channel binding."""
    client_first = await _read_first(exchange)
    if client_first.flag == "p":
        exchange.gate.refuse("a channel binding with a mechanism that has none")
    # RFC 5802 section 6. The threat: who stands between took the -PLUS out of our list, and the client trusted it.
    if client_first.flag == "y" and exchange.gate.offers_binding:
        exchange.gate.refuse("the client was not told of SCRAM-SHA-256-PLUS: somebody changes what we say")
    return await _finish_scram(exchange, client_first, b"")


async def run_scram_plus(exchange: Exchange) -> str:
    """Run SCRAM-SHA-256-PLUS: SCRAM bound to this TLS connection."""
    client_first = await _read_first(exchange)
    binding = exchange.gate.channel.bindings.get(client_first.binding)
    if binding is None:
        exchange.gate.refuse(f"channel binding {client_first.binding!r} is not supported here")
    return await _finish_scram(exchange, client_first, binding)


async def run_external(exchange: Exchange) -> str:
    """Run EXTERNAL: the client's certificate says who it is; the response is an authorisation identity or empty."""
    authzid = await exchange.start()
    return exchange.gate.check_certificate(exchange.gate.name(authzid) if authzid else "")


async def run_oauthbearer(exchange: Exchange) -> str:
    """Run OAUTHBEARER: an access token that somebody else has given the client."""
    message = await exchange.start()
    try:
        bearer = parse_bearer(message)
        return exchange.gate.check_token(bearer.token, bearer.authzid)
    except MalformedInput as error:
        exchange.gate.reason = str(error)
        problem = "invalid_request"
    except Refused:
        problem = "invalid_token"
    # RFC 7628 section 3.2.3: what is wrong comes as a challenge, and the client's answer to it says nothing.
    scope = exchange.gate.tokens.scope if exchange.gate.tokens else ""
    await exchange.ask(format_problem(problem, scope))
    raise Refused(INVALID_CREDENTIALS)


MECHANISMS: Mapping[str, Callable[[Exchange], Awaitable[str]]] = {
    PLUS: run_scram_plus,
    "SCRAM-SHA-256": run_scram,
    "PLAIN": run_plain,
    "LOGIN": run_login,
    "EXTERNAL": run_external,
    "OAUTHBEARER": run_oauthbearer,
}
"""All mechanisms, the best first."""


def list_mechanisms(allowed: tuple[str, ...], channel: Channel, *, has_tokens: bool) -> tuple[str, ...]:
    """List what can be offered on a TLS connection."""
    possible = {
        **dict.fromkeys(MECHANISMS, True),
        PLUS: bool(channel.bindings),
        "EXTERNAL": bool(channel.certificate_names),
        "OAUTHBEARER": has_tokens,
    }
    return tuple(name for name in MECHANISMS if name in allowed and possible[name])


def decode_response(text: bytes) -> bytes:
    """Decode one response; only the canonical form of RFC 4648 section 4 is taken.

    Raises:
        Refused: 501.
    """
    try:
        decoded = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise Refused(BAD_BASE64) from error
    if base64.b64encode(decoded) != text:
        raise Refused(BAD_BASE64)
    return decoded


def decode_initial(text: str) -> bytes:
    """Decode the initial response of the AUTH command.

    Raises:
        Refused: 501.
    """
    return b"" if text == EMPTY_RESPONSE else decode_response(text.encode())


async def _read_first(exchange: Exchange) -> ClientFirst:
    try:
        return parse_client_first(await exchange.start())
    except MalformedInput as error:
        exchange.gate.refuse(str(error))


async def _finish_scram(exchange: Exchange, client_first: ClientFirst, binding: bytes) -> str:
    verifier = exchange.gate.find_scram(client_first)
    nonce = client_first.nonce + secrets.token_urlsafe(NONCE_BYTES).encode()
    challenge = Challenge(client_first, verifier, nonce)
    client_final = await exchange.ask(challenge.server_first)
    proof = await exchange.gate.check_scram(challenge, client_final, binding)
    # RFC 4954 section 4: what goes with a success is a challenge of its own, and the client says nothing to it.
    if await exchange.ask(proof):
        exchange.gate.refuse("a response to our proof", NO_RESPONSE_WANTED)
    return exchange.gate.login
