"""How much TLS a connection asks for. RFC 3207; RFC 7435 for the opportunistic kind, RFC 8689 for the verified."""

import ssl
from enum import StrEnum

from ptt.core.errors import ConfigError


class TlsPolicy(StrEnum):
    """Part of the name of a kept connection: one made under a weaker policy is never used for a stronger one."""

    OPPORTUNISTIC = "opportunistic"
    """STARTTLS if it is offered, whatever the certificate says."""
    VERIFIED = "verified"
    """STARTTLS, and a certificate for the name of the MX host from somebody we trust; nothing less will do."""
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


def make_verified_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Make the context for hosts that must prove who they are (RFC 8689 section 4.2.1, RFC 9525).

    Args:
        ca_file: PEM file of trust anchors; the system's when None.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        reason = "not a PEM file with certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"{ca_file}: relay.ca_file: {reason}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
