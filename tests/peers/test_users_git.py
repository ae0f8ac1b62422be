"""The users of a repository on this host: real pushes with the git program, real Argon2."""

import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ptt.core.errors import ConfigError, Unavailable
from ptt.core.user_file import format_user
from ptt.store.users import GitUsers
from ptt.store.users_password import MAX_PASSWORD_BYTES, hash_password
from ptt.store.users_transfer import Access
from ptt.store.users_tree import MAX_FILE_BYTES
from tests.servers.attempts import FreeAttempt
from tests.servers.git_repository import Desk, git
from tests.waiting import wait_until_async

HASH = hash_password(b"secret")
ALICE = format_user(HASH, ["alice@example.test"])
NEVER_S = 3600.0


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give an empty bare repository and somebody who pushes to it."""
    return Desk(tmp_path)


@asynccontextmanager
async def serving(desk: Desk, poll_s: float = NEVER_S) -> AsyncIterator[GitUsers]:
    """Serve the users of the bare repository."""
    users = GitUsers(Access(repository=str(desk.bare)))
    await users.start(poll_s)
    try:
        yield users
    finally:
        await users.close()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> "Events":
    """Give the events so far."""
    caplog.set_level(logging.INFO, "ptt")
    return Events(caplog)


class Events:
    """What was logged, by the name of the event."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        """Read from the test's log."""
        self._caplog = caplog

    def list(self, event: str) -> list[dict[str, object]]:
        """List the fields of all such events."""
        return [vars(record)["fields"] for record in self._caplog.records if vars(record).get("event") == event]


async def can_log_in(users: GitUsers, login: str = "alice", password: bytes = b"secret") -> bool:
    """Tell whether the login is let in."""
    return await users.authenticate(login, password, FreeAttempt(login)) is not None


async def test_authenticate_knows_who_and_what(desk: Desk, events: Events) -> None:
    """Right login and password, nothing else; and the loaded commit is in the log."""
    bob = format_user(HASH, ["bob@example.test"]) + "enabled = false\n"
    files = {"users/alice.toml": ALICE, "users/bob.toml": bob, "users/.gitkeep": "", "users/README.md": "", "x": "y"}
    commit = desk.push(files)
    async with serving(desk) as users:
        user = await users.authenticate("alice", b"secret", FreeAttempt())
        assert user is not None
        assert user.login == "alice"
        assert users.get_user("alice") == user
        for login, password in (("alice", b"Secret"), ("nobody", b"secret"), ("../alice", b"secret"), ("", b"")):
            assert not await can_log_in(users, login, password)
        assert not await can_log_in(users, "bob", b"secret"), "disabled"
        assert users.get_user("bob") is None
        assert not await can_log_in(users, "alice", b"x" * (MAX_PASSWORD_BYTES + 1))
    assert events.list("users.loaded") == [{"commit": commit, "count": 2}]
    assert events.list("users.ignored") == []


async def test_folder_among_the_users_is_named_once_for_each_commit(desk: Desk, events: Events) -> None:
    """What is in it is nobody, which whoever put it there should hear of."""
    files = {"users/alice.toml": ALICE, "users/sub/carol.toml": ALICE, "users/team/dave.toml": ALICE}
    commit = desk.push(files)
    async with serving(desk) as users:
        assert users.get_user("alice") is not None
        assert users.get_user("carol") is None
        assert users.get_user("sub/carol") is None
    reason = "users are files, not folders: what is in it counts for nothing"
    expected = {"commit": commit, "path": "users/sub", "count": 2, "reason": reason}
    assert events.list("users.ignored") == [expected]


async def test_push_counts_within_a_poll(desk: Desk) -> None:
    """A pushed commit adds, changes and removes users without a restart."""
    desk.push({"users/alice.toml": ALICE})
    async with serving(desk, poll_s=0.05) as users:
        assert await can_log_in(users)
        desk.push({"users/bob.toml": format_user(HASH, ["bob@example.test"])})
        await wait_until_async(lambda: users.get_user("bob"), "bob is there")
        before = users.get_user("alice")
        desk.push({"users/alice.toml": format_user(hash_password(b"other"), ["alice@example.test"])})
        await wait_until_async(lambda: users.get_user("alice") != before, "alice's password is another")
        assert not await can_log_in(users), "a remembered password must not outlive its change"
        assert await can_log_in(users, "alice", b"other")
        desk.push({"users/bob.toml": None})
        await wait_until_async(lambda: users.get_user("bob") is None, "bob is gone")
        assert not await can_log_in(users, "bob")


