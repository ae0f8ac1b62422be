"""Certificates for one demonstration: an authority that lives for a day, and what it signs. RFC 5280, RFC 6125."""

import ipaddress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=1)
_AUTHORITY = "ptt demo authority"


class Authority:
    """Signs certificates; its key is never written down."""

    def __init__(self, now: datetime) -> None:
        """Make the authority."""
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_AUTHORITY, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    def save(self, path: Path) -> None:
        """Write the authority's own certificate, for those who shall trust it."""
        path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, host: str, address: str, certificate_file: Path, key_file: Path) -> None:
        """Issue a certificate.

        Args:
            host: the server's DNS name.
            address: its IP address.
            certificate_file: where the certificate goes, PEM.
            key_file: where its key goes, PEM, mode 0600.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address(address))])
        certificate = self._builder(host, key.public_key()).add_extension(names, critical=False)
        signed = certificate.sign(self._key, hashes.SHA256())
        certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def _builder(self, name: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        own = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(_make_name(name))
            .issuer_name(_make_name(_AUTHORITY))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _LIFE)
            .not_valid_after(self._now + _LIFE)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )


def _make_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
