"""The answer to a command line: whether the command is allowed now, what it does, and when a client has had enough.

The order of commands is RFC 5321 section 4.1.4, that of TLS and AUTH is RFC 3207 section 4 and RFC 4954 section 4.
Knows no socket: the answer is a reply, or one of the few steps that need the connection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ptt.core.errors import Refused
from ptt.core.ports import Users
from ptt.core.reply import Reply
from ptt.ingress import answers, replies
from ptt.ingress.answers import Policy, State
from ptt.ingress.commands import split_command
from ptt.ingress.steps import Answer, Close, ReceiveChunk, SkipChunk, Transaction

MAX_JUNK = 100
"""Commands that bring no mail forward, since the last mail: a client that loops must not hold a connection for ever."""
MAX_FAILURES = 3
"""Failed logins of one connection: guessing must cost a handshake each few tries."""

_JUNK_CODES = frozenset({500, 501, 502, 503, 504, 530, 555})
"""Refused for how it was said or when, not by policy."""
_CHUNK = b"BDAT"
_RECIPIENT = b"RCPT "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """When a command is allowed, and what it does."""

    handle: Callable[[State, str], Answer]
    takes_argument: bool = True
    is_allowed_in_clear: bool = False
    needs_login: bool = False
    is_junk: bool = False


def _say(answer: Answer) -> Callable[[State, str], Answer]:
    return lambda _state, _argument: answer


_HTTP = _Rule(handle=_say(Close(replies.NOT_HTTP)), is_allowed_in_clear=True)
_RULES: Mapping[str, _Rule] = {
    "EHLO": _Rule(handle=answers.answer_ehlo, is_allowed_in_clear=True),
    "HELO": _Rule(handle=answers.answer_helo, is_allowed_in_clear=True),
    "STARTTLS": _Rule(handle=answers.answer_starttls, takes_argument=False, is_allowed_in_clear=True),
    "AUTH": _Rule(handle=answers.answer_auth),
    "MAIL": _Rule(handle=answers.answer_mail, needs_login=True),
    "RCPT": _Rule(handle=answers.answer_rcpt, needs_login=True),
    "DATA": _Rule(handle=answers.answer_data, takes_argument=False, needs_login=True),
    # Its handler checks what the other columns check: also of a chunk that is refused the octets must be read.
    "BDAT": _Rule(handle=answers.answer_bdat, is_allowed_in_clear=True),
    "RSET": _Rule(handle=answers.answer_rset, takes_argument=False, is_junk=True),
    "VRFY": _Rule(handle=answers.answer_vrfy, is_junk=True),
    "EXPN": _Rule(handle=_say(replies.NOT_IMPLEMENTED), is_junk=True),
    "HELP": _Rule(handle=_say(replies.HELP), is_junk=True),
    "NOOP": _Rule(handle=_say(replies.OK), is_allowed_in_clear=True, is_junk=True),
    "QUIT": _Rule(handle=_say(Close(replies.BYE)), takes_argument=False, is_allowed_in_clear=True),
    # The threat: a web page makes a browser send SMTP commands in the body of a request (cross-protocol attack).
    **dict.fromkeys(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"), _HTTP),
}


class Dialogue:
    """One session since its start or since STARTTLS, which forgets everything (RFC 3207 section 4.2)."""

    def __init__(self, policy: Policy, users: Users, tls: str, mechanisms: tuple[str, ...] = ()) -> None:
        """Begin.

        Args:
            policy: what is allowed.
            users: who may log in.
            tls: TLS version and cipher, empty in clear.
            mechanisms: of SASL, that can be offered.
        """
        self._state = State(policy, users, tls, mechanisms)
        self._failures = 0
        self._junk = 0

    @property
    def transaction(self) -> Transaction | None:
        """Give the transaction that is open."""
        return self._state.transaction

    @property
    def client_name(self) -> str:
        """Give what the client said in EHLO."""
        return self._state.client_name

    @property
    def login(self) -> str:
        """Give the login, empty before there is one."""
        return self._state.login

    def answer(self, line: bytes) -> Answer:
        """Answer one command line, given without its CRLF."""
        try:
            verb, argument = split_command(line)
            rule = _find_rule(verb)
            self._check(rule, argument)
            answer = rule.handle(self._state, argument)
        except Refused as refusal:
            # As where it does not say how many octets follow: they would be read as commands. BDATA too, and BDAT
            # with a tab behind it: who wrote them may have meant BDAT.
            if line[: len(_CHUNK)].upper() == _CHUNK:
                return Close(refusal.reply)
            is_junk = refusal.reply.code in _JUNK_CODES and not self._is_further_recipient(line)
            return self._count_junk(refusal.reply) if is_junk else refusal.reply
        return self._count_junk(answer) if rule.is_junk or _is_idle_chunk(answer) else answer

    def complete_login(self, login: str) -> None:
        """Take note of a successful login."""
        self._state.login = login

    def count_failure(self, reply: Reply) -> Answer:
        """Take note of a failed login, and give the answer to it."""
        self._failures += 1
        return Close(replies.TOO_MANY_FAILURES) if self._failures >= MAX_FAILURES else reply

    def complete_mail(self) -> None:
        """Take note of accepted mail."""
        self._junk = 0

    def reset(self) -> None:
        """Give up the mail transaction."""
        self._state.transaction = None

    def _check(self, rule: _Rule, argument: str) -> None:
        # RFC 3207 section 4: a server that insists on TLS takes nothing else before it.
        if not self._state.tls and not rule.is_allowed_in_clear:
            raise Refused(replies.TLS_FIRST)
        if argument and not rule.takes_argument:
            raise Refused(replies.NO_ARGUMENT)
        if rule.needs_login:
            if not self._state.is_extended:
                raise Refused(replies.EHLO_FIRST)
            if not self._state.login:
                raise Refused(replies.LOGIN_FIRST)

    def _is_further_recipient(self, line: bytes) -> bool:
        # A list in which many addresses are wrong and one is right is mail.
        has_recipient = self._state.transaction is not None and bool(self._state.transaction.recipients)
        return has_recipient and line[: len(_RECIPIENT)].upper() == _RECIPIENT

    def _count_junk(self, answer: Answer) -> Answer:
        self._junk += 1
        return Close(replies.TOO_MUCH_JUNK) if self._junk > MAX_JUNK else answer


def _find_rule(verb: str) -> _Rule:
    rule = _RULES.get(verb)
    if rule is None:
        raise Refused(replies.UNKNOWN_COMMAND)
    return rule


def _is_idle_chunk(answer: Answer) -> bool:
    return isinstance(answer, SkipChunk) or (
        isinstance(answer, ReceiveChunk) and not (answer.size_bytes or answer.is_last)
    )
