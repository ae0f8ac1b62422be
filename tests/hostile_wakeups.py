"""What somebody who can push to a list of wake-ups may push there: gadgets, other tasks, broken and huge messages."""

import base64
import json
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from ptt.core.wakeup import RELAY_QUEUE, RELAY_WAKEUP, SIGN_TASK, SIGN_WAKEUP

HUGE_BYTES = 104_857_600
_OTHER_VALUES: tuple[object, ...] = (None, 1, "x", [], {}, [1, 2], {"headers": {}}, {"body": 1})


class _Gadget:
    """Runs a command when it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = (function, arguments)

    @override
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Be unpickled as a call."""
        return self._call


def list_bodies(queue: str, mark: Path) -> Iterator[bytes]:
    """Give messages that all must be refused; what is run of them touches ``mark``."""
    good = json.loads((RELAY_WAKEUP if queue == RELAY_QUEUE else SIGN_WAKEUP).replace(b"@DESTINATION@", b"evil.test"))
    touch = f"touch {mark}"
    gadgets = [
        _Gadget(os.system, touch),
        _Gadget(subprocess.getoutput, touch),
        _Gadget(eval, f"__import__('os').system({touch!r})"),
    ]
    for gadget in gadgets:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            data = pickle.dumps(gadget, protocol)
            yield data
            for kind in ("application/x-python-serialize", "pickle"):
                yield _change(good, base64.b64encode(data).decode(), kind, "base64")
    for text in (f'!!python/object/apply:os.system ["{touch}"]', f'!!python/object/new:os.system ["{touch}"]'):
        yield _change(good, text, "application/x-yaml", "utf-8")
        yield text.encode()
    yield from (
        json.dumps(good | {"headers": good["headers"] | {"task": name}}).encode() for name in _other_tasks(queue)
    )
    yield from (json.dumps(value).encode() for value in _OTHER_VALUES)
    yield from (
        json.dumps({name: good[name] for name in good if name != left_out}).encode() for left_out in ("body", "headers")
    )
    yield from (json.dumps(good | {"body": json.dumps(body)}).encode() for body in _other_arguments(queue))
    yield from (b"", b"\0", b"\xff\xfe", b"{", b"[" * 4000, b'{"a":' * 600, b"null", b"NaN", b'"' + b"x" * 5000 + b'"')
    yield b'{"body":"' + b"x" * HUGE_BYTES + b'"}'


def _change(good: dict[str, object], body: str, kind: str, encoding: str) -> bytes:
    properties = {**dict(good["properties"]), "body_encoding": encoding}  # type: ignore[call-overload]
    return json.dumps(good | {"body": body, "content-type": kind, "properties": properties}).encode()


def _other_tasks(queue: str) -> Iterator[object]:
    yield from (
        "os.system",
        "ptt.workers.sign",
        "celery.backend_cleanup",
        "celery.chain",
        "celery.group",
        "celery.chord",
    )
    yield from ("celery.accumulate", "celery.map", "celery.starmap", "celery.chunks", "", None, 1, ["ptt.sign"], "../x")
    yield SIGN_TASK if queue == RELAY_QUEUE else "ptt.relay"


def _other_arguments(queue: str) -> Iterator[object]:
    yield from (None, 1, [], {}, [[1, 2, 3], {}, {}], [{}, {}, {}], ["x", {}, {}], [[["x"]], {}, {}], [[None], {}, {}])
    yield from (
        [[text], {}, {}] for text in ("", "a b", "a\r\nb", "\x1b[2J", "x" * 256, "é.test") if queue == RELAY_QUEUE
    )
    yield [["a.test"], {}, {}] if queue != RELAY_QUEUE else [[], {}, {}]
