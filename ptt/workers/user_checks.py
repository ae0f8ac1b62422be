"""Checks of the users, and of the domains that they may send as: mail of one that no key signs for waits for days.

Nothing is changed by a check. Where the users cannot be read, that is one finding and no domain is looked at.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ptt.core.address import Domain
from ptt.core.errors import MalformedInput
from ptt.core.finding import Finding, Health
from ptt.core.signature import SigningPolicy
from ptt.core.user import User
from ptt.settings import Settings
from ptt.signing.keys import KeyRing, SigningKey
from ptt.store.users_commit import read_users
from ptt.store.users_transfer import Access
from ptt.workers.host_checks import NOT_HERE, Judgement, run_check
from ptt.workers.key_checks import judge_signing

MAX_NAMED = 3
"""How many logins a line names: there may be thousands of a domain."""


def look_at_users(settings: Settings) -> tuple[Finding, Collection[User]]:
    """Read the users; give what was found, and those who may log in: none if they cannot be read."""
    found: list[User] = []

    def check() -> Judgement:
        repository = settings.users.repository
        if not repository:
            return Health.SKIPPED, NOT_HERE, ""
        try:
            users = read_users(_make_access(settings, repository)).users
        except MalformedInput as error:
            return Health.PROBLEM, f"the newest commit is not served: {error}", "the last good one goes on; repair it"
        if not users:
            return Health.PROBLEM, "nobody may log in", "ptt user add LOGIN --address ADDRESS"
        found.extend(user for user in users.values() if user.enabled)
        return Health.OK, f"{len(users)} users", ""

    return run_check("users.readable", settings.users.branch, check), found


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderChecks:
    """Checks whether a key signs for each domain that a user may send as."""

    ring: KeyRing
    policies: Mapping[Domain, SigningPolicy]
    """By domain of From; others are signed by keys of their own."""

    def check(self, users: Collection[User]) -> Iterator[Finding]:
        """Give one finding for each domain; none where the check of its own keys says it already."""
        have_keys = frozenset(self.ring.list_domains())
        for domain, logins in sorted(_list_senders(users).items()):
            policy = self.policies.get(domain)
            signing_domain = policy.signing_domain if policy else domain
            if signing_domain != domain or domain not in have_keys:
                health, detail, advice = self._judge(domain, signing_domain, logins)
                yield Finding(check="domain.signs", subject=domain, health=health, detail=detail, advice=advice)

    def _judge(self, domain: Domain, signing_domain: Domain, logins: Collection[str]) -> Judgement:
        usable = [key for key in self.ring.list_keys(signing_domain) if isinstance(key, SigningKey)]
        health, detail, advice = judge_signing(signing_domain, usable)
        if health is Health.OK:
            return health, f"by {signing_domain}: {detail}", ""
        detail = f"no key of {signing_domain} signs: mail of {_name(logins)} as this domain waits"
        if domain.startswith("["):
            return health, detail, "no key can sign for an address literal: let them send as a domain"
        if parent := self._find_parent(domain) if signing_domain == domain else None:
            advice += f'; or in [signing] of ptt.toml: domains = [{{ domain = "{domain}", sign_as = "{parent}" }}]'
        return health, detail, advice

    def _find_parent(self, domain: Domain) -> str | None:
        """Give the nearest parent whose keys could sign (RFC 7489 section 3.1: it is aligned)."""
        labels = domain.split(".")
        parents = (".".join(labels[start:]) for start in range(1, len(labels)))
        return next((parent for parent in parents if parent in self.ring.list_domains()), None)


def _list_senders(users: Collection[User]) -> Mapping[Domain, Collection[str]]:
    """Give who may send as each domain."""
    senders: dict[Domain, list[str]] = {}
    for user in users:
        for domain in {*user.domains, *(address.domain for address in user.addresses)}:
            senders.setdefault(domain, []).append(user.login)
    return senders


def _name(logins: Collection[str]) -> str:
    names = sorted(logins)
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _make_access(settings: Settings, repository: str) -> Access:
    users = settings.users
    return Access(
        repository=repository,
        branch=users.branch,
        ssh_key_file=users.ssh_key_file,
        password_file=users.password_file,
        known_hosts_file=users.known_hosts_file,
    )
