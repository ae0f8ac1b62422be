"""How much TLS a connection asks for. RFC 3207; RFC 7435 for the opportunistic kind."""

import ssl
from enum import StrEnum


class TlsPolicy(StrEnum):
    """Part of the name of a kept connection: one made under a weaker policy is never used for a stronger one."""

    OPPORTUNISTIC = "opportunistic"
    """STARTTLS if it is offered, whatever the certificate says."""
    CLEAR = "clear"
    """No TLS: the second try after STARTTLS failed."""


def make_opportunistic_context() -> ssl.SSLContext:
    """Make the context for STARTTLS without a policy.

    RFC 7435 section 3: an encrypted channel to nobody in particular is better than clear text, which is what a refused
    certificate would lead to; so none is checked. TLS below 1.2 is not offered (RFC 8996).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
