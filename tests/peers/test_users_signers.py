"""Commits that must be signed: by the git program, with real keys of ssh and OpenPGP."""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ptt.core.errors import ConfigError
from ptt.core.user_file import format_user
from ptt.store.users import GitUsers
from ptt.store.users_commit import commit_user
from ptt.store.users_signers import Signers
from ptt.store.users_transfer import Access
from tests.servers.git_repository import Desk, git
from tests.servers.sshd import make_key

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$F3uLnUg3ScTYpCUl4HFZHg"
ALICE = format_user(HASH, ["alice@example.test"])


@dataclass
class Office:
    """A repository, two people with keys, and the file that allows the first of them to sign."""

    desk: Desk
    folder: Path

    @property
    def signers(self) -> Signers:
        """Give who may sign."""
        return Signers(ssh_file=self.folder / "allowed")

    @property
    def access(self) -> Access:
        """Say where the repository is."""
        return Access(repository=str(self.desk.bare))

    def allow(self, *names: str, options: str = "") -> None:
        """Write the file of signers."""
        keys = [self.folder.joinpath(f"{name}.pub").read_text().rsplit(" ", 1)[0] for name in names]
        lines = [f"{name}@example.test {options} {key}\n" for name, key in zip(names, keys, strict=True)]
        (self.folder / "allowed").write_text("".join(lines))
        later = (self.folder / "allowed").stat().st_mtime_ns + 1_000_000_000
        os.utime(self.folder / "allowed", ns=(later, later))

    def push(self, login: str, signer: str | None, *options: str) -> str:
        """Add a user and push, signed by somebody or nobody."""
        path = self.desk.work / f"users/{login}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(ALICE)
        git(self.desk.work, "add", "--all")
        how = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={self.folder / signer}") if signer else ()
        git(self.desk.work, *how, "commit", "--quiet", *(("-S",) if signer else ()), "-m", login, *options)
        git(self.desk.work, "push", "--quiet", "--force", "origin", "HEAD:main")
        return git(self.desk.work, "rev-parse", "HEAD")


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Give one where Anna may sign and Eve may not."""
    office = Office(Desk(tmp_path), tmp_path)
    for name in ("anna", "eve"):
        make_key(tmp_path / name)
    office.allow("anna")
    return office


@asynccontextmanager
async def serving(office: Office, signers: Signers | None = None) -> AsyncIterator[GitUsers]:
    """Serve the users."""
    users = GitUsers(office.access, signers or office.signers)
    await users.start(3600)
    try:
        yield users
    finally:
        await users.close()


def list_refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """List why commits were refused."""
    return [vars(one)["fields"]["reason"] for one in caplog.records if vars(one).get("event") == "users.refused"]


async def test_commit_of_a_signer_counts_and_no_other(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """E8: unsigned and signed by another are refused; what a signer puts on top vouches for all below."""
    caplog.set_level(logging.INFO, "ptt")
    office.push("alice", "anna")
    async with serving(office) as users:
        assert users.get_user("alice")
        office.push("bob", None)
        await users.reload()
        await users.reload()
        assert users.get_user("bob") is None
        office.push("carol", "eve")
        await users.reload()
        assert users.get_user("carol") is None
        assert list_refusals(caplog) == ["is not signed", "the signature is not one of a signer in users.signers_file"]
        office.push("dora", "anna")
        await users.reload()
        assert users.get_user("dora")
        assert users.get_user("bob")


async def test_signature_of_another_commit_is_refused(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """A signature that is put onto other content is none."""
    signed = office.push("alice", "anna")
    async with serving(office) as users:
        text = git(office.desk.work, "cat-file", "commit", signed)
        office.push("mallory", None)
        tree = git(office.desk.work, "rev-parse", "HEAD^{tree}")
        forged = text.replace(text.splitlines()[0], f"tree {tree}\nparent {signed}", 1)
        path = office.folder / "forged"
        path.write_text(f"{forged}\n")
        name = git(office.desk.work, "hash-object", "-t", "commit", "-w", str(path))
        git(office.desk.work, "push", "--quiet", "--force", "origin", f"{name}:refs/heads/main")
        await users.reload()
        assert users.get_user("mallory") is None
    assert list_refusals(caplog) == ["the signature is not one of a signer in users.signers_file"]


async def test_signers_file_is_read_at_each_commit(office: Office) -> None:
    """A signer who is taken out signs no more; one who is added makes a refused commit good, without a restart."""
    office.push("alice", "anna")
    async with serving(office) as users:
        office.allow("eve")
        office.push("bob", "anna")
        await users.reload()
        assert users.get_user("bob") is None
        office.allow("eve", "anna")
        await users.reload()
        assert users.get_user("bob")


@pytest.mark.parametrize("options", ['namespaces="file"', 'valid-before="20200101"'])
async def test_key_for_something_else_or_out_of_time_signs_nothing(office: Office, options: str) -> None:
    """The conditions that ssh-keygen knows for signers hold."""
    office.allow("anna", options=options)
    office.push("alice", "anna")
    async with serving(office) as users:
        assert users.get_user("alice") is None


async def test_start_serves_the_newest_commit_of_a_signer(office: Office) -> None:
    """A restart while the newest commit is refused changes nothing for who logs in."""
    office.push("alice", "anna")
    office.push("bob", None)
    async with serving(office) as users:
        assert users.get_user("alice")
        assert users.get_user("bob") is None


async def test_ptt_user_signs_what_it_commits(office: Office) -> None:
    """With users.signing_key_file; without it nothing is committed that every ingress would refuse."""
    access = office.access
    with pytest.raises(ConfigError, match="signing_key_file"):
        commit_user(Access(repository=access.repository, must_sign=True), "alice", lambda _: ALICE, "Add alice")
    signing = Access(repository=access.repository, must_sign=True, signing_key_file=office.folder / "anna")
    commit_user(signing, "alice", lambda _: ALICE, "Add alice")
    commit_user(signing, "bob", lambda _: ALICE, "Add bob")
    how = ("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={office.folder / 'allowed'}")
    git(office.desk.bare, *how, "verify-commit", "main")
    git(office.desk.bare, "fsck", "--strict")
    async with serving(office) as users:
        assert users.get_user("bob")


@pytest.fixture
def gpg_home() -> Iterator[Path]:
    """Give a home for gpg with a key; its agent's socket needs a short path."""
    home = Path(tempfile.mkdtemp(prefix="ptt-gpg-"))
    make = ["gpg", "--batch", "--passphrase", "", "--quick-gen-key", "gina@example.test", "ed25519", "sign", "never"]
    export = ["gpg", "--export", "-o", str(home / "gina.gpg")]
    environment = {**os.environ, "GNUPGHOME": str(home)}
    for argv in (make, export):
        subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=60)
    yield home
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True, timeout=60)
    shutil.rmtree(home)


