"""Signs a message with every active key of its author's domain. RFC 6376, RFC 8301, RFC 8463.

dkimpy leads through the signing and hashes the body; `_Dkim` below replaces what is too slow or unsafe in it: the
private keys stay with ``cryptography`` (dkimpy's RSA is Python's ``pow``: 30 times slower and not constant in time),
the header is canonicalised once for all keys, and the canonicalisation takes linear time.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import dkim
import dkim.canonicalization
from typing_extensions import override

from ptt.core.address import Domain
from ptt.core.errors import MalformedInput
from ptt.core.mailbox import parse_mailboxes
from ptt.core.signature import (
    SignatureTags,
    SigningPolicy,
    canonicalize_unsigned,
    decide_signed_names,
    format_signed,
    format_unsigned,
)
from ptt.domain_names import to_a_labels
from ptt.signing.canonicalization import relax_body, relax_header, simplify_body, split_header
from ptt.signing.keys import KeyRing, SigningKey

GRACE_S = 7 * 86400
"""How long a signature outlives our queue: other queues on the way hold mail for days, too."""
DEFAULT_LIFETIME_S = 5 * 86400 + GRACE_S
"""How long a signature is valid, with a queue life of 5 days; it ends so that a message cannot be replayed for years.

RFC 6376 section 8.6.
"""

_LINEAR, _SIMPLE = b"ptt-relaxed", b"ptt-simple"
_FIELD_NAME = re.compile(rb"[!-9;-~]+")  # RFC 5322 section 2.2: printable ASCII but the colon

# dkimpy's sign() insists on parsing a private key. It gets this RSAPrivateKey of nine ones and nothing is signed by it.
_NOT_A_KEY = b"-----BEGIN-----\n" + base64.b64encode(b"\x30\x1b" + b"\x02\x01\x01" * 9) + b"\n-----END-----"


class _LinearRelaxed:
    """Our relaxed canonicalisation as dkimpy wants its algorithms; ``name`` is what c= says."""

    name = b"relaxed"
    canonicalize_body = staticmethod(relax_body)


class _LinearSimple:
    """The same for the simple one: dkimpy's takes a time that grows with the square of a run of empty lines."""

    name = b"simple"
    canonicalize_body = staticmethod(simplify_body)


# dkimpy finds algorithms in this table only. Ours are added under names of their own: its entries stay what they were.
dkim.canonicalization.ALGORITHMS |= {_LINEAR: _LinearRelaxed, _SIMPLE: _LinearSimple}


@dataclass(frozen=True, slots=True)
class _Message:
    """``fields``: canonical lines by name in lower case, in their order."""

    fields: Mapping[bytes, Sequence[bytes]]
    body: bytes


class Signer:
    """Signs for all domains of a key ring."""

    def __init__(
        self,
        keys: KeyRing,
        *,
        lifetime_s: int = DEFAULT_LIFETIME_S,
        policies: Mapping[Domain, SigningPolicy] | None = None,
    ) -> None:
        """Sign with these keys.

        Args:
            keys: which keys are active is looked up for each message.
            lifetime_s: seconds from t= to x= (RFC 6376 section 3.5).
            policies: by domain of From; others are signed by keys of their own, relaxed.
        """
        self._keys = keys
        self._lifetime_s = lifetime_s
        self._policies = policies or {}

    def sign(self, content: bytes, *, signed_at: datetime) -> bytes:
        """Compute the signature fields; the same content, keys and time give the same octets.

        Args:
            content: RFC 5322 message with CRLF, exactly as it will be sent.
            signed_at: aware; becomes t=.

        Returns:
            One DKIM-Signature field for each active key of the author's domain, each ending with CRLF, that of the
            newest key on top; to be put right before the content.

        Raises:
            MalformedInput: a bare CR or LF, a NUL, a line that is no header field, no From field or several, a second
                field of which there may be one, or no single domain in From.
            NoUsableKey: no active key for the domain of From.
        """
        message = _parse_message(content)
        names = decide_signed_names(message.fields)
        policy = self._find_policy(message)
        if policy.is_header_simple:
            message = _keep_fields(message, content)
        keys = self._keys.get_active(policy.signing_domain)
        instant = int(signed_at.timestamp())
        forms = (_SIMPLE if policy.is_header_simple else _LINEAR, _SIMPLE if policy.is_body_simple else _LINEAR)
        signature: bytes = _Dkim(message, names, keys, (instant, instant + self._lifetime_s)).sign(
            keys[0].selector.encode(), keys[0].domain.encode(), _NOT_A_KEY, canonicalize=forms
        )
        return signature

    def find_domain(self, content: bytes) -> Domain:
        """Give the domain whose keys sign a message.

        Raises:
            MalformedInput: as `sign`, if there is no single one.
        """
        message = _parse_message(content)
        decide_signed_names(message.fields)
        return self._find_policy(message).signing_domain

    def _find_policy(self, message: _Message) -> SigningPolicy:
        domain = _find_domain(message.fields[b"from"][0])
        return self._policies.get(domain) or SigningPolicy(signing_domain=domain)


