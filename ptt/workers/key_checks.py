"""Checks of DKIM keys, one small function each: files, states, what the name servers answer, SPF and DMARC.

Nothing is changed by a check. What cannot be asked is unknown, never fine.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from ptt.core.address import Domain
from ptt.core.domain_policy import (
    find_dmarc_fault,
    find_key_faults,
    find_spf_fault,
    format_dmarc,
    format_spf,
    list_dmarc_names,
)
from ptt.core.errors import PttError
from ptt.core.finding import Finding, Health
from ptt.dns.served import Served, read_served, resolve_texts
from ptt.dns.zone import find_nameservers
from ptt.signing.key_files import KeyState
from ptt.signing.keys import RefusedKey, SigningKey
from ptt.workers.rotation import KeyLife

MIN_TTL_S, MAX_TTL_S = 60, 86_400
"""Shorter ones cost receivers a query for each message; longer ones keep a wrong key in caches for days."""
OVERDUE = timedelta(days=1)
"""How long after its time a record of a retiring key is taken for forgotten."""

_IN_DNS = frozenset({KeyState.PUBLISHED, KeyState.ACTIVE, KeyState.RETIRING})

Judgement = tuple[Health, str, str]
"""Health, detail and advice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChecks:
    """Checks the keys of a folder."""

    life: KeyLife
    hostname: str
    """Name of the hosts that send, for the SPF record to paste."""

    def check_domain(self, domain: Domain) -> Iterator[Finding]:
        """Run all checks of one domain."""
        found = self.life.ring.list_keys(domain)
        for key in found:
            if isinstance(key, RefusedKey):
                yield _find("key.file", f"{key.selector} {domain}", (Health.PROBLEM, key.reason, ""))
            else:
                yield from self._check_key(key)
        usable = [key for key in found if isinstance(key, SigningKey)]
        for name, check in (("domain.signs", judge_signing), ("domain.spf", self._check_spf)):
            yield _find(name, domain, check(domain, usable))
        yield _find("domain.dmarc", domain, self._check_dmarc(domain))

    def _check_key(self, key: SigningKey) -> Iterator[Finding]:
        checks: tuple[tuple[str, Callable[[SigningKey], Judgement]], ...] = (
            ("key.state", self._check_state),
            ("key.record", self._check_record),
            ("key.syntax", self._check_syntax),
            ("key.ttl", self._check_ttl),
        )
        for name, check in checks:
            yield _find(name, f"{key.selector} {key.domain}", _ask(check, key))

    def _check_state(self, key: SigningKey) -> Judgement:
        state = key.status.state
        publish = f"ptt key publish {key.domain}"
        if key.status.problem:
            advice = f"{publish}, or repair the record: the key comes back by itself"
            return Health.PROBLEM, f"suspended: {key.status.problem}", advice
        if state is KeyState.PUBLISHED:
            return Health.PROBLEM, "published, and signs nothing yet", publish
        if key.status.revoked_at:
            if state is KeyState.RETIRED:
                return Health.OK, "retired: declared void", ""
            retire = f"ptt key retire {key.domain} {key.selector} --now"
            return Health.PROBLEM, "declared void, and its record is not known to say so", retire
        end = self.life.get_end(key)
        if state is KeyState.RETIRING and end:
            if end + OVERDUE < self.life.now():
                retire = f"ptt key retire {key.domain} {key.selector}"
                return Health.PROBLEM, "retiring, and its record should be gone", retire
            return Health.OK, f"retiring: its record stays until {end:%Y-%m-%d}", ""
        return Health.OK, state.value, publish if state is KeyState.CREATED else ""

    def _check_record(self, key: SigningKey) -> Judgement:
        if key.status.state is KeyState.CREATED:
            return Health.SKIPPED, "not published yet", ""
        if key.status.state is KeyState.RETIRED:
            if key.record in self._read(key).texts:
                return Health.PROBLEM, "retired, and still in the DNS", f"remove the record {key.record_name}"
            return Health.OK, "not in the DNS any more", ""
        lags = self.life.publisher.find_lags(key)
        lines = "; ".join(map(str, lags))
        if any(lag.is_wrong for lag in lags):
            return Health.PROBLEM, lines, f'{key.record_name}. IN TXT must be "{key.record}"'
        return (Health.UNKNOWN, lines, "") if lags else (Health.OK, "all authoritative servers answer it", "")

    def _check_syntax(self, key: SigningKey) -> Judgement:
        if key.status.state not in _IN_DNS:
            return Health.SKIPPED, f"{key.status.state}: not in use", ""
        texts = self._read(key).texts
        faults = [fault for text in texts for fault in find_key_faults(text)]
        if len(texts) != 1:
            faults.insert(0, f"{len(texts)} TXT records, must be one")
        if faults:
            return Health.PROBLEM, "; ".join(faults), f'{key.record_name}. IN TXT must be "{key.record}"'
        return Health.OK, f"one key of {len(texts[0])} octets", ""

    def _check_ttl(self, key: SigningKey) -> Judgement:
        if key.status.state not in _IN_DNS:
            return Health.SKIPPED, f"{key.status.state}: not in use", ""
        served = self._read(key)
        if not served.texts:
            return Health.UNKNOWN, "there is no record", ""
        is_sane = MIN_TTL_S <= served.ttl_s <= MAX_TTL_S
        advice = "" if is_sane else f"choose between {MIN_TTL_S} and {MAX_TTL_S} s"
        return (Health.OK if is_sane else Health.PROBLEM), f"{served.ttl_s} s", advice

    def _read(self, key: SigningKey) -> Served:
        publisher = self.life.publisher
        servers = find_nameservers(key.record_name, publisher.resolver, publisher.primary)
        return read_served(servers, publisher.check_port, key.record_name)

    def _check_spf(self, domain: Domain, _usable: list[SigningKey]) -> Judgement:
        try:
            fault = find_spf_fault(resolve_texts(self.life.publisher.resolver, domain))
        except PttError as error:
            return Health.UNKNOWN, str(error), ""
        return (Health.PROBLEM, fault, format_spf(domain, self.hostname)) if fault else (Health.OK, "is there", "")

    def _check_dmarc(self, domain: Domain) -> Judgement:
        faults = []
        for name in list_dmarc_names(domain):
            try:
                fault = find_dmarc_fault(resolve_texts(self.life.publisher.resolver, name))
            except PttError as error:
                return Health.UNKNOWN, str(error), ""
            if not fault:
                return Health.OK, f"{name} has a policy", ""
            faults.append(f"{name} {fault}")
        return Health.PROBLEM, "; ".join(faults), format_dmarc(domain)


