"""What the TLS connection says about itself: channel bindings for SCRAM, and who the client's certificate names.

RFC 5929 sections 3 and 4 (tls-unique, tls-server-end-point), RFC 9266 (tls-exporter), RFC 4422 appendix A (EXTERNAL).
"""

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ptt.ingress.tls import BoundContext

BINDINGS: Mapping[str, str] = {"TLSv1.2": "tls-unique", "TLSv1.3": "tls-exporter"}
"""The binding of each version. RFC 9266 section 3: tls-unique is not defined for TLS 1.3."""
_NAMES = {"DNS": "dns", "email": "email"}


@dataclass(frozen=True, slots=True)
class Channel:
    """One TLS connection; ``bindings`` are the octets of each binding that can be computed."""

    bindings: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    certificate_names: frozenset[str] = frozenset()
    """The client's certificate, as `ptt.core.credentials` names it; empty without one."""


def read_channel(tls: ssl.SSLObject | None) -> Channel:
    """Read what there is to say; nothing of a connection in clear."""
    if tls is None:
        return Channel()
    return Channel(_compute_bindings(tls), _list_names(tls))


def _compute_bindings(tls: ssl.SSLObject) -> dict[str, bytes]:
    binding = BINDINGS.get(tls.version() or "", "")
    # Python's ssl has no tls-exporter so far. RFC 7627 section 6.1: where a session was resumed, tls-unique may be the
    # same on two connections (the triple handshake).
    if binding not in ssl.CHANNEL_BINDING_TYPES or tls.session_reused:
        return {}
    # A client takes the binding of its version for granted where it sees -PLUS (RFC 9266): the other comes second.
    end_point = tls.context.end_point if isinstance(tls.context, BoundContext) else b""
    found = {binding: tls.get_channel_binding(binding), "tls-server-end-point": end_point}
    return {name: octets for name, octets in found.items() if octets}


def _list_names(tls: ssl.SSLObject) -> frozenset[str]:
    # Python gives a certificate only if it was verified.
    certificate = tls.getpeercert(binary_form=True)
    if not certificate:
        return frozenset()
    fields = tls.getpeercert() or {}
    names = {f"sha256:{hashlib.sha256(certificate).hexdigest()}"}
    alternatives = cast("tuple[tuple[str, str], ...]", fields.get("subjectAltName", ()))
    names.update(f"{_NAMES[kind]}:{name.lower()}" for kind, name in alternatives if kind in _NAMES)
    return frozenset(names)
