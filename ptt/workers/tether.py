"""Turns into another program that the kernel ends with its parent: ``tether.py PARENT_PID ACCOUNT PROGRAM …``.

ACCOUNT, as whom the program is to run, is empty or ``uid:gid:group,group:capability``; the last two may be empty.
Run as a script of its own, not as a hook between fork and exec, where no Python may run safely beside threads. It
imports nothing of ptt: it starts in 20 ms, and each start of a child of `ptt up` goes through it.
"""

import ctypes
import os
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION = 0x20080522  # linux/capability.h: the one with two words of each set


def main() -> None:
    """Ask for SIGKILL at the parent's death, then become the program; without it, orphans would hold the ports."""
    parent, account = int(sys.argv[1]), sys.argv[2]
    if account:
        _become(account)
    # After the change of user, which takes the wish back.
    _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent ended before its child began")
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - no shell is the point


def _become(account: str) -> None:
    """Take an account with these groups alone, for good; the threat is whoever takes this role over."""
    uid, gid, groups, capability = account.split(":")
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if capability:
        _call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    if capability:
        _keep(int(capability))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _keep(capability: int) -> None:
    """Drop all capabilities but one, and keep this one through exec (capabilities(7): the ambient set)."""
    low = 1 << capability
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    # Effective, permitted and inheritable, first the low words of all three.
    _call("capset", header, struct.pack("6I", low, low, low, 0, 0, 0))
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


if __name__ == "__main__":
    main()
