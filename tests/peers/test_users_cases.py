"""Cases 236 to 247: trees that are hostile or mistaken. The commit is refused whole, and all others go on to log in."""

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ptt.core.user_file import format_user
from ptt.store.users import GitUsers
from ptt.store.users_password import hash_password
from ptt.store.users_transfer import Access
from tests.servers.attempts import FreeAttempt
from tests.servers.git_repository import ENVIRONMENT, Desk, git

HASH = hash_password(b"secret")
ALICE = format_user(HASH, ["alice@example.test"])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give an empty bare repository and somebody who pushes to it."""
    return Desk(tmp_path)


def add(name: str, content: str | bytes) -> Callable[[Desk], str]:
    """Push one more file."""
    return lambda desk: desk.push({f"users/{name}": content})


def add_entries(*entries: tuple[str, str, str]) -> Callable[[Desk], str]:
    """Push a folder with entries (mode, type, name) that the git program would not write; each has Alice's file."""

    def push(desk: Desk) -> str:
        blob = git(desk.work, "rev-parse", "HEAD:users/alice.toml")
        names = {"commit": "1" * 40}
        lines = "".join(f"{mode} {kind} {names.get(kind, blob)}\t{name}\n" for mode, kind, name in entries)
        folder = make_tree(desk, f"100644 blob {blob}\talice.toml\n{lines}")
        tree = make_tree(desk, f"040000 tree {folder}\tusers\n")
        commit = git(desk.work, "commit-tree", tree, "-p", "HEAD", "-m", "odd")
        git(desk.work, "push", "--quiet", "origin", f"{commit}:refs/heads/main")
        return commit

    return push


def make_tree(desk: Desk, lines: str) -> str:
    """Write a tree object as it is told."""
    argv = ["git", "-C", str(desk.work), "mktree", "--missing"]
    result = subprocess.run(argv, input=lines.encode(), env=ENVIRONMENT, capture_output=True, timeout=60, check=True)
    return result.stdout.decode().strip()


def link(desk: Desk) -> str:
    """Push a symbolic link out of the repository."""
    (desk.work / "users/eve.toml").symlink_to("/etc/shadow")
    return desk.push_all()


BAD = {
    "236 hash of another kind": (
        add("eve.toml", ALICE.replace("$argon2id$", "$2b$")),
        "password: not an argon2id hash",
    ),
    "237 hash that takes all memory": (add("eve.toml", ALICE.replace("m=19456", "m=4294967295")), "password: m="),
    "238 empty file": (add("eve.toml", b""), "password: missing"),
    "239 file of 50 MB": (add("eve.toml", b"#" * 50_000_000), "has 50000000 octets"),
    "240 symbolic link to /etc/shadow": (link, "is a symbolic link"),
    "241 name with ..": (add("...toml", ALICE), "is no file name"),
    "242 name that differs in case only": (add("Alice.toml", ALICE), "in case or form only"),
    "244 byte order mark": (add("eve.toml", b"\xef\xbb\xbf" + ALICE.encode()), "Invalid statement"),
    "245 user who is there twice": (add_entries(("100644", "blob", "alice.toml")), "is there twice"),
    "246 address without a domain": (add("eve.toml", format_user(HASH, ["eve"])), "addresses: 'eve'"),
    "246 A-label of a fullwidth letter": (
        add("eve.toml", format_user(HASH, ["*@xn--xample-hy68a.test"])),
        "addresses: 'xn--xample-hy68a.test'",
    ),
    "246 domain that programs map to another": (
        add("eve.toml", format_user(HASH, ["eve@\uff45xample.test"])),
        "domain is not ASCII",
    ),
    "247 submodule": (add_entries(("160000", "commit", "eve.toml")), "is a submodule"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_tree_is_refused_and_the_others_log_in(
    desk: Desk, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """The last good commit serves on, and the log names the commit, the file and why."""
    caplog.set_level(logging.INFO, "ptt")
    push, reason = BAD[case]
    good = desk.push({"users/alice.toml": ALICE})
    users = GitUsers(Access(repository=str(desk.bare)))
    await users.start(3600)
    try:
        bad = push(desk)
        await users.reload()
        assert await users.authenticate("alice", b"secret", FreeAttempt()) is not None
        assert users.get_user("eve") is None
    finally:
        await users.close()
    refusals = [vars(one)["fields"] for one in caplog.records if vars(one).get("event") == "users.refused"]
    assert [(one["commit"], one["serving"]) for one in refusals] == [(bad, good)]
    assert refusals[0]["path"].startswith("users/")
    assert reason in refusals[0]["reason"]


async def test_crlf_line_ends_are_none_of_our_business(desk: Desk) -> None:
    """Case 243: TOML takes CRLF for a line end, so an editor that writes it locks nobody out."""
    desk.push({"users/alice.toml": ALICE.replace("\n", "\r\n")})
    users = GitUsers(Access(repository=str(desk.bare)))
    await users.start(3600)
    try:
        assert await users.authenticate("alice", b"secret", FreeAttempt()) is not None
    finally:
        await users.close()
