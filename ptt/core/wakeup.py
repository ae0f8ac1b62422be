"""Wake-ups: the Celery messages that the spool pushes itself, in the same step as what they are about.

A wake-up says "there is work", never what the work is: it may be lost or run twice at no cost. The bytes are the
least that a stock Celery 5.7 worker accepts (Celery message protocol 2 in kombu's Redis wrapping); a test runs a
stock worker on them.
"""

import json

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


SIGN_WAKEUP = format_wakeup(SIGN_TASK, SIGN_QUEUE)
RELAY_WAKEUP = format_wakeup(RELAY_TASK, RELAY_QUEUE, DESTINATION_PLACE)
