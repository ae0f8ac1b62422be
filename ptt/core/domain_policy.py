"""Judges the TXT records that receivers look at beside the signature: DKIM key, SPF, DMARC; pure.

Each function gives what is wrong in words, or nothing. RFC 6376 section 3.6.1, RFC 7208 section 4.5, RFC 7489 section
6.3.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence

from ptt.core.address import Domain

KEY_TYPES = ("rsa", "ed25519")
MAX_ANSWER = 1232
"""Octets of an answer that comes over UDP everywhere (DNS flag day 2020): a longer one needs TCP, which some block."""
_ANSWER_OVERHEAD = 120
"""Octets of an answer beside the text: header, names and numbers."""
_ENOUGH_LABELS = 2


def find_key_faults(text: str) -> list[str]:
    """Tell what is wrong with the text of a DKIM key record."""
    tags = _parse_tags(text)
    if tags is None:
        return ["is no list of tags"]
    faults = []
    # RFC 6376 section 3.6.1: v= is the first tag if it is there, and without it other TXT records pass for keys.
    if not text.replace(" ", "").startswith("v=DKIM1"):
        faults.append("does not begin with v=DKIM1")
    if tags.get("k", "rsa") not in KEY_TYPES:
        faults.append(f"has an unknown type of key: k={tags['k']}")
    if "sha256" not in tags.get("h", "sha256").split(":"):
        faults.append("forbids SHA-256: h=")
    if not {"*", "email"} & set(tags.get("s", "*").split(":")):
        faults.append("is not for mail: s=")
    if "y" in tags.get("t", "").split(":"):
        faults.append("says that this is a test: t=y lets receivers ignore the signature")
    if fault := _judge_public_key(tags.get("p")):
        faults.append(fault)
    if len(text) + len(text) // 255 + 1 + _ANSWER_OVERHEAD > MAX_ANSWER:
        faults.append(f"is too long for an answer over UDP: {len(text)} octets")
    return faults


def is_revoked(text: str) -> bool:
    """Tell whether the text of a DKIM key record declares its key void: p= is there and empty."""
    return (_parse_tags(text) or {}).get("p") == ""


def find_spf_fault(texts: Sequence[str]) -> str:
    """Tell what is wrong with the TXT records of a domain as SPF."""
    records = [text for text in texts if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]
    if not records:
        return "has no SPF record"
    # RFC 7208 section 4.5: several are a permanent error.
    if len(records) > 1:
        return f"has {len(records)} SPF records: receivers use none of them"
    if {"+all", "all"} & set(records[0].lower().split()):
        return "lets everybody send: +all"
    return ""


def find_dmarc_fault(texts: Sequence[str]) -> str:
    """Tell what is wrong with the TXT records of a ``_dmarc`` name."""
    records = [text for text in texts if text.replace(" ", "").startswith("v=DMARC1")]
    if not records:
        return "has no DMARC record"
    # RFC 7489 section 6.6.3: several count as none.
    if len(records) > 1:
        return f"has {len(records)} DMARC records: receivers use none of them"
    tags = _parse_tags(records[0])
    if tags is None or tags.get("p") not in {"none", "quarantine", "reject"}:
        return "has a DMARC record without a policy: p="
    return ""


def list_dmarc_names(domain: Domain) -> list[str]:
    """Give where the policy of a domain may stand: at the domain, then above it (RFC 7489 section 3.2)."""
    labels = domain.split(".")
    return [f"_dmarc.{'.'.join(labels[start:])}" for start in range(max(1, len(labels) - _ENOUGH_LABELS + 1))]


def format_spf(domain: Domain, hostname: str) -> str:
    """Write an SPF record to paste into the zone."""
    return f'{domain}. 3600 IN TXT "v=spf1 a:{hostname or domain} ~all"'


def format_dmarc(domain: Domain) -> str:
    """Write a DMARC record to paste into the zone; it asks for reports and nothing else."""
    return f'_dmarc.{domain}. 3600 IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@{domain}"'


def _parse_tags(text: str) -> Mapping[str, str] | None:
    """Parse ``a=1; b=2`` (RFC 6376 section 3.2); None if it is no such list."""
    tags: dict[str, str] = {}
    for part in text.rstrip("; ").split(";"):
        name, equals, value = part.partition("=")
        if not equals or name.strip() in tags:
            return None
        tags[name.strip()] = value.strip()
    return tags


def _judge_public_key(text: str | None) -> str:
    if text is None:
        return "has no public key: p="
    if not text:
        return "is revoked: p= is empty"
    try:
        base64.b64decode(text.replace(" ", ""), validate=True)
    except binascii.Error:
        return "has a public key that is no base64: p="
    return ""
