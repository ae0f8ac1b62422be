"""From Settings to the plain values that the adapters take; shared by the composition roots."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import NoReturn

from ptt.core.address import Domain
from ptt.core.errors import ConfigError, MalformedInput, PttError, decide_exit_code
from ptt.core.seal import parse_seal_key
from ptt.core.signature import SigningPolicy
from ptt.settings import Settings
from ptt.store.connection import RedisAddress, check_files
from ptt.workers.embedded import find_running
from ptt.workers.readiness import Check


def redis_address(settings: Settings) -> RedisAddress:
    """Give the address of the spool and the database of the wake-ups.

    Raises:
        ConfigError: redis.url is missing.
    """
    url = settings.spool_url
    if url is None:
        raise ConfigError("redis: url: missing: only `ptt up` brings its own server")
    return _make_address(settings, url)


def find_spool(settings: Settings) -> RedisAddress:
    """Give the address of the spool; without redis.url that of the `ptt up` that runs on this host.

    Raises:
        Unavailable: there is no redis.url, and no `ptt up` runs.
        ConfigError: its folder is not ours to enter.
    """
    return _make_address(settings, settings.spool_url or find_running(settings.up))


def _make_address(settings: Settings, url: str) -> RedisAddress:
    return RedisAddress(
        url=url,
        broker_db=settings.broker_database,
        ca_file=settings.redis.ca_file,
        certificate_file=settings.redis.certificate_file,
        key_file=settings.redis.key_file,
    )


def check_redis_files(settings: Settings) -> Check:
    """Give the check of the files for TLS to Redis; there is nothing in them without redis.url."""
    keys = ("redis.url", "redis.ca_file", "redis.certificate_file", "redis.key_file")
    return Check(keys, partial(check_files, _make_address(settings, settings.spool_url or "")))


def read_seal_key(settings: Settings) -> bytes:
    """Read the 32 octets that ingress and sign share.

    Raises:
        ConfigError: the file is not set, cannot be read, or holds no such key.
    """
    path = settings.ingress.seal_key_file
    if path is None:
        raise ConfigError("ingress: seal_key_file: missing")
    try:
        return parse_seal_key(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: ingress.seal_key_file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: ingress.seal_key_file: not base64") from error
    except MalformedInput as error:
        raise ConfigError(f"{path}: ingress.seal_key_file: {error}") from error


def end_with(error: PttError) -> NoReturn:
    """End this program with the lines of an error on stderr and the exit code that it means."""
    sys.stderr.write(f"{error}\n")
    raise SystemExit(decide_exit_code(error)) from error


def make_policies(settings: Settings) -> Mapping[Domain, SigningPolicy]:
    """Give how domains are signed that are not signed in the usual way."""
    return {
        Domain(one.domain): SigningPolicy(
            signing_domain=Domain(one.sign_as or one.domain),
            is_header_simple=one.canonicalization.startswith("simple/"),
            is_body_simple=one.canonicalization.endswith("/simple"),
        )
        for one in settings.signing.domains
    }
