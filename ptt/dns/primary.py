"""Talks to the primary DNS server over TCP, each message signed both ways. RFC 2136, RFC 8945.

What goes wrong becomes one line for the operator: `Unavailable` where trying again may help, else `UpdateRefused`.
"""

import binascii
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
from typing_extensions import override

from ptt.core.errors import ConfigError, Unavailable, UpdateRefused

TIMEOUT_S = 5.0
"""How long the primary may take for one exchange."""

ATTEMPTS = 4
"""How often it is tried when a person waits and the primary does not answer; the pauses are 0.25, 0.5 and 1 s."""

_REASONS = {
    dns.rcode.REFUSED: "its update policy does not let our TSIG key change this name",
    dns.rcode.NOTAUTH: "it is not the primary of this zone, or does not know our TSIG key",
    dns.rcode.NOTZONE: "the name is not in the zone",
    dns.rcode.NOTIMP: "it does not take updates",
    dns.rcode.FORMERR: "it does not understand the update",
    dns.rcode.YXRRSET: "somebody else made a record of this name at the same time",
    dns.rcode.NXRRSET: "somebody else changed the record at the same time",
}

# RFC 8945 section 5.3.2: the server tells these in the TSIG record of its reply.
_TSIG_REASONS: dict[type[dns.exception.DNSException], str] = {
    dns.tsig.PeerBadKey: "BADKEY: it knows no TSIG key of our name and algorithm, or does not let it change this name",
    dns.tsig.PeerBadSignature: "BADSIG: its TSIG secret is not ours",
    dns.tsig.PeerBadTime: "BADTIME: its clock and ours are more than 5 minutes apart",
    dns.tsig.PeerBadTruncation: "BADTRUNC: it wants a longer TSIG signature",
    dns.tsig.BadSignature: "the TSIG signature of its reply is wrong: it is not from the primary, or was changed",
    dns.tsig.BadTime: "its reply was signed more than 5 minutes away from our clock",
    dns.tsig.BadKey: "its reply is signed with a TSIG key of another name",
    dns.tsig.BadAlgorithm: "its reply is signed with another TSIG algorithm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Primary:
    """The server that takes our updates, and the TSIG key that we share with it."""

    address: str
    port: int
    key: dns.tsig.Key = field(repr=False)  # dnspython prints the secret
    timeout_s: float = TIMEOUT_S
    attempts: int = ATTEMPTS

    @override
    def __str__(self) -> str:
        """Name the server in messages."""
        return f"DNS server {self.address} port {self.port}"

    def query(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.message.Message:
        """Ask for records; the reply may have any rcode but SERVFAIL.

        Raises:
            Unavailable: no reply, or SERVFAIL.
            UpdateRefused: the reply does not prove that it is the primary's.
        """
        # No flags: what the server itself has is wanted, not what it could find out (RD, RFC 1034 section 4.3.1).
        return self._exchange(dns.message.make_query(name, rdtype, flags=0))

    def update(
        self, update: dns.message.Message, *, allowed: frozenset[dns.rcode.Rcode] = frozenset()
    ) -> dns.rcode.Rcode:
        """Send an update that is not signed yet.

        Args:
            update: of RFC 2136.
            allowed: what the caller can deal with besides NOERROR.

        Returns:
            NOERROR, or one of ``allowed``.

        Raises:
            Unavailable: no reply, or SERVFAIL.
            UpdateRefused: any other rcode, or the reply does not prove that it is the primary's.
        """
        rcode = self._exchange(update).rcode()
        if rcode == dns.rcode.NOERROR or rcode in allowed:
            return rcode
        raise UpdateRefused(f"{self} refuses: {_explain(rcode)}")

    def _exchange(self, request: dns.message.Message) -> dns.message.Message:
        request.use_tsig(self.key)
        try:
            reply = dns.query.tcp(request, self.address, timeout=self.timeout_s, port=self.port)
        except tuple(_TSIG_REASONS) as error:
            raise UpdateRefused(f"{self} refuses: {_TSIG_REASONS[type(error)]}") from error
        except dns.exception.FormError as error:
            # RFC 8945 section 5.3: a reply without TSIG may be anybody's, whatever its rcode says.
            raise UpdateRefused(f"{self} gave a reply that is not signed or not understood: {error}") from error
        except dns.exception.Timeout as error:
            raise Unavailable(f"{self} did not reply within {self.timeout_s:g} s") from error
        except (OSError, EOFError, dns.exception.DNSException) as error:
            raise Unavailable(f"{self} cannot be asked: {str(error) or type(error).__name__}") from error
        if reply.rcode() == dns.rcode.SERVFAIL:
            raise Unavailable(f"{self} has a problem of its own: SERVFAIL")
        return reply


def _explain(rcode: dns.rcode.Rcode) -> str:
    """Say in one line what an rcode of an update means."""
    text = dns.rcode.to_text(rcode)
    return f"{text}: {_REASONS[rcode]}" if rcode in _REASONS else text


def load_tsig_key(name: str, secret_file: Path, algorithm: str) -> dns.tsig.Key:
    """Read a TSIG key.

    Args:
        name: of the key.
        secret_file: holds the secret in base64.
        algorithm: such as ``hmac-sha256``.

    Raises:
        ConfigError: the file cannot be read, or holds no base64, or the name is no DNS name.
    """
    try:
        secret = b64decode(secret_file.read_text().strip(), validate=True)
        if not secret:
            raise ConfigError(f"{secret_file}: dns_update.tsig_secret_file: empty")
        return dns.tsig.Key(dns.name.from_text(name), secret, algorithm)
    except OSError as error:
        raise ConfigError(f"{secret_file}: dns_update.tsig_secret_file: {error.strerror}") from error
    except (UnicodeDecodeError, binascii.Error) as error:
        raise ConfigError(f"{secret_file}: dns_update.tsig_secret_file: not base64") from error
    except dns.exception.DNSException as error:
        raise ConfigError(f"dns_update.tsig_key_name: {name!r} is no DNS name: {error}") from error
