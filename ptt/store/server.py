"""The Redis server itself: does it keep what it acknowledges, and does it have our functions?

Roles with a user of their own may not read the server's configuration: for them INFO tells what it can, and `ptt redis
load`, which gives them their functions, has checked the rest.
"""

import ssl
from collections.abc import Mapping
from threading import Event

import redis
import tenacity
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from ptt.core.errors import ConfigError, Unavailable
from ptt.store.acl import REPLAYED
from ptt.store.connection import RedisAddress, connect
from ptt.store.runner import load_library
from ptt.store.scripts import LIBRARY, LIBRARY_PREFIX, SCRIPTS, Call, is_missing, translating

START_TIMEOUT_S = 15.0
"""How long a starting process waits for Redis: it may be loading its append-only file."""

REQUIRED = {
    "appendonly": ("yes", "without it a crash loses all mail"),
    "appendfsync": ("always", "anything less loses mail that was answered with 250"),
    "maxmemory-policy": ("noeviction", "any other deletes mail when memory is short"),
}
"""Settings of the server without which ptt does not start, and why."""

FORGETFUL = (
    "redis: user default: may not do all that ptt writes: this server would leave it out when it reads its append-only"
    " file again; give that user all rights and no way to log in, as `ptt redis acl` does:"
    " user default off resetpass ~* &* +@all"
)

NOT_LOADED = "redis: this version's functions are not there: run `ptt redis load` as the administrator"


def check_server(address: RedisAddress, *, allow_unsafe: bool, stopped: Event | None = None) -> None:
    """Wait until Redis answers, refuse one that may lose or delete mail, and see to our functions.

    Args:
        address: where it is.
        allow_unsafe: take one that may lose mail.
        stopped: once it is set, from any thread, no further attempt is made.

    Raises:
        Unavailable: no answer within START_TIMEOUT_S, or one that waiting does not change.
        ConfigError: one line for each unsafe setting, unless ``allow_unsafe``; or this user may not load functions, and
            nobody has.
    """
    client = connect(address)
    try:
        problems = _ask_problems(client, stopped or Event())
        if problems and not allow_unsafe:
            raise ConfigError(*problems)
        _see_to_functions(client)
    except RedisError as error:
        raise Unavailable(f"redis: {error}") from error
    finally:
        client.close()


def list_unsafe(address: RedisAddress) -> list[str]:
    """Give one line for each setting of the server that may lose or delete mail; changes nothing.

    Raises:
        Unavailable: no answer within START_TIMEOUT_S, or one that waiting does not change.
    """
    client = connect(address)
    try:
        return _ask_problems(client, Event())
    except RedisError as error:
        raise Unavailable(f"redis: {error}") from error
    finally:
        client.close()


def load_functions(address: RedisAddress, *, prunes: bool) -> tuple[str, list[str]]:
    """Load our functions, for roles that may not do so.

    Args:
        address: of a user who may.
        prunes: delete the functions of other versions of ptt.

    Returns:
        The name of our library, and those of other versions that were there.

    Raises:
        Unavailable: no answer, or the user may not.
    """
    client = connect(address)
    with translating():
        load_library(client)
        found = client.function_list(library=f"{LIBRARY_PREFIX}*")
        names = [_read_name(library) for library in found]
        others = sorted(name for name in names if name != LIBRARY.name)
        for name in others if prunes else ():
            client.function_delete(name)
    client.close()
    return LIBRARY.name, others


def _ask_problems(client: redis.Redis, stopped: Event) -> list[str]:
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=tenacity.wait_exponential(multiplier=0.05, max=1),
        stop=tenacity.stop_any(tenacity.stop_after_delay(START_TIMEOUT_S), tenacity.stop_when_event_set(stopped)),
        sleep=tenacity.sleep_using_event(stopped),
        reraise=True,
    )
    try:
        found = {str(name): str(value) for name, value in retrying(client.config_get, *REQUIRED).items()}
    except NoPermissionError:
        return _name_problems(_read_info(client))  # `ptt redis load` has seen to the rest
    problems = _name_problems(found)
    return problems if _keeps_transactions(client) else [*problems, FORGETFUL]


def _name_problems(found: Mapping[str, str]) -> list[str]:
    return [
        f"redis: {name}: is {found.get(name, '')!r}, must be {value!r}: {reason}"
        for name, (value, reason) in REQUIRED.items()
        if found.get(name) != value
    ]


def _keeps_transactions(client: redis.Redis) -> bool:
    """Tell whether the server, as its default user, may do again what its append-only file holds."""
    try:
        return all(client.execute_command("ACL", "DRYRUN", "default", *words) == b"OK" for words in REPLAYED)  # type: ignore[no-untyped-call]
    except NoPermissionError:
        return True  # This user may not ask, and whoever loaded our functions did.


def _may_pass(error: BaseException | None) -> bool:
    """Tell whether a fault is one of a server that is about to start; redis-py calls most faults ConnectionError."""
    if isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.AuthorizationError):
        return False
    is_away = isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError)
    while error is not None:
        # A certificate does not become right by waiting: the person who starts the process must hear it now.
        if isinstance(error, ssl.SSLCertVerificationError):
            return False
        error = error.__cause__ or error.__context__
    return is_away


def _read_info(client: redis.Redis) -> dict[str, str]:
    """Give what INFO tells of REQUIRED."""
    return {
        "appendfsync": "always",  # INFO does not tell: `ptt redis load` has seen it
        "appendonly": "yes" if client.info("persistence").get("aof_enabled") else "no",
        "maxmemory-policy": str(client.info("memory").get("maxmemory_policy", "")),
    }


def _see_to_functions(client: redis.Redis) -> None:
    try:
        client.execute_command(*Call(SCRIPTS["ready"], (), ()).fcall())  # type: ignore[no-untyped-call]
    except ResponseError as error:
        if not is_missing(error):
            raise
        try:
            load_library(client)
        except NoPermissionError as denied:
            raise ConfigError(NOT_LOADED) from denied


def _read_name(library: list[bytes]) -> str:
    """Read the name in an answer of FUNCTION LIST: names and values in turn."""
    return dict(zip(library[::2], library[1::2], strict=True))[b"library_name"].decode()
