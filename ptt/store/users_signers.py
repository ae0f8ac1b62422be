"""Who may change the users: signatures of commits, checked by ssh-keygen and gpgv against files of this host.

Both tools get nothing but the signature, what was signed, and our file of signers: no configuration of Git, no agent,
no home folder, no environment. The newest commit counts: who signs it vouches for the whole tree (git-commit(1), -S).
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pygit2

from ptt.core.errors import ConfigError, Unavailable
from ptt.store.users_tree import BadTree

NAMESPACE = "git"
"""What a signature was made for (PROTOCOL.sshsig): one for a file or a login is none for a commit."""
TOOL_TIMEOUT_S = 10.0
"""A check takes milliseconds; a tool that hangs must not hold up the polls."""
MAX_SIGNATURE = 65_536  # octets
PATH = "/usr/bin:/bin:/usr/local/bin"
_SSH, _PGP = "-----BEGIN SSH SIGNATURE-----", "-----BEGIN PGP SIGNATURE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """The files that name who may sign; with neither, nobody has to."""

    ssh_file: Path | None = None
    """Allowed signers, as ssh-keygen(1) describes them."""
    gpg_file: Path | None = None
    """OpenPGP keys in binary, as ``gpg --export`` writes them."""

    @property
    def is_asked_for(self) -> bool:
        """Tell whether commits must be signed."""
        return bool(self.ssh_file or self.gpg_file)

    @property
    def version(self) -> tuple[int, ...]:
        """Give what changes with the files: a commit that was refused may be good by then."""
        files = (file for file in (self.ssh_file, self.gpg_file) if file)
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)

    def check_setting(self) -> None:
        """See whether files and tools are there.

        Raises:
            ConfigError: one line for each that is not.
        """
        problems = []
        for key, file, tool in (
            ("signers_file", self.ssh_file, "ssh-keygen"),
            ("gpg_signers_file", self.gpg_file, "gpgv"),
        ):
            if file is None:
                continue
            if shutil.which(tool, path=PATH) is None:
                problems.append(f"users.{key}: needs the program {tool}, which is not installed")
            try:
                file.open("rb").close()
            except OSError as error:
                problems.append(f"{file}: users.{key}: {error.strerror}")
        if problems:
            raise ConfigError(*problems)

    def check(self, commit: pygit2.Commit) -> None:
        """See whether one of the signers has signed the commit.

        Raises:
            BadTree: no.
            Unavailable: it cannot be told.
        """
        if not self.is_asked_for:
            return
        signature, payload = _read_signature(commit)
        with tempfile.TemporaryDirectory(prefix="ptt-signature-") as folder:
            path = Path(folder, "signature")
            path.write_bytes(signature)
            if signature.startswith(_SSH.encode()) and self.ssh_file:
                self._check_ssh(self.ssh_file, path, payload)
            elif signature.startswith(_PGP.encode()) and self.gpg_file:
                keyring = str(self.gpg_file.resolve())
                if _run("gpgv", "--keyring", keyring, "--", str(path), "-", stdin=payload).returncode:
                    raise BadTree("", "the signature is not one of a signer in users.gpg_signers_file")
            else:
                raise BadTree("", "is signed in a way that no setting allows")

    def _check_ssh(self, signers: Path, signature: Path, payload: bytes) -> None:
        files = ("-f", str(signers), "-s", str(signature))
        found = _run("ssh-keygen", "-Y", "find-principals", *files)
        for principal in found.stdout.decode(errors="replace").splitlines():
            verify = ("ssh-keygen", "-Y", "verify", *files, "-I", principal, "-n", NAMESPACE)
            if not _run(*verify, stdin=payload).returncode:
                return
        raise BadTree("", "the signature is not one of a signer in users.signers_file")


NOBODY = Signers()


def sign_commit(content: bytes, key_file: Path) -> str:
    """Sign what a commit says.

    Args:
        content: the commit without a signature.
        key_file: private key of ssh, without a passphrase.

    Raises:
        Unavailable: the key cannot be used.
    """
    made = _run("ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key_file), stdin=content)
    if made.returncode:
        reason = made.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise Unavailable(f"users.signing_key_file: {key_file}: {reason}")
    return made.stdout.decode()


def _read_signature(commit: pygit2.Commit) -> tuple[bytes, bytes]:
    try:
        signature, payload = commit.gpg_signature
    except (KeyError, pygit2.GitError):
        signature, payload = None, None
    if not signature or payload is None:
        raise BadTree("", "is not signed")
    if len(signature) > MAX_SIGNATURE:
        raise BadTree("", f"has a signature of {len(signature)} octets, over {MAX_SIGNATURE}")
    return signature, payload


def _run(*argv: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    # The threat: git verify-commit runs the program that a configuration names; here the programs are named by us.
    environment = {"PATH": PATH, "LC_ALL": "C", "HOME": "/nonexistent"}
    try:
        return subprocess.run(  # noqa: S603 - fixed words and paths of our own
            argv, input=stdin, env=environment, cwd="/", capture_output=True, timeout=TOOL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"users repository: {argv[0]}: {error}") from error
