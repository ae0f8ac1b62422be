"""`ptt up --user-per-role`: each role is a user of its own, and one that was taken over reaches nothing of the others.

The users are numbers without an entry in the system's list, so that nothing is left on the host. Needs root, as the
option itself does.
"""

import contextlib
import json
import os
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.site import DESTINATIONS, MX_ADDRESS, PASSWORD, SENDER, Site
from tests.e2e.test_whole_path import submit, wait_delivered
from tests.servers.bind import running_bind
from tests.servers.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

UIDS = {"ingress": 61_421, "sign": 61_422, "relay": 61_423, "redis": 61_424}
CAP_NET_BIND_SERVICE = 1 << 10

PROBE = """
import ctypes, json, os, sys
def fails(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return error.errno in (1, 13)  # EPERM, EACCES
    return False
def read(path):
    with open(path, "rb") as file:
        file.read(1)
def attach(pid):
    if ctypes.CDLL(None, use_errno=True).ptrace(16, pid, 0, 0):  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")
told = json.load(sys.stdin)
probes = [(read, path) for path in told["files"]] + [(os.listdir, path) for path in told["folders"]]
for pid in told["pids"]:
    probes += [(read, f"/proc/{pid}/{name}") for name in ("environ", "mem", "maps", "auxv")]
    probes += [(os.listdir, f"/proc/{pid}/fd"), (os.readlink, f"/proc/{pid}/exe"), (attach, pid), (os.kill, pid, 0)]
json.dump([f"{probe[0].__name__} {probe[1]}" for probe in probes if not fails(*probe)], sys.stdout)
sys.stderr.write(str(len(probes)))
"""
"""Tries what it is told on stdin, and prints what was not refused for lack of rights."""


@dataclass(frozen=True, slots=True)
class Status:
    """What /proc tells of a process."""

    uids: set[int]
    gids: set[int]
    groups: set[int]
    capabilities: int
    core: str
    no_new_privileges: str


def read_status(pid: int) -> Status:
    """Read it."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)

    def numbers(name: str) -> set[int]:
        return set(map(int, lines[name].split()))

    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core"))
    return Status(
        uids=numbers("Uid"),
        gids=numbers("Gid"),
        groups=numbers("Groups"),
        capabilities=int(lines["CapPrm"], 16) | int(lines["CapEff"], 16),
        core=core.split()[5],
        no_new_privileges=lines["NoNewPrivs"].strip(),
    )


def make_python_reachable(site: Site) -> None:
    """Copy the interpreter if it lives in a folder that is closed to other users, as a home is."""
    python = Path(sys.executable).resolve()
    if all(folder.stat().st_mode & 0o001 for folder in python.parents):
        return
    base = Path(sys.base_prefix)
    copy, version = site.folder / "python", f"python3.{sys.version_info.minor}"
    unused = shutil.ignore_patterns("test", "idlelib", "tkinter", "site-packages", "config-*", "ensurepip", "*.a")
    shutil.copytree(base / f"lib/{version}", copy / f"lib/{version}", ignore=unused)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy(library, copy / "lib")
    (copy / "bin").mkdir()
    site.python = str(shutil.copy2(python, copy / "bin" / version))
    paths = [str(Path.cwd()), *(path for path in sys.path if path.endswith("site-packages"))]
    site.settings |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "LD_LIBRARY_PATH": str(copy / "lib"),
    }


def give(path: Path, owner: str, group: str, mode: int) -> None:
    """Give a file or folder to a role."""
    os.chown(path, UIDS[owner], UIDS[group])
    path.chmod(mode)


def give_files(site: Site) -> None:
    """Do what the README says."""
    site.folder.chmod(0o755)
    give(site.folder / "ingress.key", "ingress", "ingress", 0o600)
    give(site.folder / "seal.key", "ingress", "sign", 0o440)
    give(site.folder / "tsig.key", "sign", "sign", 0o600)
    for folder, owner in ((site.folder / "keys", "sign"), (site.folder / "users.git", "ingress")):
        for path in (folder, *folder.rglob("*")):
            os.chown(path, UIDS[owner], UIDS[owner])
        folder.chmod(0o700)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Give a site that is about to run with four users, ingress on privileged ports."""
    folder = Path(tempfile.mkdtemp(prefix="ptt-roles-"))
    settings = {name: str(free_port(is_low=True)) for name in ("TEST_IMPLICIT", "TEST_STARTTLS")}
    settings |= {f"PTT_UP__{name.upper()}_USER": f"{uid}:{uid}" for name, uid in UIDS.items()}
    with running_bind(("example.test", *DESTINATIONS), records=["@ MX 10 mx", f"mx A {MX_ADDRESS}"]) as bind:
        made = Site(folder, bind, settings, up_options=("--user-per-role",))
        made.sink_port = free_port(MX_ADDRESS)
        try:
            made.prepare()
            made.start_sink()
            make_python_reachable(made)
            yield made
        finally:
            made.close()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def running(site: Site) -> Iterator[Site]:
    """Give the site once it runs."""
    give_files(site)
    site.start()
    yield site
    assert site.stop() == 0


