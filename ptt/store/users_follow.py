"""Which snapshot of the users serves: the newest commit that is good, whatever happens to the repository.

All methods block and belong to one thread; the snapshots they give do not change and may go to any.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import pygit2

from ptt import maillog
from ptt.core.errors import MalformedInput, Unavailable
from ptt.store.users_repository import Source
from ptt.store.users_signers import NOBODY, Signers
from ptt.store.users_transfer import GIT_ERRORS
from ptt.store.users_tree import BadTree, Snapshot, read_snapshot

MAX_STEPS_BACK = 100  # commits tried at the start; more bad ones in a row must not hold the start up
REPEAT_STALE_S = 60.0  # one line a minute says that the repository cannot be read, not one a poll
_EMPTY = Snapshot("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a commit must be to be served, beside readable."""

    signers: Signers
    allows_rewind: bool = False
    """Whether it need not come after the one that serves."""


NO_RULES = Rules(signers=NOBODY)


class Follower:
    """Follows one branch."""

    def __init__(self, source: Source, branch: str, rules: Rules = NO_RULES) -> None:
        """Read nothing yet."""
        self._source = source
        self._branch = branch
        self._rules = rules
        self._serving: Snapshot | None = None
        self._refused: object = None
        self._complaint = ""
        self._looked_at: float | None = None
        self._stale_reported_at: float | None = None

    def load_kept(self, now_s: float) -> Snapshot | None:
        """Serve what was good last, if that is known without asking anybody."""
        return self._attempt(self._load_kept, now_s)

    def look(self, now_s: float) -> Snapshot | None:
        """Look for a new commit and give the snapshot that serves from now on; None if there never was one."""
        return self._attempt(lambda: self._look(now_s), now_s)

    def report_stale(self, reason: str, now_s: float) -> None:
        """Say that the repository cannot be read, and for how long already."""
        if self._stale_reported_at is not None and now_s < self._stale_reported_at + REPEAT_STALE_S:
            return
        self._stale_reported_at = now_s
        maillog.emit(
            "users.stale",
            maillog.WARNING,
            reason=reason,
            commit=self._serving and self._serving.commit,
            age_s=self._looked_at and round(now_s - self._looked_at, 1),
        )

    def _attempt(self, step: Callable[[], None], now_s: float) -> Snapshot | None:
        try:
            step()
        except Unavailable as error:
            self.report_stale(str(error), now_s)
        except MalformedInput as error:
            self._complain(str(error))
        except GIT_ERRORS as error:
            self.report_stale(f"users repository: damaged: {error}", now_s)
        return self._serving

    def _load_kept(self) -> None:
        repository = self._source.open()
        if kept := self._source.find_kept(repository):
            self._serve(repository, kept)

    def _look(self, now_s: float) -> None:
        repository = self._source.open()
        tip = self._source.find_tip(repository)
        self._looked_at, self._stale_reported_at = now_s, None
        if tip is None:
            self._follow_nothing()
        elif str(tip.id) != (self._serving and self._serving.commit) and self._name(tip) != self._refused:
            self._check_forward(repository, tip)
            self._follow(repository, tip)

    def _name(self, commit: pygit2.Commit) -> object:
        """Give what a refusal holds for: with other signers the same commit may be good."""
        return str(commit.id), self._rules.signers.version

    def _check_forward(self, repository: pygit2.Repository, tip: pygit2.Commit) -> None:
        serving = self._serving.commit if self._serving else ""
        if not serving or self._rules.allows_rewind or serving not in repository:
            return
        # The threat: an older commit, in which a removed user was still there, is pushed again.
        if not repository.descendant_of(tip.id, serving):
            raise MalformedInput(
                f"branch {self._branch} is {tip.id}, which does not come after {serving}, the last good commit;"
                " if this is meant, restart the ingress, or set users.allow_rewind"
            )

    def _follow(self, repository: pygit2.Repository, tip: pygit2.Commit) -> None:
        # At the start the last good commit is not known: it is the newest good one before the bad ones.
        for commit in islice(_walk_back(tip), MAX_STEPS_BACK if self._serving is None else 1):
            try:
                self._serve(repository, commit)
            except BadTree as error:
                if commit.id == tip.id:
                    self._refuse(tip, error)
            else:
                return

    def _follow_nothing(self) -> None:
        reason = f"the repository has no branch {self._branch}"
        if self._serving is None or self._serving is _EMPTY:
            self._serving = _EMPTY
            self._complain(f"{reason} yet: nobody can log in")
        else:
            self._complain(f"{reason} any more")

    def _serve(self, repository: pygit2.Repository, commit: pygit2.Commit) -> None:
        self._rules.signers.check(commit)
        snapshot = read_snapshot(repository, commit.tree, str(commit.id), self._serving or _EMPTY)
        self._serving = snapshot
        self._complaint = ""
        maillog.emit("users.loaded", commit=snapshot.commit, count=len(snapshot.users))
        if snapshot.folders:
            path, count = snapshot.folders[0], len(snapshot.folders)
            reason = "users are files, not folders: what is in it counts for nothing"
            maillog.emit(
                "users.ignored", maillog.WARNING, commit=snapshot.commit, path=path, count=count, reason=reason
            )
        self._source.keep(repository, commit)

    def _refuse(self, commit: pygit2.Commit, error: BadTree) -> None:
        self._refused = self._name(commit)
        maillog.emit(
            "users.refused",
            maillog.ERROR,
            commit=str(commit.id),
            path=error.path or None,
            line=error.line,
            reason=error.reason,
            serving=self._serving and self._serving.commit,
        )

    def _complain(self, reason: str) -> None:
        """Say once what is wrong with the branch itself."""
        if self._complaint != reason:
            self._complaint = reason
            serving = self._serving and self._serving.commit
            maillog.emit("users.refused", maillog.ERROR, reason=reason, serving=serving)


def _walk_back(commit: pygit2.Commit) -> Iterator[pygit2.Commit]:
    while True:
        yield commit
        if not commit.parents:
            return
        commit = commit.parents[0]
