"""The TLS side of the submission server. RFC 8314 section 4.1, RFC 8997: TLS 1.2 and newer; RFC 6066 section 3: SNI."""

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from ptt.core.errors import ConfigError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 section 4.2). TLS 1.3 has no others."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate with its chain, and its key."""

    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class _Site:
    """One certificate, ready for use; ``names`` are in lower case."""

    context: ssl.SSLContext
    names: frozenset[str]


class BoundContext(ssl.SSLContext):
    """A context that knows what clients bind to when they trust its certificate."""

    end_point = b""
    """tls-server-end-point of its certificate (RFC 5929 section 4.1); empty where it is not defined."""


class ServerTls:
    """A context that stays the same object while its certificates are renewed.

    Each handshake takes the certificate whose names hold what the client asks for (SNI), else the first one.
    """

    def __init__(self, certificates: Sequence[CertificateFiles], client_ca_file: Path | None = None) -> None:
        """Load the certificates.

        Args:
            certificates: the first of them serves who asks for none of the names.
            client_ca_file: authorities that may sign clients' certificates; clients are asked for one if it is there.

        Raises:
            ConfigError: the files cannot be read or do not belong together.
        """
        self._certificates = tuple(certificates)
        self._client_ca_file = client_ca_file
        self._sites = self._load()
        self.context = self._make_context(self._certificates[0])
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Load all certificates again; they count for new handshakes.

        Raises:
            ConfigError: one of the files cannot be used; then all old certificates stay.
        """
        # All or nothing: half of a renewal must not be served.
        self._sites = self._load()

    def _load(self) -> tuple[_Site, ...]:
        return tuple(_Site(self._make_context(files), _read_names(files)) for files in self._certificates)

    def _make_context(self, files: CertificateFiles) -> ssl.SSLContext:
        context = _make_context(files)
        if self._client_ca_file is not None:
            _load_authorities(context, self._client_ca_file)
            # Who has no certificate logs in with a password.
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _choose(self, handshake: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = _find_site(self._sites, (name or "").lower().rstrip(".")).context


def check_certificate(files: CertificateFiles) -> None:
    """See whether a certificate can be served now.

    Raises:
        ConfigError: its files cannot be read or do not belong together, or it has expired.
    """
    _make_context(files)
    _read_names(files)


def check_authorities(client_ca_file: Path) -> None:
    """See whether a file holds certificates of authorities.

    Raises:
        ConfigError: it does not.
    """
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), client_ca_file)


def _load_authorities(context: ssl.SSLContext, client_ca_file: Path) -> None:
    try:
        context.load_verify_locations(client_ca_file)
    except OSError as error:
        reason = "not a PEM file with certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"{client_ca_file}: ingress.client_ca_file: {reason}") from error


def _find_site(sites: Sequence[_Site], name: str) -> _Site:
    # RFC 9525 section 6.3: a wildcard stands for one label.
    _, _, parent = name.partition(".")
    for wanted in (name, f"*.{parent}"):
        for site in sites:
            if wanted in site.names:
                return site
    return sites[0]


def _read_names(files: CertificateFiles) -> frozenset[str]:
    place = f"{files.certificate_file}: ingress.certificate_file"
    certificate = _read_certificate(files)
    if certificate.not_valid_after_utc.timestamp() < time.time():
        raise ConfigError(f"{place}: expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from error
    return frozenset(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def _read_certificate(files: CertificateFiles) -> x509.Certificate:
    # The first certificate in the file is the server's own (RFC 8446 section 4.4.2).
    place = f"{files.certificate_file}: ingress.certificate_file"
    try:
        return x509.load_pem_x509_certificates(files.certificate_file.read_bytes())[0]
    except ValueError as error:
        raise ConfigError(f"{place}: not a PEM file with a certificate") from error
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}") from error


def _make_context(files: CertificateFiles) -> BoundContext:
    context = BoundContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # The threat: renegotiation makes the server work for nothing, and compression tells what is encrypted (CRIME).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.end_point = _hash_certificate(_read_certificate(files))
    try:
        context.load_cert_chain(files.certificate_file, files.key_file, password=_refuse_password)
    except ssl.SSLError as error:
        raise ConfigError(_explain(error, files)) from error
    except OSError as error:  # the certificate was just read
        raise ConfigError(f"{files.key_file}: ingress.key_file: {error.strerror}") from error
    return context


def _explain(error: ssl.SSLError, files: CertificateFiles) -> str:
    place = f"{files.key_file}: ingress.key_file"
    if not error.reason:  # the certificate was just read, and OpenSSL has no word for what is wrong
        return f"{place}: not a PEM file with a private key, or it has a passphrase"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{place}: does not belong to the certificate in {files.certificate_file}"
    return f"{files.certificate_file}: ingress.certificate_file: {error.reason}"


def _hash_certificate(certificate: x509.Certificate) -> bytes:
    """Compute tls-server-end-point (RFC 5929 section 4.1); nothing where it is not defined, as for Ed25519."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return b""
    if algorithm is None:
        return b""
    weak = (hashes.MD5, hashes.SHA1)
    return certificate.fingerprint(hashes.SHA256() if isinstance(algorithm, weak) else algorithm)


def _refuse_password() -> str:
    # Without this, OpenSSL would ask on the terminal for the passphrase of an encrypted key.
    return ""
