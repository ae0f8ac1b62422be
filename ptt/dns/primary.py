"""Talks to the primary DNS server over TCP, each message signed both ways. RFC 2136, RFC 8945.

What goes wrong becomes one line for the operator: `Unavailable` where trying again may help, else `UpdateRefused`.
"""

import binascii
import socket
import time
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
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

_QUERY_REASONS = {
    dns.rcode.REFUSED: "it does not have this zone",
    dns.rcode.NOTAUTH: _REASONS[dns.rcode.NOTAUTH],
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
        raise UpdateRefused(f"{self} refuses: {_explain(rcode, _REASONS)}")

    def _exchange(self, request: dns.message.Message) -> dns.message.Message:
        request.use_tsig(self.key)
        try:
            reply = self._prove(request, self._send(request.to_wire()))
        except tuple(_TSIG_REASONS) as error:
            raise UpdateRefused(f"{self} refuses: {_TSIG_REASONS[type(error)]}") from error
        except dns.exception.FormError as error:
            raise UpdateRefused(f"{self} gave a reply that is not understood: {error}") from error
        except (dns.exception.Timeout, TimeoutError) as error:
            raise Unavailable(f"{self} did not reply within {self.timeout_s:g} s") from error
        except (OSError, EOFError, dns.exception.DNSException) as error:
            raise Unavailable(f"{self} cannot be asked: {str(error) or type(error).__name__}") from error
        if reply.rcode() == dns.rcode.SERVFAIL:
            raise Unavailable(f"{self} has a problem of its own: SERVFAIL")
        return reply

    def _send(self, request: bytes) -> dns.message.Message:
        """Exchange octets; whose reply it is, nobody has looked at."""
        expires_at = time.time() + self.timeout_s
        with socket.create_connection((self.address, self.port), self.timeout_s) as connection:
            connection.settimeout(0)  # dnspython waits itself, until one time for all
            dns.query.send_tcp(connection, request, expires_at)
            keyring: Any = False  # looks at no signature; the types of dnspython do not have it
            return dns.query.receive_tcp(connection, expires_at, keyring=keyring)[0]

    def _prove(self, request: dns.message.Message, found: dns.message.Message) -> dns.message.Message:
        """Give the reply if its signature is right."""
        if not found.had_tsig and request.is_response(found):
            # RFC 8945 section 5.3: a reply without TSIG may be anybody's. What it says is told, and not believed.
            # Observed with Knot DNS 3.2: it does not sign that it has no such zone.
            reasons = _REASONS if request.opcode() == dns.opcode.UPDATE else _QUERY_REASONS
            raise UpdateRefused(f"{self} gave a reply that is not signed; it says {_explain(found.rcode(), reasons)}")
        assert found.wire is not None  # noqa: S101 - for the type checker: it was received
        reply = dns.message.from_wire(found.wire, keyring=self.key, request_mac=request.mac)
        if not request.is_response(reply):
            raise dns.query.BadResponse
        return reply


def _explain(rcode: dns.rcode.Rcode, reasons: Mapping[dns.rcode.Rcode, str]) -> str:
    """Say in one line what an rcode means."""
    text = dns.rcode.to_text(rcode)
    return f"{text}: {reasons[rcode]}" if rcode in reasons else text


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
