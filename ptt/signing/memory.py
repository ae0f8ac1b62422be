"""Keeps private keys out of core files and away from debuggers of other processes of the same user."""

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4


def forbid_dumps() -> None:
    """Make this process, and those it forks from now on, leave no core file and be traced by root alone.

    The threat: a crash writes the keys to a disk, or another program of our user reads them by ptrace or /proc.

    Raises:
        OSError: the kernel does not do it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
