"""Wake-ups: the Celery messages that the spool pushes itself, in the same step as what they are about.

A wake-up says "there is work", never what the work is: it may be lost or run twice at no cost. The bytes are the
least that a stock Celery 5.7 worker accepts (Celery message protocol 2 in kombu's Redis wrapping); a test runs a
stock worker on them.
"""

import json
import re
from collections.abc import Mapping

from ptt.core.errors import MalformedInput

SIGN_QUEUE = "sign"
RELAY_QUEUE = "relay"
SIGN_TASK = "ptt.sign"
RELAY_TASK = "ptt.relay"

ID_PLACE = "@ID@"
DESTINATION_PLACE = "@DESTINATION@"


def format_wakeup(task: str, queue: str, *arguments: str) -> bytes:
    """Build the wake-up template; the script that pushes it fills in ``@ID@`` and ``@DESTINATION@``."""
    return json.dumps(
        {
            "body": json.dumps([list(arguments), {}, {}]),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": task, "id": ID_PLACE, "lang": "py"},
            "properties": {
                "delivery_tag": ID_PLACE,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "body_encoding": "utf-8",
                "priority": 0,
            },
        },
        separators=(",", ":"),
    ).encode()


MAX_WAKEUP_BYTES = 4096
"""Ours have 350 octets; the threat: whoever can push to a list fills the memory of its workers."""
_TASKS = {SIGN_QUEUE: (SIGN_TASK, 0), RELAY_QUEUE: (RELAY_TASK, 1)}
"""The one task of each queue, and how many arguments it takes."""
_DESTINATION = re.compile(r"[!-~]{1,255}")


def parse_wakeup(data: bytes, queue: str) -> tuple[str, ...]:
    """Read what lies in a list of wake-ups, whoever has pushed it: all that it may say is a destination.

    Returns:
        The arguments of the queue's one task.

    Raises:
        MalformedInput: it is no wake-up of this queue.
    """
    if len(data) > MAX_WAKEUP_BYTES:
        raise MalformedInput(f"{len(data)} octets")
    try:
        wakeup = json.loads(data)
        headers, kind, body = wakeup["headers"], wakeup["content-type"], json.loads(wakeup["body"])
        name, (arguments, *_) = headers["task"], body
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MalformedInput(f"no wake-up: {type(error).__name__}") from error
    task, count = _TASKS[queue]
    if name != task:
        raise MalformedInput(f"task {str(name)[:80]!r}")
    if kind != "application/json":
        raise MalformedInput(f"content type {str(kind)[:80]!r}")
    if not isinstance(arguments, list) or len(arguments) != count:
        raise MalformedInput("other arguments")
    if not all(isinstance(one, str) and _DESTINATION.fullmatch(one) for one in arguments):
        raise MalformedInput("no destination")
    return tuple(arguments)


def build_message(queue: str, arguments: tuple[str, ...], tag: str) -> Mapping[str, object]:
    """Build anew what kombu takes for the message that `parse_wakeup` has read: nothing of the old one is left."""
    wakeup = format_wakeup(_TASKS[queue][0], queue, *arguments).replace(ID_PLACE.encode(), tag.encode())
    message: Mapping[str, object] = json.loads(wakeup)
    return message


SIGN_WAKEUP = format_wakeup(SIGN_TASK, SIGN_QUEUE)
RELAY_WAKEUP = format_wakeup(RELAY_TASK, RELAY_QUEUE, DESTINATION_PLACE)
