"""Connections to Redis or Valkey; whether the server is one to be trusted is for ``server.py``."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

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


def connect(address: RedisAddress) -> redis.Redis:
    """Make a client for one thread or process; it connects when it is used."""
    return redis.Redis.from_url(address.url, **address.options())


def connect_async(address: RedisAddress) -> redis.asyncio.Redis:
    """Make a client for one event loop; it connects when it is used."""
    return redis.asyncio.Redis.from_url(address.url, **address.options())


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
