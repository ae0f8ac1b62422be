"""The Lua files as values: what Redis runs atomically. One `Call` is one script with its keys and arguments.

All files together are one library of Redis functions: Redis keeps it like its data, so that a role needs no right to
bring code of its own. Its name holds its digest: two versions of ptt may work on one server.

Knows how errors of Redis translate; knows neither sync nor async: see ``batch.py`` and ``sign_queue.py``.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

import redis

from ptt.core.errors import NotPermitted, PttError, Refused, Unavailable
from ptt.core.options import MAX_PRIORITY
from ptt.core.reply import Reply
from ptt.store import keys

FULL = Reply(452, "4.3.1", "Insufficient system storage, try again later")

LIBRARY_PREFIX = "ptt_"
DIGEST_LETTERS = 12
"""Enough to tell versions of ptt apart; nobody but an administrator loads libraries."""
_PLACES = {
    "@PREFIX@": keys.PREFIX,
    "@DATA_VERSION@": str(keys.DATA_VERSION),
    "@DONE_TTL_MS@": str(keys.DONE_TTL_MS),
    "@WITHDRAWAL_MS@": str(keys.WITHDRAWAL_MS),
    "@RESTART_GRACE_MS@": str(keys.RESTART_GRACE_MS),
    "@MAX_GRACES@": str(keys.MAX_GRACES),
    "@BACKOFF_TTL_MS@": str(keys.BACKOFF_TTL_MS),
    "@PRIORITY_STEP_MS@": str(keys.PRIORITY_STEP_MS),
    "@PLAIN_LEAD_MS@": str(keys.lead_ms(0)),
    "@MAX_LEAD_MS@": str(keys.lead_ms(MAX_PRIORITY)),
    "@RETURNED_SHARE@": str(keys.RETURNED_SHARE),
    "@MAX_LOOKS@": str(keys.MAX_LOOKS),
    "@LOST_CLAIM_MS@": str(keys.LOST_CLAIM_MS),
    "@MAX_LOST_LOOKS@": str(keys.MAX_LOST_LOOKS),
}
"""What stands in the Lua files for values that are named in Python."""


_TEMPORARY = {
    "READONLY",  # it became a replica: a failover, or the address leads to another server by now
    "MASTERDOWN",  # the same, and it has lost its master
    "NOREPLICAS",  # min-replicas-to-write
    "MISCONF",  # its disk takes no snapshot, or no append-only file
    "BUSY",  # somebody else's script has been running for seconds
    "OOM",  # our scripts run all the same, but cannot be loaded
}
"""Refusals that end by themselves, or when an operator acts. LOADING is none: redis-py takes it for a lost connection.
TRYAGAIN and CLUSTERDOWN are of clusters, which our scripts cannot work on."""


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua file; ``function`` is what Redis calls it."""

    name: str
    function: str


@dataclass(frozen=True, slots=True)
class Library:
    """All Lua files as what FUNCTION LOAD takes."""

    name: str
    text: str
    scripts: Mapping[str, Script]


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[str | bytes | int, ...]
    is_repeatable: bool = True
    """Whether running it twice does no harm, as when its answer was lost; a claim would take more."""

    @property
    def size_bytes(self) -> int:
        """Give about how many octets the call sends."""
        return sum(len(argument) if isinstance(argument, bytes) else 16 for argument in self.arguments)

    def fcall(self) -> tuple[str | bytes | int, ...]:
        """Give the command."""
        return ("FCALL", self.script.function, len(self.keys), *self.keys, *self.arguments)


def build_library() -> Library:
    """Read all Lua files of this package; each becomes a function, with the prelude in front."""
    folder = resources.files(__package__).joinpath("lua")
    files = {
        entry.name.removesuffix(".lua"): entry.read_text() for entry in folder.iterdir() if entry.name[-4:] == ".lua"
    }
    prelude = files.pop("prelude")
    bodies = {name: _format_function(prelude, files[name]) for name in sorted(files)}
    digest = hashlib.sha256("".join(bodies.values()).encode()).hexdigest()[:DIGEST_LETTERS]
    library = f"{LIBRARY_PREFIX}{digest}"
    parts = [body.replace("@FUNCTION@", f"{library}_{name}") for name, body in bodies.items()]
    scripts = {name: Script(name, f"{library}_{name}") for name in bodies}
    return Library(library, "\n".join([f"#!lua name={library}", *parts]), scripts)


def _format_function(prelude: str, text: str) -> str:
    shebang, _, body = text.partition("\n")
    flags = ",".join(f"'{flag}'" for flag in shebang.partition("flags=")[2].split(",") if flag)
    for place, value in _PLACES.items():
        prelude, body = prelude.replace(place, value), body.replace(place, value)
    head = f"redis.register_function{{function_name='@FUNCTION@', flags={{{flags}}}, callback=function(KEYS, ARGV)"
    return f"{head}\n{prelude}{body}end}}"


LIBRARY = build_library()
SCRIPTS = LIBRARY.scripts


_DENIALS = (
    redis.exceptions.NoPermissionError,
    redis.exceptions.AuthenticationError,
    redis.exceptions.AuthorizationError,
)
_DENIED_IN_FUNCTION = ("ACL failure in script", "The user executing the script can't")
"""In a function the rights count for each command that it runs: what Valkey and Redis 7.2 say of it, and Redis 7.0."""


def is_missing(error: Exception) -> bool:
    """Tell whether Redis does not know our functions: it is new, or so is this version of ptt."""
    return isinstance(error, redis.exceptions.ResponseError) and "Function not found" in str(error)


def is_temporary(error: Exception) -> bool:
    """Tell whether Redis refused, before anything ran, what it may do later."""
    return (getattr(error, "status_code", None) or str(error).partition(" ")[0]) in _TEMPORARY


def is_loaded_already(error: Exception) -> bool:
    """Tell whether FUNCTION LOAD was refused because somebody else was faster."""
    return "already exists" in str(error)


def translate(error: Exception) -> PttError:
    """Turn an error of redis-py into one of ours.

    Returns:
        Refused with 452 when Redis is out of memory; NotPermitted when another login is needed; else Unavailable: what
        Redis cannot do now is tried again.
    """
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM" in str(error)[:16]:
        return Refused(FULL)
    if isinstance(error, _DENIALS) or any(words in str(error) for words in _DENIED_IN_FUNCTION):
        return NotPermitted(f"redis: the login in redis.url has no right to this: {error}")
    return Unavailable(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Raise the errors of redis-py as ours; see `translate`."""
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise translate(error) from error
