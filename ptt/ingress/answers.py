"""The answer to each command, given what the session has agreed on so far; waits for nothing.

RFC 5321 section 4.1.1; RFC 3207 section 4.2 (STARTTLS), RFC 4954 section 4 (AUTH), RFC 1870 section 6.1 (SIZE),
RFC 6409 section 6.1 (who may send as whom), RFC 3030 (BDAT).
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from ptt.core.address import Domain
from ptt.core.errors import Refused
from ptt.core.path import parse_mail, parse_rcpt
from ptt.core.ports import Users
from ptt.core.wishes import NO_WISHES, USUAL_LIMITS, WishLimits, check_wishes
from ptt.domain_names import to_a_labels
from ptt.ingress import replies
from ptt.ingress.data import TOO_LARGE
from ptt.ingress.names import is_client_name
from ptt.ingress.steps import (
    Answer,
    Authenticate,
    Close,
    Greet,
    ReceiveChunk,
    ReceiveContent,
    SkipChunk,
    StartTls,
    Transaction,
)

MAX_CHUNK = 2**31
"""Octets of one chunk, wanted or not: RFC 3030 knows no limit, our patience has one."""
_CHUNK = re.compile(r"([0-9]{1,20})( LAST)?", re.IGNORECASE | re.ASCII)  # RFC 3030 section 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What this server allows; equal for all sessions."""

    hostname: Domain
    max_message_bytes: int
    max_recipients: int
    wish_limits: WishLimits = USUAL_LIMITS


@dataclass(slots=True)
class State:
    """What the session has agreed on; ``tls`` names TLS version and cipher and is empty in clear."""

    policy: Policy
    users: Users
    tls: str
    mechanisms: tuple[str, ...] = ()
    """What AUTH may name; in clear nothing."""
    client_name: str = ""
    is_extended: bool = False
    """Whether the client said EHLO, not HELO."""
    login: str = ""
    transaction: Transaction | None = None


