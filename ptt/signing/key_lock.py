"""One at a time changes the keys of a domain: commands of a person and the timers of all sign workers.

The lock is a file in the folder of the domain, so it reaches exactly as far as the keys do: all processes that share
the folder, also over NFS. The kernel lets go of it when its holder dies; there is no deadline to renew or to outlive.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptt.core.errors import ConfigError, Unavailable
from ptt.signing.key_files import give_to_owner

LOCK_NAME = ".lock"


@contextmanager
def locking(folder: Path) -> Iterator[int]:
    """Hold the lock of a folder; gives the descriptor of its file.

    Raises:
        Unavailable: somebody else holds it now.
        ConfigError: the folder cannot be written to.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"signing.keys_dir: {folder}: {error.strerror}: keys cannot be changed here") from error
    try:
        give_to_owner(descriptor, folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(f"{folder}: another process is changing these keys: try again later") from error
        try:
            yield descriptor
        finally:
            # Said aloud: a child that was forked meanwhile holds the descriptor, too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
