"""The users of a repository behind a real sshd, whose key is pinned."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pygit2
import pytest

from ptt.core.user_file import format_user
from ptt.store.users import GitUsers
from ptt.store.users_commit import commit_user
from ptt.store.users_transfer import Access
from tests.servers.git_repository import Desk, git
from tests.servers.sshd import SshServer, make_key, running_sshd

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$F3uLnUg3ScTYpCUl4HFZHg"
ALICE = format_user(HASH, ["alice@example.test"])


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """Run one server for all tests here."""
    home = pygit2.settings.homedir or ""
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server
    pygit2.settings.homedir = home


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give a repository with one user."""
    desk = Desk(tmp_path)
    desk.push({"users/alice.toml": ALICE})
    return desk


@pytest.fixture
def access(tmp_path: Path, sshd: SshServer, desk: Desk) -> Access:
    """Say how to get at it."""
    return Access(
        repository=sshd.url(desk.bare),
        clone_dir=tmp_path / "clone",
        ssh_key_file=sshd.user_key,
        known_hosts_file=sshd.known_hosts,
    )


async def serves(access: Access, login: str = "alice") -> bool:
    """Tell whether a user is known after one look."""
    users = GitUsers(access)
    await users.start(3600)
    await users.reload()
    try:
        return users.get_user(login) is not None
    finally:
        await users.close()


async def test_users_come_over_ssh_and_go_back(desk: Desk, access: Access) -> None:
    """Fetched by ingress and pushed to by `ptt user`, with the key and the hosts of the settings alone."""
    assert await serves(access)
    commit = commit_user(access, "bob", lambda _: ALICE, "Add bob")
    assert git(desk.bare, "rev-parse", "main") == commit
    assert await serves(access, "bob")


async def test_host_with_another_key_is_refused(
    tmp_path: Path, access: Access, sshd: SshServer, caplog: pytest.LogCaptureFixture
) -> None:
    """E8: who answers in place of the server is not believed, and a host that is not named at all neither."""
    caplog.set_level(logging.INFO, "ptt")
    stranger = make_key(tmp_path / "stranger").with_suffix(".pub").read_text()
    for number, line in enumerate((f"[127.0.0.1]:{sshd.port} {stranger}", "")):
        known_hosts = tmp_path / f"known_hosts{number}"
        known_hosts.write_text(line)
        folder = tmp_path / f"clone{number}"
        assert not await serves(replace(access, known_hosts_file=known_hosts, clone_dir=folder))
    reasons = [vars(one)["fields"]["reason"] for one in caplog.records if vars(one).get("event") == "users.stale"]
    assert len(reasons) == 2
    assert all("not trusted" in reason for reason in reasons), reasons


async def test_key_that_the_server_does_not_know_is_refused(tmp_path: Path, access: Access) -> None:
    """It is offered once, and the start goes on without users."""
    assert not await serves(replace(access, ssh_key_file=make_key(tmp_path / "unknown")))
