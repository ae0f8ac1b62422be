"""Turns into another program that the kernel ends together with its parent: ``python tether.py PARENT_PID PROGRAM …``.

Run as a script of its own, not as a hook between fork and exec, where no Python may run safely beside threads. It
imports nothing of ptt: it starts in 20 ms, and each start of a child of `ptt up` goes through it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Ask for SIGKILL at the parent's death, then become the program; without it, orphans would hold the ports."""
    parent = int(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if os.getppid() != parent:
        sys.exit("the parent ended before its child began")
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
