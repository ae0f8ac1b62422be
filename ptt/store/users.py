"""Who may log in, from a Git repository: implements `ptt.core.ports.Users`.

Call sequence: make it, ``await start(poll_s)``, then `authenticate` and `get_user` as often as wanted, ``await
reload()`` on SIGHUP, ``await close()``. What the repository holds is read in one thread, passwords are checked in a
few; the event loop only looks names up.
"""

import asyncio
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ptt import maillog
from ptt.core.errors import Unavailable
from ptt.core.ports import Attempt
from ptt.core.scram import ScramVerifier
from ptt.core.user import User
from ptt.store.decoys import spoil
from ptt.store.users_follow import Follower, Rules
from ptt.store.users_password import MAX_PASSWORD_BYTES, PasswordChecker
from ptt.store.users_repository import open_source
from ptt.store.users_signers import NOBODY, Signers
from ptt.store.users_transfer import TRANSFER_TIMEOUT_S, Access
from ptt.store.users_tree import Snapshot

LOOK_TIMEOUT_S = TRANSFER_TIMEOUT_S + 30  # a look that takes longer is reported and left behind


class GitUsers:
    """The users of the newest good commit of a branch."""

    def __init__(self, access: Access, signers: Signers = NOBODY) -> None:
        """Open the repository; read nothing yet.

        Args:
            access: which one; a clone's folder is needed for one elsewhere.
            signers: who must have signed the newest commit.

        Raises:
            ConfigError: there is no such repository on this host, or URL, clone's folder or signers cannot be used.
        """
        signers.check_setting()
        self._source = open_source(access)
        self._follower = Follower(
            self._source, access.branch, Rules(signers=signers, allows_rewind=access.allows_rewind)
        )
        self._git_thread = ThreadPoolExecutor(1, thread_name_prefix="users")
        self._passwords = PasswordChecker()
        self._snapshot: Snapshot | None = None
        self._looking: asyncio.Future[Snapshot | None] | None = None
        self._polling: asyncio.Task[None] | None = None

    async def start(self, poll_s: float) -> None:
        """Read the users, from the kept clone if there is one, and look for a new commit every ``poll_s`` seconds."""
        loop = asyncio.get_running_loop()
        self._snapshot = await loop.run_in_executor(self._git_thread, self._follower.load_kept, time.monotonic())
        is_kept = self._snapshot is not None
        if not is_kept:
            await self.reload()
        self._polling = asyncio.create_task(self._poll(poll_s, first_wait_s=0 if is_kept else poll_s))

    async def reload(self) -> None:
        """Look for a new commit now; whatever is wrong goes to the log and the last good snapshot serves on."""
        looking = self._looking
        if looking is None or looking.done():
            loop = asyncio.get_running_loop()
            looking = loop.run_in_executor(self._git_thread, self._follower.look, time.monotonic())
            self._looking = looking
        done, _ = await asyncio.wait({looking}, timeout=LOOK_TIMEOUT_S)
        if done:
            self._snapshot = looking.result()
        else:
            self._follower.report_stale(f"no answer within {LOOK_TIMEOUT_S:.0f} s", time.monotonic())

    async def close(self) -> None:
        """Stop polling and checking; what is under way ends on its own."""
        self._source.stop()
        if self._polling is not None:
            self._polling.cancel()
            with suppress(asyncio.CancelledError):
                await self._polling
        self._git_thread.shutdown(wait=False, cancel_futures=True)
        self._passwords.close()

    def get_user(self, login: str) -> User | None:
        """Give the user as of the newest snapshot, or None if gone or disabled."""
        user = self._snapshot and self._snapshot.users.get(login)
        return user if user and user.enabled else None

    def find_certified(self, names: Collection[str]) -> User | None:
        """Give the enabled user whom one of these names of a client certificate belongs to, if it is one alone."""
        certified = self._snapshot.certified if self._snapshot else {}
        logins = {certified[name] for name in names if name in certified}
        return self.get_user(logins.pop()) if len(logins) == 1 else None

    def get_scram(self, login: str, seed: bytes) -> ScramVerifier:
        """Give what SCRAM needs of the user's password, or something like it that no password fits.

        Raises:
            Unavailable: no snapshot was ever read.
        """
        snapshot = self._get_snapshot()
        user = snapshot.users.get(login)
        if user is None or user.scram is None:
            return snapshot.decoys.make_verifier(seed)
        return user.scram if user.enabled else spoil(user.scram, seed)

    async def authenticate(self, login: str, password: bytes, attempt: Attempt) -> User | None:
        """Give the user if login and password are right and the user is enabled, else None, in the same time.

        Raises:
            Unavailable: no snapshot was ever read, or too many passwords are being checked already.
            Refused: the attempt may not be checked.
        """
        snapshot = self._get_snapshot()
        if len(password) > MAX_PASSWORD_BYTES:
            return None
        user = snapshot.users.get(login)
        if user is None or not user.enabled:
            encoded = user.password_hash if user else snapshot.decoys.pick_hash(attempt.seed)
            await self._passwords.check_in_vain(login, password, encoded, attempt)
            return None
        if any(one.is_right(password) for one in user.application_passwords):
            return user
        if not await self._passwords.check(login, user.prepare_password(password), user.password_hash, attempt):
            return None
        # A commit may have come in the meantime.
        current = self.get_user(login)
        return current if current and current.password_hash == user.password_hash else None

    def _get_snapshot(self) -> Snapshot:
        if self._snapshot is None:
            raise Unavailable("the users repository was never read")
        return self._snapshot

    async def _poll(self, poll_s: float, *, first_wait_s: float) -> None:
        await asyncio.sleep(first_wait_s)
        while True:
            try:
                await self.reload()
            except Exception:  # noqa: BLE001 - the top of a task: a fault in one look must not end the looking
                maillog.emit("users.stale", maillog.ERROR, exc_info=True)
            await asyncio.sleep(poll_s)