def answer_ehlo(state: State, argument: str) -> Answer:
    """List the extensions."""
    _introduce(state, argument)
    state.is_extended = True
    policy = state.policy
    extensions = ("PIPELINING", f"SIZE {policy.max_message_bytes}", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING")
    # RFC 3207 section 4.2: no STARTTLS inside TLS. RFC 4954 section 4: no AUTH where the password could be read.
    offer = f"AUTH {' '.join(state.mechanisms)}" if state.tls else "STARTTLS"
    # RFC 9422 section 4: what is enforced, and nothing else.
    limits = (f"LIMITS RCPTMAX={policy.max_recipients}", "MT-PRIORITY", f"DELIVERBY {policy.wish_limits.min_by_s}")
    # RFC 8689 section 2: REQUIRETLS within TLS only.
    wishes = (*limits, *_offer_hold(policy.wish_limits.max_hold_s), *(("REQUIRETLS",) if state.tls else ()))
    return Greet((policy.hostname, *extensions, *wishes, offer, "ENHANCEDSTATUSCODES"))


def _offer_hold(max_hold_s: int) -> tuple[str, ...]:
    # RFC 4865 section 4: the longest hold in seconds, and the latest instant.
    latest = datetime.fromtimestamp(int(time.time()) + max_hold_s, UTC)
    return (f"FUTURERELEASE {max_hold_s} {latest:%Y-%m-%dT%H:%M:%SZ}",) if max_hold_s else ()


def answer_helo(state: State, argument: str) -> Answer:
    """Greet a client that knows no extensions; without them it cannot log in."""
    _introduce(state, argument)
    state.is_extended = False
    return Greet((state.policy.hostname,))


def answer_starttls(state: State, _argument: str) -> Answer:
    """Start TLS, once."""
    if state.tls:
        raise Refused(replies.TLS_ALREADY)
    return StartTls()


def answer_auth(state: State, argument: str) -> Answer:
    """Start a SASL exchange."""
    if not state.is_extended:
        raise Refused(replies.EHLO_FIRST)
    # RFC 4954 section 4: once per session; so never within a transaction, which needs a login.
    if state.login:
        raise Refused(replies.LOGGED_IN_ALREADY)
    mechanism, _, initial = argument.partition(" ")
    if not mechanism:
        raise Refused(replies.NEEDS_ARGUMENT)
    if mechanism.upper() not in state.mechanisms:
        raise Refused(replies.UNKNOWN_MECHANISM)
    return Authenticate(mechanism.upper(), initial or None)


def answer_mail(state: State, argument: str) -> Answer:
    """Begin a transaction for a reverse-path that the user owns."""
    if state.transaction is not None:
        raise Refused(replies.NESTED_MAIL)
    mail = parse_mail(argument, to_a_labels)
    if mail.size_bytes > state.policy.max_message_bytes:
        raise Refused(TOO_LARGE)
    if mail.wishes is not NO_WISHES:
        check_wishes(mail.wishes, state.policy.wish_limits, time.time())
    # A push to the users repository takes effect in the middle of a session.
    user = state.users.get_user(state.login)
    if user is None:
        raise Refused(replies.USER_GONE)
    # RFC 6409 section 6.1. The null reverse-path is anybody's; From must be owned all the same.
    if mail.reverse_path is not None and not user.may_send_as(mail.reverse_path):
        raise Refused(replies.SENDER_NOT_OWNED)
    state.transaction = Transaction(user, mail)
    return replies.SENDER_OK


def answer_rcpt(state: State, argument: str) -> Answer:
    """Add a recipient."""
    transaction, policy = state.transaction, state.policy
    if transaction is None:
        raise Refused(replies.MAIL_FIRST)
    if transaction.is_chunked:
        raise Refused(replies.CHUNKS_BEGUN)
    rcpt = parse_rcpt(argument, smtputf8=transaction.mail.smtputf8, own_domain=policy.hostname, to_ascii=to_a_labels)
    # RFC 5321 section 4.5.3.1.10: the first one over the limit hears 452, and those before it stay.
    if rcpt.recipient not in transaction.recipients and len(transaction.recipients) >= policy.max_recipients:
        raise Refused(replies.TOO_MANY_RECIPIENTS)
    transaction.recipients[rcpt.recipient] = rcpt.request
    return replies.RECIPIENT_OK


def answer_data(state: State, _argument: str) -> Answer:
    """Hand over the transaction."""
    transaction = _find_complete(state)
    if transaction.is_chunked:
        raise Refused(replies.CHUNKS_BEGUN)
    state.transaction = None
    return ReceiveContent(transaction)


def answer_bdat(state: State, argument: str) -> Answer:
    """Take a chunk (RFC 3030 section 2); of one that is refused the octets are read all the same."""
    chunk = _CHUNK.fullmatch(argument)
    # The threat: the octets of the chunk, sent along with the command, are read as commands. Who does not say how many
    # there are, in the one way there is, cannot be listened to any more.
    if chunk is None or int(chunk[1]) > MAX_CHUNK:
        return Close(replies.UNKNOWN_CHUNK)
    size_bytes = int(chunk[1])
    try:
        transaction = _find_complete(state)
    except Refused as refusal:
        return SkipChunk(refusal.reply, size_bytes)
    transaction.is_chunked = True
    if chunk[2]:
        state.transaction = None
    return ReceiveChunk(transaction, size_bytes, is_last=bool(chunk[2]))


def _find_complete(state: State) -> Transaction:
    if not state.tls:
        raise Refused(replies.TLS_FIRST)
    if not state.login:
        raise Refused(replies.LOGIN_FIRST)
    if state.transaction is None:
        raise Refused(replies.MAIL_FIRST)
    if not state.transaction.recipients:
        raise Refused(replies.RCPT_FIRST)
    return state.transaction


def answer_rset(state: State, _argument: str) -> Answer:
    """Give up the transaction."""
    state.transaction = None
    return replies.OK


def answer_vrfy(_state: State, argument: str) -> Answer:
    """Say the same for every address, so that nothing can be learned (RFC 5321 section 7.3)."""
    return replies.CANNOT_VERIFY if argument else replies.NEEDS_ARGUMENT


def _introduce(state: State, argument: str) -> None:
    if not is_client_name(argument):
        raise Refused(replies.BAD_CLIENT_NAME)
    state.transaction = None  # RFC 5321 section 4.1.4
    state.client_name = argument
