"""Running `ptt queue` and `ptt trace` on the Valkey of a test."""

import json
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import redis
from click.testing import Result

from ptt.core.address import Address, Domain
from ptt.store import keys

ONE, TWO = Domain("one.test"), Domain("two.test")
ANN, BOB, CAT = Address("ann", ONE), Address("bob", ONE), Address("cat", TWO)
ME = pwd.getpwuid(os.getuid()).pw_name

Run = Callable[..., Result]


def list_json(ptt: Run, *arguments: str) -> list[dict[str, Any]]:
    """List the queue in plain types."""
    found: list[dict[str, Any]] = json.loads(ptt("queue", "list", "-o", "json", *arguments).stdout)["entries"]
    return found


def states(ptt: Run) -> dict[str | None, str]:
    """Give the state of each destination."""
    return {entry["destination"]: entry["state"] for entry in list_json(ptt)}


def read_events(client: redis.Redis) -> list[Mapping[bytes, bytes]]:
    """Give the fields of each event."""
    entries = cast("Sequence[tuple[bytes, Mapping[bytes, bytes]]]", client.xrange(keys.EVENTS))
    return [fields for _, fields in entries]


def now_ms(client: redis.Redis) -> int:
    """Give the time of Redis."""
    return int(client.time()[0]) * 1000
