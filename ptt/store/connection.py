"""Connections to Redis or Valkey, and the check that the server keeps what it acknowledges."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
import tenacity

from ptt.core.errors import ConfigError, Unavailable

SOCKET_TIMEOUT_S = 5.0
"""Longest wait for one answer: ingress owes its client a 451 within 5 s when Redis is away."""
START_TIMEOUT_S = 15.0
"""How long a starting process waits for Redis: it may be loading its append-only file."""

REQUIRED = {
    "appendonly": ("yes", "without it a crash loses all mail"),
    "appendfsync": ("always", "anything less loses mail that was answered with 250"),
    "maxmemory-policy": ("noeviction", "any other deletes mail when memory is short"),
}
"""Settings of the server without which ptt does not start, and why."""


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


def check_server(address: RedisAddress, *, allow_unsafe: bool) -> None:
    """Wait until Redis answers, and refuse one that may lose or delete mail.

    Raises:
        Unavailable: no answer within START_TIMEOUT_S.
        ConfigError: one line for each unsafe setting, unless ``allow_unsafe``.
    """
    client = connect(address)
    try:
        problems = _ask_problems(client)
    finally:
        client.close()
    if problems and not allow_unsafe:
        raise ConfigError(*problems)


def _ask_problems(client: redis.Redis) -> list[str]:
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)),
        wait=tenacity.wait_exponential(multiplier=0.05, max=1),
        stop=tenacity.stop_after_delay(START_TIMEOUT_S),
        reraise=True,
    )
    try:
        found = {str(name): str(value) for name, value in retrying(client.config_get, *REQUIRED).items()}
    except redis.exceptions.RedisError as error:
        raise Unavailable(f"redis: {error}") from error
    return [
        f"redis: {name}: is {found.get(name)!r}, must be {value!r}: {reason}"
        for name, (value, reason) in REQUIRED.items()
        if _decode(found.get(name)) != value
    ]


def _decode(value: str | None) -> str:
    return "" if value is None else value


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
