"""The pure parts of DKIM: which header fields are signed, how a signature field and a key record are written.

Knows no keys and no cryptography. RFC 6376; RFC 8301 and RFC 8463 (algorithms), RFC 8058 (one-click fields).
"""

import base64
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from ptt.core.address import MAX_DOMAIN, MAX_LABEL, Domain
from ptt.core.errors import MalformedInput

Selector = NewType("Selector", str)
"""Names one key of a domain: one or more DNS labels in lower case (RFC 6376 section 3.1)."""

OVERSIGNED: tuple[bytes, ...] = (
    *(b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"reply-to"),
    *(b"mime-version", b"content-type", b"content-transfer-encoding"),
    *(b"list-unsubscribe", b"list-unsubscribe-post"),
)
"""Named in h= once more than they occur, so that nobody can add one on the way (RFC 6376 sections 5.4 and 8.15).

The last two must be signed for one-click unsubscription to be offered (RFC 8058 section 4).
"""

SIGNED_IF_PRESENT: tuple[bytes, ...] = (
    *(b"sender", b"in-reply-to", b"references", b"content-id", b"content-description"),
    *(b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id"),
    *(b"list-id", b"list-help", b"list-subscribe", b"list-post", b"list-owner", b"list-archive"),
)
"""Signed as often as they occur (RFC 6376 section 5.4.1)."""

SINGLETONS = frozenset({*OVERSIGNED, b"sender", b"bcc", b"in-reply-to", b"references"})
"""May occur once only (RFC 5322 section 3.6, RFC 2045 section 3, RFC 2369 section 2, RFC 8058 section 3.1).

With two of them, the verifier may check one and the reader be shown the other (RFC 6376 section 8.15).
"""

MAX_INSTANCES = 16
"""How many fields of one name are signed, from the last upwards: 100,000 of them must not make h= megabytes long."""

MAX_TXT_STRING = 255
"""Octets in one string of a TXT record (RFC 1035 section 3.3)."""

_B64_LINE = 72
_H_LINE = 75  # and the blank in front, and a colon before and after the last name: 78
_SELECTOR_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


class Algorithm(StrEnum):
    """The a= tag (RFC 8301 section 3.1, RFC 8463 section 3)."""

    RSA_SHA256 = "rsa-sha256"
    ED25519_SHA256 = "ed25519-sha256"

    @property
    def key_type(self) -> str:
        """Give the k= tag of the key record."""
        return self.value.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningPolicy:
    """How mail of one domain is signed."""

    signing_domain: Domain
    """Whose keys sign: that of From, or a parent of it (RFC 7489 section 3.1)."""
    is_header_simple: bool = False
    """Simple canonicalisation: nothing may change (RFC 6376 section 3.4.1)."""
    is_body_simple: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureTags:
    """What stands in a DKIM-Signature field besides b=; instants are seconds since 1970, ``body_hash`` is base64."""

    algorithm: Algorithm
    canonicalization: bytes
    signing_domain: Domain
    selector: Selector
    signed_at: int
    expires_at: int
    signed_names: tuple[bytes, ...]
    body_hash: bytes


def parse_selector(text: str, domain: Domain) -> Selector:
    """Parse a selector that a person typed or a file is named after.

    Raises:
        MalformedInput: if it is no series of DNS labels, or too long in front of the domain.
    """
    labels = text.split(".")
    if not all(len(label) <= MAX_LABEL and _SELECTOR_LABEL.fullmatch(label) for label in labels):
        raise MalformedInput(f"not a selector: {text!r}: letters in lower case, digits and hyphens only")
    if len(format_key_name(Selector(text), domain)) > MAX_DOMAIN - 2:
        raise MalformedInput("selector and domain together are too long for a DNS name")
    return Selector(text)


def format_key_name(selector: Selector, domain: Domain) -> str:
    """Name the DNS record of a key (RFC 6376 section 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def format_key_record(algorithm: Algorithm, public_key: bytes) -> str:
    """Write the text of a key record.

    Args:
        algorithm: what the key is for.
        public_key: SubjectPublicKeyInfo in DER for RSA (RFC 6376 section 3.6.1), 32 bytes for Ed25519 (RFC 8463 3.2).
    """
    # RFC 6376 section 3.6.1: v= MUST be the first tag.
    return f"v=DKIM1; k={algorithm.key_type}; p={base64.b64encode(public_key).decode()}"


def is_key_record(text: str) -> bool:
    """Tell whether a TXT record says of itself that it is a DKIM key (RFC 6376 section 3.6.1)."""
    return text.partition(";")[0].replace(" ", "") == "v=DKIM1"


def format_revoked(record: str) -> str:
    """Empty the p= tag of a key record (RFC 6376 section 3.6.1: the key is revoked)."""
    return record.partition("p=")[0] + "p="


def split_txt(text: str) -> tuple[bytes, ...]:
    """Split the text of a record into strings, to be put together without a blank (RFC 6376 section 3.6.2.2)."""
    octets = text.encode()
    return tuple(octets[start : start + MAX_TXT_STRING] for start in range(0, len(octets), MAX_TXT_STRING))


def decide_signed_names(fields: Mapping[bytes, Sequence[bytes]]) -> tuple[bytes, ...]:
    """Choose what h= names, in its order.

    Args:
        fields: all fields of the message by their names in lower case.

    Raises:
        MalformedInput: without From, or with two fields of which there may be one (RFC 6376 section 8.15).
    """
    if b"from" not in fields:
        raise MalformedInput("no From field")
    for name in SINGLETONS & fields.keys():
        if len(fields[name]) > 1:
            raise MalformedInput(f"more than one {name.decode()} field")
    names: list[bytes] = []
    for name in OVERSIGNED:
        names += (name, name) if name in fields else (name,)
    for name in SIGNED_IF_PRESENT:
        names += [name] * min(len(fields.get(name, ())), MAX_INSTANCES)
    return tuple(names)


def format_unsigned(tags: SignatureTags) -> bytes:
    """Write the signature field up to ``b=``, folded at 78 columns (RFC 6376 section 3.5).

    There is no l=: it would let anybody add text to the body (section 8.2). There is no i=: it is ``@`` and d= by
    default, and no more is known than that a user of the domain wrote the message.
    """
    lines = (
        b"DKIM-Signature: v=1; a=%b; c=%b;" % (tags.algorithm.encode(), tags.canonicalization),
        b"d=%b;" % tags.signing_domain.encode(),
        b"s=%b;" % tags.selector.encode(),
        _fold_names(tags.signed_names),
        b"t=%d; x=%d; bh=%b;" % (tags.signed_at, tags.expires_at, tags.body_hash),
        b"b=",
    )
    return b"\r\n ".join(lines)


def canonicalize_unsigned(unsigned: bytes) -> bytes:
    """Give the relaxed form of what `format_unsigned` wrote, without CRLF (RFC 6376 sections 3.4.2 and 3.7)."""
    name, _, value = unsigned.partition(b": ")
    return name.lower() + b":" + value.replace(b"\r\n ", b" ")


def format_signed(unsigned: bytes, signature: bytes) -> bytes:
    """Add the signature to what `format_unsigned` wrote; ends with CRLF."""
    text = base64.b64encode(signature)
    return unsigned + b"\r\n ".join(text[i : i + _B64_LINE] for i in range(0, len(text), _B64_LINE)) + b"\r\n"


@functools.lru_cache(maxsize=256)  # a few sets of names make up nearly all mail; 256 of them are 200 KB
def _fold_names(names: tuple[bytes, ...]) -> bytes:
    # RFC 6376 section 3.5: folding white space may stand on either side of each colon in h=.
    lines, line = [], b"h=" + names[0]
    for name in names[1:]:
        if len(line) + len(name) > _H_LINE:
            lines.append(line + b":")
            line = name
        else:
            line += b":" + name
    return b"\r\n ".join([*lines, line + b";"])