async def test_openpgp_signatures_do_as_well(office: Office, gpg_home: Path) -> None:
    """Each kind is held against the file for it."""
    office.push("alice", "anna")
    program = office.folder / "gpg"
    program.write_text(f'#!/bin/sh\nGNUPGHOME={gpg_home} exec gpg "$@"\n')
    program.chmod(0o755)
    both = Signers(ssh_file=office.folder / "allowed", gpg_file=gpg_home / "gina.gpg")
    async with serving(office, both) as users, serving(office) as ssh_only:
        assert users.get_user("alice")
        (office.desk.work / "users/bob.toml").write_text(ALICE)
        git(office.desk.work, "add", "--all")
        how = ("-c", f"gpg.program={program}", "-c", "user.signingkey=gina@example.test")
        git(office.desk.work, *how, "commit", "--quiet", "-S", "-m", "bob")
        git(office.desk.work, "push", "--quiet", "origin", "HEAD:main")
        await users.reload()
        await ssh_only.reload()
        assert users.get_user("bob")
        assert ssh_only.get_user("bob") is None


def test_signers_that_are_not_there_are_a_mistake_of_the_settings(office: Office) -> None:
    """Not at the first commit, but at the start."""
    with pytest.raises(ConfigError, match="signers_file"):
        GitUsers(office.access, Signers(ssh_file=office.folder / "nowhere"))
