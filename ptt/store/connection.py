"""Connections to Redis or Valkey; whether the server is one to be trusted is for ``server.py``."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from ptt.core.errors import ConfigError

SOCKET_TIMEOUT_S = 5.0
"""Longest wait for one answer: ingress owes its client a 451 within 5 s when Redis is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is: ``url`` names the spool database, ``broker_db`` the one of the wake-ups on the same server."""

    url: str
    broker_db: int = 0
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def options(self) -> dict[str, Any]:
        """Give the keyword arguments of ``from_url``, sync and async alike."""
        common: dict[str, Any] = {
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "retry": None,
            "driver_info": None,  # it would be told by CLIENT SETINFO, which no role may
        }
        if self.url.startswith("unix:"):
            return common
        common["socket_keepalive"] = True
        if self.url.startswith("rediss:"):
            common |= {
                "ssl_cert_reqs": ssl.CERT_REQUIRED,
                "ssl_ca_certs": _text(self.ca_file),
                "ssl_certfile": _text(self.certificate_file),
                "ssl_keyfile": _text(self.key_file),
            }
        return common


def check_files(address: RedisAddress) -> None:
    """See whether the files for TLS, if it is spoken, hold what they should.

    Raises:
        ConfigError: one line for each that does not.
    """
    if not address.url.startswith("rediss:"):
        return
    problems = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if address.ca_file is not None:
        try:
            context.load_verify_locations(address.ca_file)
        except OSError as error:
            problems.append(f"{address.ca_file}: redis.ca_file: {_explain(error, 'certificates')}")
    if address.certificate_file is not None:
        try:
            # Without a password to try, OpenSSL would ask on the terminal for the passphrase of an encrypted key.
            context.load_cert_chain(address.certificate_file, address.key_file, password=lambda: "")
        except OSError as error:
            reason = _explain(error, "a certificate, or the key is none or has a passphrase")
            problems.append(f"{address.certificate_file}: redis.certificate_file: {reason}")
    if problems:
        raise ConfigError(*problems)


def connect(address: RedisAddress) -> redis.Redis:
    """Make a client for one thread or process; it connects when it is used."""
    return redis.Redis.from_url(address.url, **address.options())


def connect_async(address: RedisAddress) -> redis.asyncio.Redis:
    """Make a client for one event loop; it connects when it is used."""
    return redis.asyncio.Redis.from_url(address.url, **address.options())


def _explain(error: OSError, content: str) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    return "its key is of another one" if error.reason == "KEY_VALUES_MISMATCH" else f"not a PEM file with {content}"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