def find_pids(site: Site) -> dict[str, list[int]]:
    """Give the processes of each role, those of its pool included."""
    names = {"ingress": "ptt.workers.ingress", "sign": "-Q sign", "relay": "-Q relay", "redis": "valkey.sock"}
    return {role: site.find_processes(name) for role, name in names.items()}


def probe(site: Site, role: str, told: dict[str, Any]) -> tuple[list[str], int]:
    """Try to reach what others own as the user of a role, with all its groups; give what went through, and how many."""
    ended = subprocess.run(
        [site.python, "-I", "-S", "-c", PROBE],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=True,
        env=site.environment,
        user=UIDS[role],
        group=UIDS[role],
        extra_groups=[UIDS["redis"]],
        timeout=120,
    )
    return json.loads(ended.stdout), int(ended.stderr)


def test_mail_passes_through_four_users(running: Site) -> None:
    """Submitted, signed and delivered, while each process has its user, no group of another, and no right but one."""
    ledger = submit(running, 20, 4)
    assert len(ledger.accepted) == 20
    assert set(wait_delivered(running, ledger, 240).values()) == {1}
    assert all(b"DKIM-Signature:" in content for _, content in running.read_arrived())
    pids = find_pids(running)
    assert {role for role, found in pids.items() if found} == set(UIDS)
    for role, found in pids.items():
        for status in map(read_status, found):
            assert status == Status(
                uids={UIDS[role]},
                gids={UIDS[role]},
                groups=set() if role == "redis" else {UIDS["redis"]},
                capabilities=CAP_NET_BIND_SERVICE if role == "ingress" else 0,
                core="0",
                no_new_privileges="1",
            )


@pytest.mark.parametrize("role", UIDS)
def test_role_that_was_taken_over_reaches_nothing_of_the_others(running: Site, role: str) -> None:
    """Its user reads no secret, no process, no memory and no mail on disk of another, and can trace or end none."""
    folder, pids = running.folder, find_pids(running)
    owners = {
        "ingress": [folder / "ingress.key", folder / "seal.key", folder / "users.git/HEAD"],
        "sign": [folder / "seal.key", folder / "tsig.key", *(folder / "keys").rglob("*.pem")],
        "redis": [path for path in (folder / "valkey").rglob("*") if path.is_file() and path.stat().st_uid],
        "relay": [],
    }
    ours = set(owners[role])
    others = [name for name in UIDS if name != role]
    folders = {"ingress": "users.git", "sign": "keys", "redis": "valkey"}
    told = {
        "files": [str(path) for name in others for path in owners[name] if path not in ours]
        + [str(folder / "valkey/admin.url"), str(folder / "valkey/lock")],
        "folders": [str(folder / folders[name]) for name in others if name in folders],
        "pids": [pid for name in others for pid in pids[name]] + running.list_started(),
    }
    reached, count = probe(running, role, told)
    assert not reached
    assert count > 25
    # The probes can succeed: the user reaches what is its own.
    reached, count = probe(running, role, {"files": list(map(str, ours)), "folders": [], "pids": []})
    assert len(reached) == count == len(ours)


