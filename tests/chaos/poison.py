"""Mail that kills the worker that touches it, or makes it raise: hooks for the processes of a rig, as in hooks.py.

What a message does is the beginning of the local part of its recipient: ``poison-<role>-<deed>-…``; and it does it as
long as the file exists that ``CHAOS_POISON`` names.
"""

import functools
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.points import find

PREFIX = "poison-"
KINDS = tuple(f"{PREFIX}{role}-{deed}-" for role in ("sign", "relay") for deed in ("kill", "raise"))
PLACES = {"sign": "ptt.tasks.sign:SignService._sign", "relay": "ptt.tasks.relay:attempt"}


def install(role: str, flag: Path) -> None:
    """Wrap the function of a role that every message goes through."""
    if role in PLACES:
        owner, name, function = find(PLACES[role])
        setattr(owner, name, (_wrap_sign if role == "sign" else _wrap_relay)(function, flag))


def _wrap_sign(function: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(service: Any, entry: Any) -> Any:
        _do("sign", flag, [entry.envelope_json.decode()])
        return function(service, entry)

    return wrapped


def _wrap_relay(function: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapped(*arguments: Any) -> Any:
        _do("relay", flag, [str(recipient) for recipient in arguments[-1].recipients])
        return await function(*arguments)

    return wrapped


def _do(role: str, flag: Path, texts: Sequence[str]) -> None:
    if not flag.exists():
        return
    if any(f"{PREFIX}{role}-kill-" in text for text in texts):
        os.kill(os.getpid(), signal.SIGKILL)
    if any(f"{PREFIX}{role}-raise-" in text for text in texts):
        raise RuntimeError("poison")