async def test_bad_commit_is_refused_whole_and_once(desk: Desk, events: Events) -> None:
    """One bad file: nothing of the commit counts, the log says where, the last good commit serves on."""
    good = desk.push({"users/alice.toml": ALICE})
    async with serving(desk) as users:
        files = {"users/alice.toml": None, "users/bob.toml": ALICE, "users/eve.toml": ALICE + "admin = true\n"}
        bad = desk.push(files)
        for _ in range(3):
            await users.reload()
        assert await can_log_in(users)
        assert users.get_user("bob") is None
        reason = "admin: unknown key"
        refusal = {"commit": bad, "path": "users/eve.toml", "line": 3, "reason": reason, "serving": good}
        assert events.list("users.refused") == [refusal]
        mended = desk.push({"users/eve.toml": None})
        await users.reload()
        assert users.get_user("alice") is None
        assert await can_log_in(users, "bob")
        assert events.list("users.loaded")[-1] == {"commit": mended, "count": 1}


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("eve.toml", b"password = \n", ("users/eve.toml", 1)),
        ("eve.toml", b"", ("users/eve.toml", None)),
        ("eve.toml", b"# \n# \xff\n", ("users/eve.toml", 2)),
        ("eve.toml", ALICE.encode() + b"#" * MAX_FILE_BYTES, ("users/eve.toml", None)),
        ("eve.toml", ALICE.replace("m=19456", "m=4294967295").encode(), ("users/eve.toml", 1)),
        ("eve.toml", b"addresses = " + b"[" * 9_000, ("users/eve.toml", None)),
        ("Alice.toml", ALICE.encode(), ("users/Alice.toml", None)),
        ("a..b.toml", ALICE.encode(), ("users/a..b.toml", None)),
        (".toml", ALICE.encode(), ("users/.toml", None)),
        ("a\nb.toml", ALICE.encode(), ("users/a\nb.toml", None)),
        ("sub.toml/x", b"", ("users/sub.toml", None)),
    ],
)
async def test_bad_file_is_named(
    desk: Desk, events: Events, name: str, content: bytes, place: tuple[str, int | None]
) -> None:
    """Whatever is wrong with a file, the commit is refused and the file is in the log."""
    desk.push({"users/alice.toml": ALICE})
    async with serving(desk) as users:
        target = desk.work / "users" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
        desk.push_all()
        await users.reload()
        assert await can_log_in(users)
    (refusal,) = events.list("users.refused")
    assert (refusal["path"], refusal.get("line")) == place


async def test_symbolic_link_submodule_and_program_are_refused(desk: Desk, events: Events) -> None:
    """Nothing in the tree leads out of it or can be run."""
    desk.push({"users/alice.toml": ALICE})
    async with serving(desk) as users:
        link = desk.work / "users/link.toml"
        link.symlink_to("/etc/passwd")
        desk.push_all()
        await users.reload()
        link.unlink()
        git(desk.work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},users/module.toml")
        git(desk.work, "rm", "--quiet", "--cached", "users/link.toml")
        git(desk.work, "commit", "--quiet", "-m", "module")
        git(desk.work, "push", "--quiet", "origin", "HEAD:main")
        await users.reload()
        git(desk.work, "rm", "--quiet", "--cached", "users/module.toml")
        (desk.work / "users/alice.toml").chmod(0o755)
        desk.push_all()
        await users.reload()
        assert await can_log_in(users)
    reasons = [(refusal["path"], refusal["reason"]) for refusal in events.list("users.refused")]
    assert reasons == [
        ("users/link.toml", "is a symbolic link, must be a plain file"),
        ("users/module.toml", "is a submodule, must be a plain file"),
        ("users/alice.toml", "is executable, must be a plain file"),
    ]


async def test_users_that_is_a_file_is_refused(desk: Desk, events: Events) -> None:
    """``users`` is a folder or nothing."""
    desk.push({"users": "x"})
    async with serving(desk) as users:
        with pytest.raises(Unavailable):
            await users.authenticate("alice", b"secret", FreeAttempt())
    assert events.list("users.refused")[0]["reason"] == "is no folder"


