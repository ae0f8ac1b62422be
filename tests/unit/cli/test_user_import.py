"""`ptt user import-ptt` and `remove`: from mirage/ptt's repository into ours, and a login with the old password."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from ptt.core.address import Domain
from ptt.core.errors import MalformedInput
from ptt.core.mirage_user import parse_mirage_user
from ptt.core.user import parse_user
from ptt.store.users import GitUsers
from ptt.store.users_transfer import Access
from tests.servers.attempts import FreeAttempt
from tests.servers.git_repository import Desk, git
from tests.unit.cli.conftest import Run


def digest(password: bytes) -> str:
    """Hash as mirage/ptt does (lib/ptt_value.ml: BLAKE2B of digestif, 64 octets, no key)."""
    return hashlib.blake2b(password).hexdigest()


def write_theirs(password: str, **fields: object) -> str:
    """Write a file as its adduser does."""
    return json.dumps({"targets": ["romain@gmail.test"], "password": password, "insecure": False} | fields)


@pytest.fixture
def site(run: Run, tmp_path: Path) -> Path:
    """Make a folder with an empty users repository, and give that."""
    assert run("init", "--domain", "example.test").exit_code == 0
    return tmp_path / "users.git"


@pytest.fixture
def theirs(tmp_path: Path) -> Desk:
    """Give a repository of mirage/ptt with two users and a few things that are none."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    desk = Desk(folder)
    desk.push(
        {
            "romain.calascibetta": write_theirs(digest(b"sesame")),
            "hannes": write_theirs(digest(b"mirage").upper(), targets=[]),
            "README.md": "users",
            "sha1": write_theirs(hashlib.sha1(b"x", usedforsecurity=False).hexdigest()),
            "folder/x": write_theirs(digest(b"x")),
        }
    )
    return desk


async def can_log_in(site: Path, login: str, password: bytes) -> bool:
    """Ask what ingress asks."""
    users = GitUsers(Access(repository=str(site)))
    await users.start(3600)
    try:
        return await users.authenticate(login, password, FreeAttempt(login)) is not None
    finally:
        await users.close()


def test_import_takes_users_over_and_their_passwords_work(run: Run, site: Path, theirs: Desk) -> None:
    """In one commit; no BLAKE2B is stored, and what is not imported is named (exit 4)."""
    result = run("user", "import-ptt", str(theirs.bare), "--domain", "example.test")
    assert result.exit_code == 4
    shown = [line.split() for line in result.stdout.splitlines()]
    assert shown == [[login, f"{login}@example.test"] for login in ("hannes", "romain.calascibetta")]
    assert "'README.md' not taken over: no JSON" in result.stderr
    assert "'sha1' not taken over: password: no BLAKE2B-512 in hexadecimal" in result.stderr
    assert git(site, "log", "-1", "--format=%s", "main") == "Import 2 users of mirage/ptt"
    text = git(site, "show", "main:users/romain.calascibetta.toml")
    assert digest(b"sesame") not in text
    assert "romain@gmail.test" in text
    assert parse_user("romain.calascibetta", text).password_hash.startswith("$argon2id$")
    for login, password, expected in (
        ("romain.calascibetta", b"sesame", True),
        ("romain.calascibetta", b"Sesame", False),
        ("hannes", b"mirage", True),
        ("hannes", digest(b"mirage").encode(), False),
    ):
        assert asyncio.run(can_log_in(site, login, password)) is expected, (login, password)


def test_import_again_leaves_who_is_here(run: Run, site: Path, theirs: Desk) -> None:
    """A password that was changed since must not be taken back; a new password is no longer one of mirage/ptt."""
    run("user", "import-ptt", str(theirs.bare), "--domain", "example.test")
    assert run("user", "set-password", "hannes", "--password-stdin", stdin="fresh\n").exit_code == 0
    before = git(site, "rev-parse", "main")
    result = run("user", "import-ptt", str(theirs.bare), "--domain", "example.test")
    assert "'hannes' not taken over: is here already" in result.stderr
    assert git(site, "rev-parse", "main") == before
    assert "prehash" not in git(site, "show", "main:users/hannes.toml")
    assert asyncio.run(can_log_in(site, "hannes", b"fresh"))


def test_import_dry_run_changes_nothing(run: Run, site: Path, theirs: Desk) -> None:
    """Who would be taken over is told."""
    before = git(site, "rev-parse", "main")
    result = run("user", "import-ptt", str(theirs.bare), "--domain", "example.test", "--dry-run")
    assert "hannes  hannes@example.test" in result.stdout
    assert git(site, "rev-parse", "main") == before


def test_import_without_such_a_repository_fails(run: Run, site: Path, tmp_path: Path) -> None:
    """Exit 78 for a path that is none, as for ours."""
    assert site.exists()
    assert run("user", "import-ptt", str(tmp_path / "nowhere"), "--domain", "example.test").exit_code == 78


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a", "[]"),
        ("a", '{"targets": []}'),
        ("a", json.dumps({"password": "0" * 127})),
        ("a", json.dumps({"password": "g" * 128})),
        ("a", json.dumps({"password": "0" * 128, "targets": "x"})),
        ("a", json.dumps({"password": "0" * 128, "targets": [1]})),
        ("a", json.dumps({"password": "0" * 128, "admin": True})),
        ("a..b", json.dumps({"password": "0" * 128})),
        ("a b", json.dumps({"password": "0" * 128})),
        ("a", "[" * 100_000),
        ("a", "\x00"),
    ],
)
def test_file_that_is_no_user_is_refused(name: str, content: str) -> None:
    """A name that is no local part, and anything that mirage/ptt does not write."""
    with pytest.raises(MalformedInput):
        parse_mirage_user(name, content.encode(), Domain("example.test"))


@pytest.mark.parametrize("is_bare", [True, False])
def test_remove_takes_the_file_out(run: Run, site: Path, tmp_path: Path, *, is_bare: bool) -> None:
    """One commit; in a work tree the file goes too, and the next commit there does not bring it back."""
    if not is_bare:
        git(tmp_path, "clone", "--quiet", "--branch", "main", str(site), str(tmp_path / "work"))
        site = tmp_path / "work"
        config = tmp_path / "ptt.toml"
        config.write_text(f'[users]\nrepository = "{site}"\n')
    for login in ("alice", "bob"):
        assert run("user", "add", login, "--address", "a@example.test", "--generate").exit_code == 0
    assert run("user", "remove", "alice").exit_code == 0
    assert git(site, "ls-tree", "-r", "--name-only", "main", "users").split() == ["users/bob.toml"]
    assert git(site, "log", "-1", "--format=%s", "main") == "Remove user alice"
    assert run("user", "remove", "alice").exit_code == 3
    if not is_bare:
        assert git(site, "status", "--porcelain") == ""
        assert not (site / "users/alice.toml").exists()
