"""The users of a repository elsewhere: fetched over HTTPS from a real `git http-backend`, pushed to by the CLI."""

import asyncio
import fcntl
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pygit2
import pytest
import trustme

from ptt.core.errors import ConfigError, Unavailable
from ptt.core.user_file import format_user
from ptt.store.users import GitUsers
from ptt.store.users_commit import commit_user, read_users
from ptt.store.users_transfer import Access, Callbacks
from tests.servers.attempts import FreeAttempt
from tests.servers.git_repository import Desk, GitServer, git, running_git_server
from tests.waiting import wait_until_async

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$F3uLnUg3ScTYpCUl4HFZHg"
ALICE = format_user(HASH, ["alice@example.test"])
TOKEN = "token"
NEVER_S = 3600.0


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    """Make an authority that libgit2 trusts in this process from now on."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    pygit2.settings.ssl_cert_file = str(path)
    return authority


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give an empty bare repository and somebody who pushes to it."""
    return Desk(tmp_path)


@pytest.fixture
def server(tmp_path: Path, authority: trustme.CA) -> Iterator[GitServer]:
    """Serve the folder of the bare repository."""
    with running_git_server(tmp_path, authority, TOKEN) as running:
        yield running


@pytest.fixture
def access(tmp_path: Path, server: GitServer) -> Access:
    """Say how to get at the repository."""
    password_file = tmp_path / "token"
    password_file.write_text(f"{TOKEN}\n")
    repository = f"{server.url}/users.git"
    return Access(repository=repository, clone_dir=tmp_path / "clone", password_file=password_file)


@asynccontextmanager
async def serving(access: Access, poll_s: float = NEVER_S) -> AsyncIterator[GitUsers]:
    """Serve the users."""
    users = GitUsers(access)
    await users.start(poll_s)
    try:
        yield users
    finally:
        await users.close()


