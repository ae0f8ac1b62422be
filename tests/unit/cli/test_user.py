"""`ptt user`: from the command line into a real Git repository."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import argon2
import pytest

from ptt.core.scram import make_verifier
from ptt.core.user import parse_user
from tests.servers.git_repository import git
from tests.unit.cli.conftest import Run
from tests.waiting import wait_until


@pytest.fixture
def site(run: Run, tmp_path: Path) -> Path:
    """Make a folder with an empty users repository, and give that."""
    assert run("init", "--domain", "example.test").exit_code == 0
    return tmp_path / "users.git"


def read_hash(repository: Path, login: str) -> str:
    """Give the password's hash as it stands in the branch."""
    found = re.search(r'password = "(.*)"', git(repository, "show", f"main:users/{login}.toml"))
    assert found
    return found[1]


def add(run: Run, login: str, address: str = "alice@example.test") -> None:
    """Add a user with the password ``secret``."""
    result = run("user", "add", login, "--address", address, "--password-stdin", stdin="secret\n")
    assert result.exit_code == 0, result.stderr


def test_add_commits_a_file_with_an_argon2id_hash(run: Run, site: Path) -> None:
    """One commit; the line end after the password is the shell's."""
    result = run(
        *("user", "add", "alice", "--address", "alice@example.test", "--address", "*@alerts.example.test"),
        "--password-stdin",
        stdin="sécret \n",
    )
    assert (result.exit_code, result.stdout) == (0, "")
    assert git(site, "log", "-1", "--format=%s", "main") == "Add user alice"
    assert 'addresses = ["alice@example.test", "*@alerts.example.test"]' in git(site, "show", "main:users/alice.toml")
    assert argon2.PasswordHasher().verify(read_hash(site, "alice"), "sécret ")


def test_add_generated_password_is_the_only_output(run: Run, site: Path) -> None:
    """Output is data: it can be piped into a password store."""
    result = run("user", "add", "alice", "--address", "alice@example.test", "--generate")
    password = result.stdout.removesuffix("\n")
    assert len(password) == 24
    assert argon2.PasswordHasher().verify(read_hash(site, "alice"), password)


@pytest.mark.parametrize(
    ("arguments", "stdin", "ending"),
    [
        (("alice", "--address", "a@example.test", "--generate"), "", (1, "user alice exists already")),
        (("Alice", "--address", "a@example.test", "--generate"), "", (2, "in case or form only")),
        (("../bob", "--address", "a@example.test", "--generate"), "", (2, "is no file name")),
        (("bob", "--address", "bob", "--generate"), "", (2, "no domain in the address")),
        (("bob", "--generate"), "", (2, "--address")),
        (("bob", "--address", "a@example.test"), "", (2, "--password-stdin")),
        (("bob", "--address", "a@example.test", "--password-stdin"), "\n", (2, "no password")),
        (("bob", "--address", "a@example.test", "--password-stdin"), "x" * 1025, (2, "1 to 1024")),
        (("bob", "--address", "a@example.test", "--password-stdin", "--generate"), "x", (2, "exclude each other")),
    ],
)
def test_add_refused_changes_nothing(
    run: Run, site: Path, arguments: tuple[str, ...], stdin: str, ending: tuple[int, str]
) -> None:
    """Each refusal has its exit code and says why."""
    add(run, "alice")
    before = git(site, "rev-parse", "main")
    result = run("user", "add", *arguments, stdin=stdin)
    assert result.exit_code == ending[0]
    assert ending[1] in result.stderr
    assert git(site, "rev-parse", "main") == before


def test_disable_enable_and_set_password_are_commits(run: Run, site: Path) -> None:
    """Each change is one commit that says what it was."""
    add(run, "alice")
    assert run("user", "disable", "alice").exit_code == 0
    assert json.loads(run("user", "show", "alice", "-o", "json").stdout)["enabled"] is False
    assert run("user", "enable", "alice").exit_code == 0
    assert run("user", "set-password", "alice", "--password-stdin", stdin="other").exit_code == 0
    assert argon2.PasswordHasher().verify(read_hash(site, "alice"), "other")
    subjects = ["Set the password of alice", "Enable user alice", "Disable user alice", "Add user alice", "Start"]
    assert git(site, "log", "--format=%s", "main").splitlines() == subjects


def test_add_and_set_password_write_what_scram_needs(run: Run, site: Path) -> None:
    """Of the same password; one that no SCRAM client can send leaves none."""
    add(run, "alice")
    verifier = parse_user("alice", git(site, "show", "main:users/alice.toml")).scram
    assert verifier is not None
    assert verifier == make_verifier(b"secret", verifier.salt)
    assert run("user", "set-password", "alice", "--password-stdin", stdin="\U0001f511").exit_code == 0
    assert "scram" not in git(site, "show", "main:users/alice.toml")


