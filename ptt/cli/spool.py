"""What commands that look into the spool share: where it is, and who asks."""

import os
import pwd
from pathlib import Path

from ptt import maillog
from ptt.settings import load_settings
from ptt.store.connection import RedisAddress
from ptt.workers.wiring import find_spool


def open_spool(obj: dict[str, Path | None]) -> RedisAddress:
    """Find the spool by the settings; without redis.url that of the `ptt up` that runs on this host.

    Raises:
        ConfigError: the settings are wrong.
        Unavailable: there is no redis.url, and no `ptt up` runs.
    """
    settings = load_settings(obj["config"])
    maillog.configure(settings.log.level)
    return find_spool(settings)


def find_user() -> str:
    """Give the name of the user of the operating system, which cannot be changed by the environment."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
