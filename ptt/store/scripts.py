"""The Lua files as values: what Redis runs atomically. One `Call` is one script with its keys and arguments.

Knows how errors of Redis translate; knows neither sync nor async: see ``batch.py`` and ``sign_queue.py``.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

import redis

from ptt.core.errors import PttError, Refused, Unavailable
from ptt.core.reply import Reply
from ptt.store import keys

FULL = Reply(452, "4.3.1", "Insufficient system storage, try again later")


_PLACES = {
    b"@PREFIX@": keys.PREFIX.encode(),
    b"@DATA_VERSION@": b"%d" % keys.DATA_VERSION,
    b"@DONE_TTL_MS@": b"%d" % keys.DONE_TTL_MS,
}
"""What stands in the Lua files for values that are named in Python."""


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua file with the prelude in front."""

    name: str
    text: bytes
    sha1: str


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[str | bytes | int, ...]

    @property
    def size_bytes(self) -> int:
        """Give about how many octets the call sends."""
        return sum(len(argument) if isinstance(argument, bytes) else 16 for argument in self.arguments)

    def evalsha(self) -> tuple[str | bytes | int, ...]:
        """Give the command."""
        return ("EVALSHA", self.script.sha1, len(self.keys), *self.keys, *self.arguments)


def load_scripts() -> Mapping[str, Script]:
    """Read all Lua files of this package."""
    folder = resources.files(__package__).joinpath("lua")
    prelude = folder.joinpath("prelude.lua").read_bytes()
    scripts = {}
    for entry in folder.iterdir():
        name = entry.name.removesuffix(".lua")
        if entry.name.endswith(".lua") and name != "prelude":
            shebang, _, body = entry.read_bytes().partition(b"\n")
            text = shebang + b"\n" + prelude + body
            for place, value in _PLACES.items():
                text = text.replace(place, value)
            scripts[name] = Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest())
    return scripts


SCRIPTS = load_scripts()


def translate(error: Exception) -> PttError:
    """Turn an error of redis-py into one of ours.

    Returns:
        Refused with 452 when Redis is out of memory, else Unavailable: what Redis cannot do now is tried again.
    """
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM" in str(error)[:16]:
        return Refused(FULL)
    return Unavailable(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Raise the errors of redis-py as ours; see `translate`."""
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        raise translate(error) from error
