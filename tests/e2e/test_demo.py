"""`ptt demo` as a whole: that it holds, and that it says so when something does not."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(400)
GIT = shutil.which("git") or "git is missing: apt-get install git"


def run_demo(path: Path, *arguments: str, temporary: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the demonstration with only this folder on PATH."""
    environment = {**os.environ, "PATH": str(path), "PTT_LOG__LEVEL": "nonsense of another ptt"}
    if temporary:
        environment["TMPDIR"] = str(temporary)
    return subprocess.run(
        [sys.executable, "-m", "ptt", "demo", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def place() -> Iterator[Path]:
    """Give an empty folder with a short path: Valkey's socket will be in it, and tmp_path may be too long for one."""
    with tempfile.TemporaryDirectory(prefix="ptt-") as folder:
        yield Path(folder)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Make a folder of programs with git in it and no Redis, as on a fresh machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").symlink_to(GIT)
    return folder


def test_demo_on_fresh_machine_holds_and_leaves_nothing_running(programs: Path, place: Path) -> None:
    """With git and the packages alone, every step holds; afterwards no port of it is taken."""
    folder = place / "d"
    finished = run_demo(programs, "--keep", "--directory", str(folder))
    output = finished.stdout
    assert (finished.returncode, finished.stderr) == (0, ""), output
    assert re.search(r"^All \d+ checks held", output, re.MULTILINE)
    assert "FAILED" not in output
    assert "\x1b[" not in output, "no colour without a terminal"
    assert len(re.findall(r"250 2\.0\.0 queued as [0-9A-Z]{20}$", output, re.MULTILINE)) == 5
    assert len(re.findall(r"-sha256 s=\S+ pass", output)) == 12
    settings = tomllib.loads((folder / "ptt.toml").read_text())
    ports = [("127.0.0.1", listen["port"]) for listen in settings["ingress"]["listen"]]
    ports += [("127.0.0.2", settings["dns_update"]["port"]), ("127.0.0.3", settings["relay"]["smtp_port"])]
    assert [port for port in ports if _is_taken(*port)] == []
    assert (folder / "users.git").is_dir()


def test_demo_server_that_does_not_start_fails_and_is_cleaned_up(programs: Path, place: Path) -> None:
    """When Valkey ends at once, the demonstration says so, exits with 1 and removes its folder."""
    broken = programs / "redis-server"
    broken.write_text('#!/bin/sh\ntest "$1" = --version && echo "Redis server v=7.2.0" && exit\necho no disk; exit 1\n')
    broken.chmod(0o755)
    finished = run_demo(programs, temporary=place)
    assert finished.returncode == 1
    assert "FAILED up.ready: a process ended before" in finished.stdout
    assert "valkey: no disk" in finished.stdout
    assert list(place.iterdir()) == []


def test_demo_without_git_fails(tmp_path: Path) -> None:
    """What is missing on the machine is named."""
    finished = run_demo(tmp_path, temporary=tmp_path)
    assert finished.returncode == 1
    assert "`git` cannot be started: No such file or directory" in finished.stdout


def test_demo_in_a_folder_with_files_is_refused(programs: Path, tmp_path: Path) -> None:
    """Nothing of the user's is written over."""
    finished = run_demo(programs, "--directory", str(tmp_path))
    assert finished.returncode == 2
    assert "is not empty" in finished.stderr


def _is_taken(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
