"""Changes of a users repository on this host, looked at with the git program."""

import threading
from pathlib import Path

import pytest

from ptt.core.errors import ConfigError, MalformedInput
from ptt.core.user_file import format_user
from ptt.store.users_commit import commit_user, create_repository, read_users
from ptt.store.users_transfer import Access
from tests.servers.git_repository import Desk, git

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$F3uLnUg3ScTYpCUl4HFZHg"
ALICE = format_user(HASH, ["alice@example.test"])


def test_create_repository_is_bare_with_a_first_commit(tmp_path: Path) -> None:
    """The git program finds a sound repository."""
    commit = create_repository(tmp_path / "users.git", "main")
    assert git(tmp_path / "users.git", "rev-parse", "--is-bare-repository") == "true"
    assert git(tmp_path / "users.git", "rev-parse", "HEAD", "main").split() == [commit, commit]
    git(tmp_path / "users.git", "fsck", "--strict")


def test_commit_user_adds_one_file_and_leaves_the_others(tmp_path: Path) -> None:
    """Each change is one commit on the branch with the message given."""
    desk = Desk(tmp_path)
    desk.push({"README.md": "hello", "users/.gitkeep": "", "other/x": "y"})
    access = Access(repository=str(desk.bare))
    commit = commit_user(access, "app@example.test", lambda text: ALICE if text is None else "", "Add app")
    assert git(desk.bare, "log", "-1", "--format=%H %s", "main") == f"{commit} Add app"
    assert git(desk.bare, "diff", "--name-status", "main~1", "main") == "A\tusers/app@example.test.toml"
    assert git(desk.bare, "show", "main:users/app@example.test.toml") == ALICE.strip()
    git(desk.bare, "fsck", "--strict")


def test_commit_user_in_empty_repository_starts_the_branch(tmp_path: Path) -> None:
    """A repository from `git init --bare` is enough."""
    desk = Desk(tmp_path)
    commit_user(Access(repository=str(desk.bare)), "alice", lambda _: ALICE, "Add alice")
    assert git(desk.bare, "rev-list", "--count", "main") == "1"


def test_commit_user_at_the_same_time_loses_none(tmp_path: Path) -> None:
    """The branch moves only from where it was looked at."""
    desk = Desk(tmp_path)
    access = Access(repository=str(desk.bare))
    barrier = threading.Barrier(3)

    def add(name: str) -> None:
        barrier.wait()
        for number in range(4):
            commit_user(access, f"{name}{number}", lambda _: ALICE, "Add")

    threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_users(access).users) == 12
    assert git(desk.bare, "rev-list", "--count", "main") == "12"


def test_commit_user_that_would_be_refused_changes_nothing(tmp_path: Path) -> None:
    """What no ingress would serve is not committed."""
    desk = Desk(tmp_path)
    before = desk.push({"users/alice.toml": ALICE})
    access = Access(repository=str(desk.bare))
    for login, text in (("Alice", ALICE), ("bob", "x")):
        with pytest.raises(MalformedInput):
            commit_user(access, login, lambda _, text=text: text, "Add")  # type: ignore[misc]  # the loop's value
    assert git(desk.bare, "rev-parse", "main") == before


def test_commit_user_in_work_tree_updates_the_one_file(tmp_path: Path) -> None:
    """The next commit of the person who works there does not take the change back; a login is no pattern."""
    desk = Desk(tmp_path)
    desk.push({"users/alice.toml": ALICE})
    (desk.work / "users/alice.toml").write_text("in the making")
    access = Access(repository=str(desk.work))
    commit_user(access, "*", lambda _: ALICE, "Add")
    assert (desk.work / "users/*.toml").read_text() == ALICE
    commit_user(access, "*", lambda text: f"{text}enabled = false\n", "Disable")
    assert (desk.work / "users/*.toml").read_text().endswith("enabled = false\n")
    assert (desk.work / "users/alice.toml").read_text() == "in the making"
    assert git(desk.work, "status", "--porcelain").split() == ["M", "users/alice.toml"]


def test_commit_user_over_uncommitted_changes_is_refused(tmp_path: Path) -> None:
    """What a person has not committed yet is not overwritten."""
    desk = Desk(tmp_path)
    before = desk.push({"users/alice.toml": ALICE})
    (desk.work / "users/alice.toml").write_text("in the making")
    with pytest.raises(MalformedInput, match="nobody committed"):
        commit_user(Access(repository=str(desk.work)), "alice", lambda _: ALICE + "\n", "Change")
    assert (desk.work / "users/alice.toml").read_text() == "in the making"
    assert git(desk.work, "rev-parse", "main") == before


def test_commit_user_on_another_branch_leaves_the_work_tree_alone(tmp_path: Path) -> None:
    """Only the branch that is checked out has files."""
    desk = Desk(tmp_path)
    desk.push({"users/alice.toml": ALICE})
    commit_user(Access(repository=str(desk.work), branch="live"), "bob", lambda _: ALICE, "Add")
    assert not (desk.work / "users/bob.toml").exists()
    assert git(desk.work, "status", "--porcelain") == ""
    assert git(desk.work, "ls-tree", "-r", "--name-only", "live") == "users/bob.toml"


def test_read_users_without_repository_is_a_mistake_of_the_settings(tmp_path: Path) -> None:
    """Exit 78, not a traceback."""
    with pytest.raises(ConfigError):
        read_users(Access(repository=str(tmp_path / "nowhere")))