def test_login_of_a_role_has_the_rights_of_that_role_alone(running: Site) -> None:
    """The relay's own login, as its environment has it: no keys are listed, nothing is configured or run."""
    environ = Path(f"/proc/{find_pids(running)['relay'][0]}/environ").read_bytes().split(b"\0")
    url = next(entry.partition(b"=")[2].decode() for entry in environ if entry.startswith(b"PTT_REDIS__URL="))
    commands = ("KEYS *", "SCAN 0", "CONFIG GET *", "ACL LIST", "EVAL return 0", "MONITOR", "FLUSHALL", "GET ptt1:sign")
    with redis.Redis.from_url(url, driver_info=None, retry=None) as client:
        assert client.ping()
        for command in commands:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())
    with (
        redis.Redis.from_url(f"unix://{running.folder}/valkey/valkey.sock", driver_info=None, retry=None) as client,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        client.ping()
    assert running.ptt("queue", "list").returncode == 0


def test_role_is_started_again_and_reloads(running: Site) -> None:
    """A kill brings the same user back, on its privileged port; SIGHUP reaches a process of another user."""
    before, started = find_pids(running)["ingress"], count_events(running, "ingress.started")
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: count_events(running, "ingress.started") > started, "ingress is back")
    (after,) = find_pids(running)["ingress"]
    assert after != before[0]
    assert read_status(after).uids == {UIDS["ingress"]}
    assert running.process is not None
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: running.has_event("certificate.loaded"), "the certificate is read anew")


def test_supervisor_that_is_killed_takes_all_with_it_and_starts_again(running: Site) -> None:
    """The kernel ends the processes of all four users; what they left is taken up by the next start."""
    assert running.process is not None
    queue_id = submit_held(running)
    pids = [pid for found in find_pids(running).values() for pid in found]
    running.process.kill()
    running.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "no process is left")
    (running.folder / "log").unlink()
    running.start()
    assert queue_id in list_queue(running)


def test_redis_that_is_killed_still_has_all_mail(running: Site) -> None:
    """Neither its own crash nor the users in it make Redis forget what was answered with 250."""
    queue_id, (pid,) = submit_held(running), find_pids(running)["redis"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: find_pids(running)["redis"] not in ([], [pid]), "redis is back")
    assert queue_id in list_queue(running)


def submit_held(site: Site) -> str:
    """Submit a message that waits for an hour, and give its queue-id."""
    account = site.account()
    with smtplib.SMTP_SSL(account.address, account.port, context=account.context) as client:
        client.login(account.login, PASSWORD)
        client.mail(SENDER, ["HOLDFOR=3600"])
        client.rcpt("rita@destination.test")
        code, text = client.data(f"From: {SENDER}\r\n\r\nlater\r\n")
    assert code == 250, text
    return text.decode().rpartition(" ")[2]


def list_queue(site: Site) -> set[str]:
    """Give what `ptt queue list` shows; waits for a Redis that reads its file."""
    found: set[str] = set()

    def is_read() -> bool:
        with contextlib.suppress(AssertionError):
            listing = json.loads(site.ptt("queue", "list", "-o", "json").stdout)
            found.update(entry["queue_id"] for entry in listing["entries"])
            return True
        return False

    wait_until(is_read, "the queue is listed")
    return found


def test_command_runs_as_the_owner_of_its_files(running: Site) -> None:
    """As the runbook has it: `ptt user` as the user of ingress, without a home."""
    ended = subprocess.run(
        [running.python, "-m", "ptt", "--config", str(running.folder / "ptt.toml"), "user", "list"],
        capture_output=True,
        text=True,
        check=False,
        env=running.environment | {"HOME": "/"},
        user=UIDS["ingress"],
        group=UIDS["ingress"],
        extra_groups=[],
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert "alice" in ended.stdout


def count_events(site: Site, name: str) -> int:
    """Count what was logged under a name."""
    return [event["event"] for event in site.list_events()].count(name)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there that has not ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
