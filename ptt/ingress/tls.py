"""The TLS side of the submission server. RFC 8314 section 4.1, RFC 8997: TLS 1.2 and newer."""

import ssl
from pathlib import Path

from ptt.core.errors import ConfigError


class ServerTls:
    """A context that stays the same object while its certificate is renewed."""

    def __init__(self, certificate_file: Path, key_file: Path) -> None:
        """Load the certificate.

        Raises:
            ConfigError: the files cannot be read or do not belong together.
        """
        self._certificate_file = certificate_file
        self._key_file = key_file
        self.context = self._load()

    def reload(self) -> None:
        """Load the certificate again; it counts for new handshakes.

        Raises:
            ConfigError: the files cannot be used; the old certificate stays.
        """
        # Loading a certificate whose key is wrong would leave the context with neither: try it on another one first.
        self._load()
        self.context.load_cert_chain(self._certificate_file, self._key_file)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # The threat: renegotiation makes the server work for nothing, and compression tells what is encrypted (CRIME).
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        try:
            context.load_cert_chain(self._certificate_file, self._key_file, password=_refuse_password)
        except ssl.SSLError as error:
            reason = error.reason or "not a PEM file with a certificate"
            raise ConfigError(
                f"{self._certificate_file}: ingress.certificate_file, ingress.key_file: {reason}"
            ) from error
        except OSError as error:
            raise ConfigError(f"{error.filename or self._certificate_file}: {error.strerror}") from error
        return context


def _refuse_password() -> str:
    # Without this, OpenSSL would ask on the terminal for the passphrase of an encrypted key.
    return ""
