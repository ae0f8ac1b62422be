"""What a process of the relay's pool gives up of the worker that it was forked from, each in a program of its own."""

import os
import subprocess
import sys
from pathlib import Path

WORKER = """
import os, resource, socket, sys
from ptt import maillog
from ptt.workers import relay_process

class App:
    def service(self):
        {service}

maillog.configure("info")
{before}
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if (pid := os.fork()) == 0:
    try:
        relay_process.live(App(), theirs)
    except BaseException:
        os._exit(99)
sys.stdout.write(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
"""


def fork_process(service: str, before: str = "") -> str:
    """Fork a process whose service is built by this line, and give its exit code; 99 if it came back."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    program = WORKER.format(service=service, before=before)
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    return ended.stdout


def test_relay_process_without_a_log_does_not_go_on_as_the_worker() -> None:
    """What it cannot log it cannot log: in the frames of the worker it would stop the other processes."""
    assert fork_process("raise OSError", "sys.stderr = None") == "1"


def test_relay_process_closes_files_above_the_limit() -> None:
    """The limit of open files may be lower than what was opened before it was set."""
    lower = (
        "os.dup2(0, 900); "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (800, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
    )
    assert fork_process("os._exit(42 if os.path.exists('/proc/self/fd/900') else 43)", lower) == "43"
