"""Answers of the DNS as the relay needs them, kept for their TTL. RFC 5321 section 5.1, RFC 2308, RFC 8020.

Implements the `Resolver` port. dnspython asks, retries over TCP and drops forged packets; this adds what it lacks: one
query for many who ask the same at once, failures remembered for seconds, and a bound on the whole time.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import dns.rrset
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from typing_extensions import override

from ptt.core.address import Domain
from ptt.core.errors import ConfigError, NoSuchDomain, Unavailable
from ptt.core.ports import Resolver
from ptt.core.routing import IPAddress, Mx

TIMEOUT_S = 10.0
"""Seconds that one question may take with all its retries: a lame zone must not hold a delivery."""

TRY_S = 3.0
"""Seconds that one nameserver may take for one try."""

FAILURE_S = 5.0
"""Seconds that a failure is remembered: 50 messages for one domain must not each wait for its dead nameservers."""

MAX_TTL_S = 3_600.0
"""Longest time an answer is kept, whatever its TTL: a domain that moves is followed within the hour."""

MAX_NEGATIVE_TTL_S = 300.0
"""The same for "there is none", which makes mail fail for good (RFC 2308 section 5 lets us choose)."""

MAX_ANSWERS = 10_000
"""Answers that are kept: the names come from strangers' mail."""

_EDNS_PAYLOAD = 1232  # octets; above it UDP answers are cut into fragments, which can be forged (DNS flag day 2020)

Record = Mx | IPAddress


@dataclass(frozen=True, slots=True)
class _Answer:
    records: tuple[Record, ...]
    ttl_s: float
    is_nxdomain: bool = False
    fault: str = ""
    """Why there is no answer; empty if there is one."""


@dataclass(frozen=True, slots=True)
class _Question:
    name: str
    rdtype: dns.rdatatype.RdataType


