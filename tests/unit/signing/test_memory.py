"""A process that holds keys leaves no core file, and neither do its children."""

import ctypes
import os
import resource
import signal

from ptt.signing.memory import forbid_dumps

PR_GET_DUMPABLE = 3


def crash_in_a_child_of_a_child() -> int:
    """Forbid dumps in a child, and give 0 if its own child is not dumpable and dumps no core when it is aborted."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    forbid_dumps()
    if pid := os.fork():
        status = os.waitpid(pid, 0)[1]
        os._exit(os.WCOREDUMP(status) or os.WTERMSIG(status) != signal.SIGABRT)
    if ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0:
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGABRT)
    os._exit(0)


def test_process_that_forbids_dumps_leaves_no_core_and_its_children_neither() -> None:
    """The pool of the sign role is forked from the process that says so."""
    assert crash_in_a_child_of_a_child() == 0