def test_add_password_prints_it_once_and_remove_password_removes_it(run: Run, site: Path) -> None:
    """One program, one password: what is lost with a printer is taken back alone."""
    add(run, "alice")
    result = run("user", "add-password", "alice", "the printer")
    password = result.stdout.removesuffix("\n")
    assert (result.exit_code, len(password)) == (0, 32)
    (made,) = parse_user("alice", git(site, "show", "main:users/alice.toml")).application_passwords
    assert (made.name, made.is_right(password.encode())) == ("the printer", True)
    assert password not in git(site, "show", "main:users/alice.toml")
    assert json.loads(run("user", "show", "alice", "-o", "json").stdout)["application_passwords"] == ["the printer"]
    assert run("user", "add-password", "alice", "the printer").exit_code == 2
    assert run("user", "remove-password", "alice", "the printer").exit_code == 0
    assert "application_passwords" not in git(site, "show", "main:users/alice.toml")
    missing = run("user", "remove-password", "alice", "the printer")
    assert (missing.exit_code, missing.stderr) == (3, "user alice has no password the printer\n")


@pytest.mark.usefixtures("site")
def test_list_and_show_tell_all_but_the_password(run: Run) -> None:
    """For people and for programs; no hash leaves the repository."""
    add(run, "bob@example.test", "bob@example.test")
    add(run, "alice")
    run("user", "disable", "alice")
    table = run("user", "list").stdout
    assert table.splitlines() == [
        "alice             disabled  alice@example.test",
        "bob@example.test  enabled   bob@example.test",
    ]
    rows = json.loads(run("user", "list", "-o", "json").stdout)
    assert [row["login"] for row in rows] == ["alice", "bob@example.test"]
    shown = run("user", "show", "alice").stdout
    assert shown.splitlines()[:3] == ['login: "alice"', "enabled: false", "addresses: alice@example.test"]
    assert "argon2" not in table + json.dumps(rows) + shown


def test_show_tells_the_limits_that_hold(run: Run, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 in the user's file lifts the default; what is absent there is the default; null is no limit."""
    add(run, "alice")
    work = site.parent / "work"
    git(site.parent, "clone", "--quiet", str(site), str(work))
    with (work / "users/alice.toml").open("a") as file:
        file.write("rate_per_hour = 0\n")
    git(work, "commit", "--quiet", "--all", "-m", "Lift the limit")
    git(work, "push", "--quiet", "origin", "HEAD:main")
    monkeypatch.setenv("PTT_INGRESS__RATE_PER_HOUR", "5")
    monkeypatch.setenv("PTT_INGRESS__RATE_PER_DAY", "50")
    shown = json.loads(run("user", "show", "alice", "-o", "json").stdout)
    assert (shown["rate_per_hour"], shown["rate_per_day"], shown["recipients_per_day"]) == (None, 50, None)


@pytest.mark.usefixtures("site")
def test_list_empty_repository_is_empty(run: Run) -> None:
    """Nobody is a fine answer."""
    result = run("user", "list", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


@pytest.mark.parametrize("command", [("show",), ("disable",), ("enable",), ("set-password", "--generate")])
def test_unknown_user_is_not_found(run: Run, site: Path, command: tuple[str, ...]) -> None:
    """Exit code 3, and no commit."""
    before = git(site, "rev-parse", "main")
    result = run("user", *command, "nobody")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", "there is no user nobody\n")
    assert git(site, "rev-parse", "main") == before


def test_without_repository_is_a_mistake_of_the_settings(run: Run) -> None:
    """Exit code 78, and the way out."""
    result = run("user", "list")
    assert result.exit_code == 78
    assert result.stderr == "ptt.toml: users.repository: missing; `ptt init` makes one\n"


def test_add_on_a_terminal_asks_twice_without_echo(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person types the password two times and does not see it."""
    monkeypatch.chdir(Path(__file__).parents[3])
    terminal, end = pty.openpty()
    argv = [sys.executable, "-m", "ptt", "--config", str(site.parent / "ptt.toml")]
    argv += ["user", "add", "alice", "--address", "alice@example.test"]
    # In a session of its own it cannot find the terminal of who runs the tests.
    process = subprocess.Popen(argv, stdin=end, stdout=end, stderr=end, start_new_session=True)
    os.close(end)
    seen = b""

    def read_until(words: bytes) -> bool:
        nonlocal seen
        try:
            seen += os.read(terminal, 4096)
        except OSError as error:
            raise AssertionError(f"it ended after {seen!r}") from error
        return words in seen

    wait_until(lambda: read_until(b"Password: "), "the first question")
    os.write(terminal, b"sesame\n")
    wait_until(lambda: read_until(b"confirmation: "), "the second question")
    os.write(terminal, b"sesame\n")
    wait_until(lambda: read_until(b"Add user alice"), "the answer")
    assert process.wait(timeout=60) == 0
    os.close(terminal)
    assert b"sesame" not in seen
    assert argon2.PasswordHasher().verify(read_hash(site, "alice"), "sesame")