class DnsResolver(Resolver):
    """Asks the configured resolvers; one for a process, used from one event loop."""

    def __init__(
        self,
        *,
        nameservers: Sequence[str] = (),
        port: int = 53,
        timeout_s: float = TIMEOUT_S,
        try_s: float = TRY_S,
        max_answers: int = MAX_ANSWERS,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            nameservers: IP addresses of resolvers; those of the system if there are none.
            port: their port.
            timeout_s: seconds that one question may take in all.
            try_s: seconds that one try may take.
            max_answers: answers that are kept.

        Raises:
            ConfigError: none are given and the system names none.
        """
        self._resolver = _make_stub(nameservers, port)
        self._resolver.lifetime = timeout_s
        self._resolver.timeout = try_s
        self._timeout_s = timeout_s
        self._max_answers = max_answers
        self._kept: dict[_Question, tuple[float, _Answer]] = {}
        """Until when each answer is good; the oldest entry first."""
        self._asking: dict[_Question, asyncio.Task[_Answer]] = {}

    @override
    async def resolve_mx(self, domain: Domain) -> Sequence[Mx]:
        """Give all MX records, maybe none.

        Raises:
            NoSuchDomain: NXDOMAIN.
            Unavailable: SERVFAIL, timeout or nonsense: try later.
        """
        answer = await self._ask(_Question(domain, dns.rdatatype.MX))
        if answer.fault:
            raise Unavailable(f"MX {domain}: {answer.fault}")
        if answer.is_nxdomain:
            raise NoSuchDomain(domain)
        return [record for record in answer.records if isinstance(record, Mx)]

    @override
    async def resolve_addresses(self, name: str) -> Sequence[IPAddress]:
        """Give the AAAA and A records of a host, maybe none.

        Raises:
            NoSuchDomain: NXDOMAIN.
            Unavailable: SERVFAIL, timeout or nonsense for one type, and no record of the other: try later.
        """
        questions = (_Question(name, dns.rdatatype.AAAA), _Question(name, dns.rdatatype.A))
        kept = [answer for question in questions if (answer := self._find_kept(question)) is not None]
        # Both at once, unless both are known: a task costs more than the look-up.
        answers = kept if len(kept) == len(questions) else await asyncio.gather(*map(self._ask, questions))
        addresses = [record for answer in answers for record in answer.records if not isinstance(record, Mx)]
        if addresses:
            return addresses
        faults = [answer.fault for answer in answers if answer.fault]
        if faults:
            raise Unavailable(f"addresses of {name}: {faults[0]}")
        # Some servers say NXDOMAIN for AAAA although the name has an A: only both together mean that it is not there.
        if all(answer.is_nxdomain for answer in answers):
            raise NoSuchDomain(name)
        return []

    async def close(self) -> None:
        """End what is being asked."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, question: _Question) -> _Answer:
        answer = self._find_kept(question)
        if answer is not None:
            return answer
        task = self._asking.get(question)
        if task is None:
            task = self._asking[question] = asyncio.create_task(self._query(question))
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        # Shielded: when one of those who wait is cancelled, the others still get the answer.
        return await asyncio.shield(task)

    def _find_kept(self, question: _Question) -> _Answer | None:
        until, answer = self._kept.get(question, (0.0, None))
        return answer if asyncio.get_running_loop().time() < until else None

    async def _query(self, question: _Question) -> _Answer:
        answer = await self._query_once(question)
        if answer.ttl_s > 0:
            self._kept.pop(question, None)
            if len(self._kept) >= self._max_answers:
                del self._kept[next(iter(self._kept))]
            self._kept[question] = (asyncio.get_running_loop().time() + answer.ttl_s, answer)
        return answer

    async def _query_once(self, question: _Question) -> _Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                name = dns.name.from_text(question.name)
                result = await self._resolver.resolve(name, question.rdtype, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return _Answer((), _find_negative_ttl(error), is_nxdomain=True)
        except (dns.name.EmptyLabel, dns.name.LabelTooLong, dns.name.NameTooLong):
            return _Answer((), MAX_NEGATIVE_TTL_S, is_nxdomain=True)  # a name that no zone can hold
        except (dns.exception.DNSException, OSError, TimeoutError, ValueError) as error:
            return _Answer((), FAILURE_S, fault=_describe(error))
        ttl_s = float(result.chaining_result.minimum_ttl)
        if result.rrset is not None:
            return _Answer(tuple(_to_records(result.rrset)), min(ttl_s, MAX_TTL_S))
        if _is_referral(result.response):
            return _Answer((), FAILURE_S, fault="a referral instead of an answer")
        return _Answer((), min(ttl_s, MAX_NEGATIVE_TTL_S))


def _make_stub(nameservers: Sequence[str], port: int) -> dns.asyncresolver.Resolver:
    try:
        stub = dns.asyncresolver.Resolver(configure=not nameservers)
    except dns.resolver.NoResolverConfiguration as error:
        raise ConfigError("relay.resolvers: none given, and the system names none") from error
    if nameservers:
        stub.nameservers = list(nameservers)
    stub.port = port
    stub.use_edns(0, 0, _EDNS_PAYLOAD)
    return stub


def _to_records(rrset: dns.rrset.RRset) -> Iterator[Record]:
    for rdata in rrset:
        if isinstance(rdata, MX):
            yield Mx(rdata.preference, rdata.exchange.to_text(omit_final_dot=True).lower())
        elif isinstance(rdata, A | AAAA):
            yield ip_address(rdata.address)


def _find_negative_ttl(error: dns.resolver.NXDOMAIN) -> float:
    # RFC 2308 section 5: the lesser of the SOA record's TTL and its minimum field; dnspython works it out.
    responses = error.kwargs["responses"].values()
    ttl_s = min((float(r.resolve_chaining().minimum_ttl) for r in responses), default=MAX_NEGATIVE_TTL_S)
    return min(ttl_s, MAX_NEGATIVE_TTL_S)


def _is_referral(response: dns.message.Message) -> bool:
    # RFC 2308 section 2.2: no answer, NS records and no SOA point elsewhere. From a resolver that is a lame server, and
    # to read it as "no such record" would bounce mail.
    types = {rrset.rdtype for rrset in response.authority}
    return dns.rdatatype.NS in types and dns.rdatatype.SOA not in types


def _describe(error: Exception) -> str:
    if isinstance(error, dns.resolver.NoNameservers):
        codes = [str(entry[3]) for entry in error.kwargs["errors"]]
        return ", ".join(dict.fromkeys(codes)) or "no nameserver answers"
    if isinstance(error, dns.exception.Timeout | TimeoutError):
        return "timed out"
    return type(error).__name__