async def test_start_with_bad_tip_serves_the_newest_good_commit(desk: Desk, events: Events) -> None:
    """A restart while the tip is bad changes nothing for who logs in."""
    desk.push({"users/alice.toml": ALICE})
    good = desk.push({"users/bob.toml": ALICE})
    desk.push({"users/eve.toml": "x"})
    bad = desk.push({"users/eve.toml": "y"})
    async with serving(desk) as users:
        await users.reload()
        assert await can_log_in(users, "bob")
    assert [refusal["commit"] for refusal in events.list("users.refused")] == [bad]
    assert events.list("users.loaded") == [{"commit": good, "count": 2}]


async def test_start_without_branch_serves_nobody_until_the_first_push(desk: Desk, events: Events) -> None:
    """An empty repository is a start, not a fault: logins are refused, and the log says why."""
    async with serving(desk) as users:
        assert not await can_log_in(users)
        (refusal,) = events.list("users.refused")
        assert refusal["reason"] == "the repository has no branch main yet: nobody can log in"
        desk.push({"users/alice.toml": ALICE})
        await users.reload()
        assert await can_log_in(users)


async def test_branch_removed_last_good_commit_serves(desk: Desk, events: Events) -> None:
    """A branch deleted by mistake locks nobody out."""
    desk.push({"users/alice.toml": ALICE})
    async with serving(desk) as users:
        git(desk.bare, "update-ref", "-d", "refs/heads/main")
        for _ in range(2):
            await users.reload()
        assert await can_log_in(users)
    assert len(events.list("users.refused")) == 1


async def test_repository_removed_last_good_commit_serves(desk: Desk, events: Events) -> None:
    """A disk that is away locks nobody out; the log says so once and not at each poll."""
    commit = desk.push({"users/alice.toml": ALICE})
    async with serving(desk) as users:
        shutil.rmtree(desk.bare)
        for _ in range(3):
            await users.reload()
        assert await can_log_in(users)
    (stale,) = events.list("users.stale")
    assert stale["commit"] == commit
    assert stale["age_s"] is not None


async def test_damaged_commit_last_good_commit_serves(desk: Desk, events: Events) -> None:
    """Objects that cannot be read are a fault of the repository, not a change."""
    desk.push({"users/alice.toml": ALICE})
    async with serving(desk) as users:
        commit = desk.push({"users/bob.toml": ALICE + "# other\n"})
        blob = git(desk.work, "rev-parse", f"{commit}:users/bob.toml")
        (desk.bare / "objects" / blob[:2] / blob[2:]).unlink()
        await users.reload()
        assert await can_log_in(users)
    assert "damaged" in str(events.list("users.stale")[0]["reason"])


@pytest.mark.parametrize("is_allowed", [False, True])
async def test_branch_moved_back_is_refused_unless_allowed(desk: Desk, events: Events, *, is_allowed: bool) -> None:
    """E8: a push by force must not bring back a user who was removed; `users.allow_rewind` is for who means it."""
    desk.push({"users/alice.toml": ALICE})
    good = desk.push({"users/bob.toml": ALICE})
    users = GitUsers(Access(repository=str(desk.bare), allows_rewind=is_allowed))
    await users.start(NEVER_S)
    try:
        git(desk.bare, "update-ref", "refs/heads/main", "main~1")
        for _ in range(2):
            await users.reload()
        assert (users.get_user("bob") is None) is is_allowed
    finally:
        await users.close()
    refused = [refusal["serving"] for refusal in events.list("users.refused")]
    assert refused == ([] if is_allowed else [good])


async def test_work_tree_of_a_person_does_as_well(desk: Desk) -> None:
    """The repository need not be a bare one; what is not committed does not count."""
    desk.push({"users/alice.toml": ALICE})
    (desk.work / "users/bob.toml").write_text(ALICE)
    users = GitUsers(Access(repository=str(desk.work)))
    await users.start(NEVER_S)
    try:
        assert await can_log_in(users)
        assert users.get_user("bob") is None
    finally:
        await users.close()


@pytest.mark.parametrize("repository", ["nowhere", ".", "http://git.test/users.git", "git://git.test/users.git"])
def test_repository_that_cannot_be_is_refused_at_start(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path without a repository, and a protocol that proves nothing, are mistakes of the settings."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        GitUsers(Access(repository=repository, clone_dir=tmp_path / "clone"))


def test_folder_inside_a_repository_is_not_that_repository(desk: Desk) -> None:
    """A wrong path must not fall back to whatever repository stands above it."""
    folder = desk.work / "users"
    folder.mkdir()
    with pytest.raises(ConfigError):
        GitUsers(Access(repository=str(folder)))