class _Dkim(dkim.DKIM):  # type: ignore[misc]  # dkimpy ships no types
    """One message in dkimpy's hands."""

    def __init__(
        self, message: _Message, names: tuple[bytes, ...], keys: Sequence[SigningKey], lifetime: tuple[int, int]
    ) -> None:
        super().__init__()
        self.body = message.body
        self._fields = message.fields
        self._names = names
        self._keys = keys
        self._lifetime = lifetime

    @override
    def default_sign_headers(self) -> tuple[bytes, ...]:
        """Give what h= names."""
        return self._names

    @override
    def gen_header(self, fields: Sequence[tuple[bytes, bytes]], *_: object) -> bytes:
        """Write one field for each key; the first is without its name, which dkimpy puts in front."""
        tags = dict(fields)
        hashed = _select_fields(self._fields, self._names)
        signed = b"".join(self._sign_with(key, tags, hashed) for key in self._keys)
        return signed.removeprefix(b"DKIM-Signature: ")

    def _sign_with(self, key: SigningKey, tags: Mapping[bytes, bytes], hashed: bytes) -> bytes:
        signed_at, expires_at = self._lifetime
        unsigned = format_unsigned(
            SignatureTags(
                algorithm=key.algorithm,
                canonicalization=tags[b"c"],
                signing_domain=key.domain,
                selector=key.selector,
                signed_at=signed_at,
                expires_at=expires_at,
                signed_names=self._names,
                body_hash=tags[b"bh"],
            )
        )
        # RFC 6376 section 3.7: the field itself comes last, with an empty b= and without CRLF.
        is_simple = tags[b"c"].startswith(b"simple/")
        return format_signed(unsigned, key.sign(hashed + (unsigned if is_simple else canonicalize_unsigned(unsigned))))


def _parse_message(content: bytes) -> _Message:
    line_ends = content.count(b"\r\n")
    # RFC 6376 section 5.3: a bare CR or LF may be changed on the way, and is where messages are smuggled in.
    if content.count(b"\r") != line_ends or content.count(b"\n") != line_ends:
        raise MalformedInput("bare CR or LF in the message")
    if b"\0" in content:
        raise MalformedInput("NUL in the message")
    end = content.find(b"\r\n\r\n")
    header, body = (content, b"") if end < 0 else (content[: end + 2], content[end + 4 :])
    if not header.endswith(b"\r\n"):
        raise MalformedInput("the header does not end with CRLF")
    fields: dict[bytes, list[bytes]] = {}
    for line in relax_header(header):
        name, colon, _ = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(name):
            raise MalformedInput("a line of the header is no field")
        fields.setdefault(name, []).append(line)
    return _Message(fields, body)


def _keep_fields(message: _Message, content: bytes) -> _Message:
    """Give the same message with its fields as they stand."""
    fields: dict[bytes, list[bytes]] = {}
    for line in split_header(content[: content.find(b"\r\n\r\n") + 2] if b"\r\n\r\n" in content else content):
        fields.setdefault(line.partition(b":")[0].rstrip(b" \t").lower(), []).append(line)
    return _Message(fields, message.body)


def _select_fields(fields: Mapping[bytes, Sequence[bytes]], names: Sequence[bytes]) -> bytes:
    """Put together what h= names, each with CRLF; a name once more than there are fields stands for nothing."""
    left = {name: list(lines) for name, lines in fields.items()}
    # RFC 6376 section 5.4.2: of several fields of one name, the last is signed first.
    return b"".join(left[name].pop() + b"\r\n" for name in names if left.get(name))


def _find_domain(from_line: bytes) -> Domain:
    """Find the domain that the signature must be aligned with (RFC 7489 section 3.1)."""
    try:
        value = from_line.removeprefix(b"from:").decode()
    except UnicodeDecodeError as error:
        raise MalformedInput("the From field is not UTF-8") from error
    domains = {author.domain for author in parse_mailboxes(value, smtputf8=True, to_ascii=to_a_labels)}
    if len(domains) > 1:
        raise MalformedInput("the From field names more than one domain: no key speaks for all")
    return domains.pop()