def list_events(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    """List the fields of all such events."""
    return [vars(record)["fields"] for record in caplog.records if vars(record).get("event") == event]


async def test_push_counts_within_a_poll(desk: Desk, access: Access) -> None:
    """A commit pushed elsewhere counts here soon after."""
    desk.push({"users/alice.toml": ALICE})
    async with serving(access, poll_s=0.05) as users:
        assert users.get_user("alice")
        desk.push({"users/bob.toml": ALICE})
        await wait_until_async(lambda: users.get_user("bob"), "bob is there")


async def test_empty_repository_serves_nobody_until_the_first_push(desk: Desk, access: Access) -> None:
    """A new repository is a start, not a fault."""
    async with serving(access) as users:
        assert await users.authenticate("alice", b"secret", FreeAttempt()) is None
        desk.push({"users/alice.toml": ALICE})
        await users.reload()
        assert users.get_user("alice")


async def test_server_away_last_good_commit_serves_also_after_a_restart(
    desk: Desk, access: Access, server: GitServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Who could log in can log in while the server is away; a commit that was refused is not kept for the restart."""
    caplog.set_level(logging.INFO, "ptt")
    good = desk.push({"users/alice.toml": ALICE})
    async with serving(access) as users:
        desk.push({"users/alice.toml": "x"})
        await users.reload()
        server.stop()
        for _ in range(3):
            await users.reload()
        assert users.get_user("alice")
    (stale,) = list_events(caplog, "users.stale")
    assert stale["commit"] == good
    caplog.clear()
    async with serving(access) as users:
        assert users.get_user("alice")
        await wait_until_async(lambda: list_events(caplog, "users.stale"), "the server was asked again")
    assert list_events(caplog, "users.loaded") == [{"commit": good, "count": 1}]


async def test_server_never_reached_is_temporary(access: Access, server: GitServer) -> None:
    """Without any snapshot nobody is refused for good: clients hear 454 and come back."""
    server.stop()
    async with serving(access) as users:
        with pytest.raises(Unavailable):
            await users.authenticate("alice", b"secret", FreeAttempt())
        assert users.get_user("alice") is None


async def test_branch_moved_back_is_refused(desk: Desk, access: Access, caplog: pytest.LogCaptureFixture) -> None:
    """Who takes over the server cannot bring back a user who was removed."""
    desk.push({"users/alice.toml": ALICE, "users/mallory.toml": ALICE})
    good = desk.push({"users/mallory.toml": None})
    async with serving(access) as users:
        git(desk.work, "push", "--quiet", "--force", "origin", "HEAD~1:main")
        for _ in range(2):
            await users.reload()
        assert users.get_user("mallory") is None
        (refusal,) = list_events(caplog, "users.refused")
        assert refusal["serving"] == good
        git(desk.bare, "update-ref", "-d", "refs/heads/main")
        await users.reload()
        assert users.get_user("alice")
        desk.push({"users/bob.toml": ALICE})
        await users.reload()
        assert users.get_user("bob")
    assert len(list_events(caplog, "users.refused")) == 2


async def test_certificate_of_a_stranger_is_not_trusted(
    desk: Desk, tmp_path: Path, access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that cannot prove who it is gets no password and is not believed."""
    desk.push({"users/alice.toml": ALICE})
    with running_git_server(tmp_path, trustme.CA(), TOKEN) as stranger:
        repository = f"{stranger.url}/users.git"
        cheated = Access(repository=repository, clone_dir=tmp_path / "other", password_file=access.password_file)
        async with serving(cheated) as users:
            with pytest.raises(Unavailable):
                await users.authenticate("alice", b"secret", FreeAttempt())
        assert stranger.requests == 0
    assert "not trusted" in str(list_events(caplog, "users.stale")[0]["reason"])


def test_host_key_that_is_unknown_is_not_trusted() -> None:
    """The same for ssh: pygit2's own answer would let any host pass."""
    callbacks = Callbacks(Access(repository="ssh://git@git.test/users.git"))
    with pytest.raises(Unavailable):
        callbacks.certificate_check(None, valid=False, host=b"git.test")


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_wrong_password_ends_in_time(
    access: Access, server: GitServer, password: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Credentials are offered once and not for ever."""
    assert access.password_file is not None
    if password:
        access.password_file.write_text(password)
    file = access.password_file if password else None
    async with serving(Access(repository=access.repository, clone_dir=access.clone_dir, password_file=file)):
        assert len(list_events(caplog, "users.stale")) == 1
    assert server.requests <= 3


async def test_two_processes_share_a_clone(desk: Desk, access: Access) -> None:
    """While another process fetches, what it has found good serves here."""
    desk.push({"users/alice.toml": ALICE})
    assert access.clone_dir is not None
    async with serving(access) as users:
        desk.push({"users/bob.toml": ALICE})
        with (access.clone_dir / "ptt.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            await users.reload()
            assert users.get_user("bob") is None
            async with serving(access) as other:
                assert other.get_user("alice")
        await users.reload()
        assert users.get_user("bob")


async def test_first_fetch_of_another_process_is_waited_for(access: Access) -> None:
    """A clone that is still empty is no empty repository."""
    assert access.clone_dir is not None
    GitUsers(access)
    with (access.clone_dir / "ptt.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with serving(access) as users:
            with pytest.raises(Unavailable):
                await users.authenticate("alice", b"secret", FreeAttempt())


def test_clone_of_another_repository_is_refused(access: Access) -> None:
    """The users of a repository that was left must not come back from its clone."""
    GitUsers(access)
    with pytest.raises(ConfigError, match="is the clone of"):
        GitUsers(Access(repository="https://git@other.test/users.git", clone_dir=access.clone_dir))


async def test_commit_user_is_pushed(desk: Desk, access: Access) -> None:
    """`ptt user` works on a repository elsewhere as on one of this host."""
    desk.push({"users/alice.toml": ALICE, "README.md": "hello"})
    commit = await asyncio.to_thread(commit_user, access, "bob", lambda text: f"{text or ''}{ALICE}", "Add bob")
    assert git(desk.bare, "log", "-1", "--format=%H %s", "main") == f"{commit} Add bob"
    assert git(desk.bare, "ls-tree", "-r", "--name-only", "main").split() == [
        "README.md",
        "users/alice.toml",
        "users/bob.toml",
    ]
    assert set((await asyncio.to_thread(read_users, access)).users) == {"alice", "bob"}


async def test_commit_user_after_somebody_else_pushed_is_tried_again(desk: Desk, access: Access) -> None:
    """A push in between is built upon, not overwritten."""
    desk.push({"users/alice.toml": ALICE})
    calls: list[int] = []

    def edit(_text: str | None) -> str:
        if not calls:
            desk.push({"users/carol.toml": ALICE})
        calls.append(1)
        return ALICE

    await asyncio.to_thread(commit_user, access, "bob", edit, "Add bob")
    assert len(calls) == 2
    assert set((await asyncio.to_thread(read_users, access)).users) == {"alice", "bob", "carol"}


async def test_commit_user_refused_by_the_server_says_why(desk: Desk, access: Access) -> None:
    """A hook that says no is not a race."""
    desk.push({"users/alice.toml": ALICE})
    hook = desk.bare / "hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Unavailable, match="refused the push"):
        await asyncio.to_thread(commit_user, access, "bob", lambda _: ALICE, "Add bob")