def judge_signing(domain: Domain, usable: list[SigningKey]) -> Judgement:
    """Tell which keys of a domain sign, or what would make one sign."""
    signing = [f"{key.selector} ({key.algorithm})" for key in usable if key.status.is_signing]
    if signing:
        return Health.OK, ", ".join(signing), ""
    return Health.PROBLEM, "no key signs: mail of this domain waits", _advise_signing(domain, usable)


def _advise_signing(domain: Domain, usable: list[SigningKey]) -> str:
    """Say what makes a key sign: one that is suspended or waits, else one that retires, else another."""
    if any(key.status.state in {KeyState.CREATED, KeyState.PUBLISHED, KeyState.ACTIVE} for key in usable):
        return f"ptt key publish {domain}"
    retiring = [key for key in usable if key.status.state is KeyState.RETIRING and not key.status.revoked_at]
    if retiring:
        return " or ".join(f"ptt key activate {domain} {key.selector}" for key in retiring)
    return f"ptt key create {domain}, then ptt key publish {domain}"


def _ask(check: Callable[[SigningKey], Judgement], key: SigningKey) -> Judgement:
    try:
        return check(key)
    except PttError as error:
        return Health.UNKNOWN, str(error), ""


def _find(check: str, subject: str, judgement: Judgement) -> Finding:
    health, detail, advice = judgement
    return Finding(check=check, subject=subject, health=health, detail=detail, advice=advice)
