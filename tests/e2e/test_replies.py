"""Each code at each phase, and each way to take some recipients of three, over whole processes: 261 messages, one site.

What is expected here is written down by hand from RFC 5321, not taken from the tables of ptt.
"""

import asyncio
import itertools
import json
import shutil
import ssl
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.sender import expect, log_in, read_reply
from tests.e2e.site import MX_ADDRESS, SENDER, Site
from tests.scripted import EXTENSIONS, Act, Answer, Script, ScriptedServer, scripted_server
from tests.servers.bind import running_bind
from tests.servers.ports import free_port
from tests.waiting import wait_until, wait_until_async

CODES = (421, 450, 451, 452, 454, 500, 501, 550, 552, 554)
ONE_BY_ONE = ("SIZE 10000000", "8BITMIME", "SMTPUTF8")
LOCALS = ("ann", "bob", "cat")
ZONE = "cases.test"
OK = b"250 2.0.0 ok\r\n"
SESSIONS = 8
RCPT_REPLIES = {"delivered": OK, "deferred": b"450 4.2.1 busy\r\n", "failed": b"550 5.1.1 who\r\n"}
DOT_REPLIES = {"delivered": OK, "deferred": b"451 4.3.0 not now\r\n", "failed": b"554 5.7.1 no\r\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How a destination treats its first message, and what is to become of the three recipients."""

    name: str
    scripts: Sequence[Script]
    expected: Sequence[str]


@dataclass
class Destination:
    """One case at an address of its own."""

    case: Case
    number: int
    server: ScriptedServer
    queue_id: str = ""

    @property
    def domain(self) -> str:
        """Give the domain of its recipients."""
        return f"c{self.number}.{ZONE}"

    @property
    def expected(self) -> Mapping[str, str]:
        """Give the outcome of each recipient."""
        return {f"{local}@{self.domain}": word for local, word in zip(LOCALS, self.case.expected, strict=True)}

    def list_expected(self, outcome: str) -> list[str]:
        """Give whom this outcome is expected for."""
        return [name for name, word in self.expected.items() if word == outcome]

    def count_accepted(self) -> Counter[str]:
        """Give how often the server took a message for each recipient."""
        return Counter(one.strip("<>").split(">")[0] for taken in self.server.accepted for one in taken.recipients)


def reply(code: int) -> Answer:
    """Give a reply whose enhanced status tells nothing but the class; who says 421 hangs up."""
    return hang_up(code) if code == 421 else f"{code} {code // 100}.0.0 scripted\r\n".encode()


def hang_up(code: int) -> Answer:
    """Give the same, and a close."""
    return (f"{code} {code // 100}.0.0 scripted\r\n".encode(), Act.CLOSE)


def list_reply_cases(tls: ssl.SSLContext) -> Iterator[Case]:
    """Give each code at each phase, with and without PIPELINING: 180 cases."""
    for extensions, code in itertools.product((EXTENSIONS, ONE_BY_ONE), CODES):
        way = "pipelined" if extensions is EXTENSIONS else "one by one"
        # RFC 5321 section 4.2.1: the first digit decides.
        all_same = ["deferred" if code < 500 else "failed"] * 3
        good = Script(extensions=extensions)
        answers: Mapping[str, Mapping[str, Answer | list[Answer]]] = {
            "MAIL": {"MAIL": [reply(code), OK]},
            "DATA": {"DATA": [reply(code), b"354 go\r\n"]},
            "dot": {".": [reply(code), OK]},
        }
        for phase, changed in answers.items():
            yield Case(
                name=f"{code} at {phase}, {way}",
                scripts=[Script(extensions=extensions, answers=changed), good],
                expected=all_same,
            )
        greeting = hang_up(code)
        yield Case(name=f"{code} at the banner, {way}", scripts=[Script(banner=greeting), good], expected=all_same)
        yield Case(
            name=f"{code} at EHLO, {way}",
            scripts=[Script(answers={"EHLO": greeting, "HELO": greeting}), good],
            expected=all_same,
        )
        # TLS is a chance here, no demand: without it the mail goes in clear.
        yield Case(
            name=f"{code} at STARTTLS, {way}",
            scripts=[Script(extensions=extensions, tls=tls, answers={"STARTTLS": reply(code)}), good],
            expected=["delivered"] * 3,
        )
        yield _make_rcpt_case(code, extensions, way)
        # RSET is our own: the second message finds the transaction of the first open.
        refuse: list[Answer] = [b"550 5.1.1 who\r\n"] * 3
        yield Case(
            name=f"{code} at RSET, {way}",
            scripts=[Script(extensions=extensions, answers={"RCPT": [*refuse, OK], "RSET": reply(code)}), good],
            expected=["failed"] * 3,
        )
        yield Case(
            name=f"{code} at QUIT, {way}",
            scripts=[Script(extensions=extensions, answers={"QUIT": reply(code)}), good],
            expected=["delivered"] * 3,
        )


def _make_rcpt_case(code: int, extensions: Sequence[str], way: str) -> Case:
    place = code % 3
    replies: list[Answer] = [OK] * 4
    replies[place] = reply(code)
    expected = ["delivered"] * 3
    # RFC 5321 section 4.5.3.1.10: 552 to RCPT is temporary. Section 3.8: 421 ends all that is under way.
    expected[place] = "deferred" if code < 500 or code == 552 else "failed"
    return Case(
        name=f"{code} at RCPT {place + 1}, {way}",
        scripts=[Script(extensions=extensions, answers={"RCPT": replies}), Script(extensions=extensions)],
        expected=["deferred"] * 3 if code == 421 else expected,
    )


def list_partial_cases() -> Iterator[Case]:
    """Give each way to answer three RCPT and the dot: 81 cases."""
    for *kinds, dot in itertools.product(RCPT_REPLIES, RCPT_REPLIES, RCPT_REPLIES, DOT_REPLIES):
        script = Script(answers={"RCPT": [*(RCPT_REPLIES[kind] for kind in kinds), OK], ".": [DOT_REPLIES[dot], OK]})
        if "delivered" not in kinds:
            script = Script(answers={"RCPT": [*(RCPT_REPLIES[kind] for kind in kinds), OK]})
        yield Case(
            name=f"{' '.join(kinds)}, dot {dot}",
            scripts=[script, Script()],
            expected=[dot if kind == "delivered" else kind for kind in kinds],
        )


@dataclass
class Town:
    """The site and all its destinations."""

    site: Site
    destinations: Sequence[Destination]

    def read_outcomes(self) -> dict[tuple[str, str], str]:
        """Give the outcome of each queue-id and recipient, all of them if there are several."""
        outcomes: dict[tuple[str, str], str] = {}
        for event in self.site.list_events():
            noun, _, verb = event["event"].partition(".")
            if noun == "recipient":
                name = (event["queue_id"], event["recipient"])
                outcomes[name] = f"{outcomes[name]}, {verb}" if name in outcomes else verb
        return outcomes

    async def submit(self, locals_: Sequence[str], destinations: Sequence[Destination]) -> None:
        """Submit one message to these recipients at each of these destinations, the last one first."""
        waiting = list(destinations)
        await asyncio.gather(*(self._submit_some(waiting, locals_) for _ in range(SESSIONS)))

    async def _submit_some(self, waiting: list[Destination], locals_: Sequence[str]) -> None:
        reader, writer = await log_in(self.site.account())
        try:
            while waiting:
                destination = waiting.pop()
                recipients = [f"{local}@{destination.domain}" for local in locals_]
                envelope = [f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
                writer.write("".join(f"{line}\r\n" for line in envelope).encode())
                for _ in envelope[:-1]:
                    await expect(reader, "250")
                await expect(reader, "354")
                writer.write(f"From: {SENDER}\r\nSubject: {destination.case.name}\r\n\r\nhello\r\n.\r\n".encode())
                queued = await read_reply(reader)
                assert queued.startswith("250"), queued
                destination.queue_id = queued.rsplit(maxsplit=1)[-1]
        finally:
            writer.transport.abort()


@asynccontextmanager
async def running_town() -> AsyncIterator[Town]:
    """Run a site, and one scripted server for each case."""
    folder = Path(tempfile.mkdtemp(prefix="ptt-town-"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cases = [*list_reply_cases(tls), *list_partial_cases()]
    assert len(cases) == 180 + 81
    addresses = {number: f"127.3.{number // 200}.{number % 200 + 1}" for number in range(len(cases))}
    records = ["@ MX 10 mx", f"mx A {MX_ADDRESS}"]
    records += [line for n, one in addresses.items() for line in (f"c{n} MX 10 mx{n}", f"mx{n} A {one}")]
    settings = {
        "PTT_RELAY__RETRY_SCHEDULE_S": "[3600]",
        "PTT_RELAY__TIMEOUT_SCALE": "0.1",  # all servers share the loop of the test: an honest reply may take a while
        "PTT_RELAY__MESSAGES_PER_CONNECTION": "2",
    }
    async with AsyncExitStack() as stack:
        bind = stack.enter_context(running_bind(("example.test", ZONE), records=records))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        site = Site(folder, bind, settings, sink_port=free_port(MX_ADDRESS))
        stack.callback(site.close)
        servers = [
            await stack.enter_async_context(scripted_server(*case.scripts, address=addresses[n], port=site.sink_port))
            for n, case in enumerate(cases)
        ]
        await asyncio.to_thread(site.prepare)
        await asyncio.to_thread(site.start_sink)
        await asyncio.to_thread(site.start)
        yield Town(site, [Destination(case, n, servers[n]) for n, case in enumerate(cases)])
        await asyncio.to_thread(site.stop)


@pytest.mark.timeout(600)
async def test_each_reply_has_its_outcome_and_spares_the_next_message() -> None:
    """4yz defers, 5yz fails, each recipient for itself; who has it is never tried again; reports tell all failures."""
    async with running_town() as town:
        site, destinations = town.site, town.destinations
        # A connection is kept for 10 s: who is to hear RSET on it gets the first message last and the second one first.
        in_turn = sorted(destinations, key=lambda one: "at RSET" in one.case.name)
        await town.submit(LOCALS, in_turn[::-1])
        expected = {(one.queue_id, name): word for one in destinations for name, word in one.expected.items()}
        await wait_until_async(lambda: expected.keys() <= town.read_outcomes().keys(), "all have an outcome", 120)
        outcomes = town.read_outcomes()
        wrong = {
            f"{one.case.name}: {name}": (outcomes[one.queue_id, name], word)
            for one in destinations
            for name, word in one.expected.items()
            if outcomes[one.queue_id, name] != word
        }
        assert wrong == {}
        names = {one.queue_id: one for one in destinations}
        await town.submit(["dan"], in_turn)
        await asyncio.to_thread(check_queue, town, names)
        await asyncio.to_thread(empty_queue, site)
        taken = {one.case.name: one.count_accepted() for one in destinations}
        wanted = {
            one.case.name: Counter(
                [name for name, word in one.expected.items() if word != "failed"] + [f"dan@{one.domain}"]
            )
            for one in destinations
        }
        assert {name: (taken[name], wanted[name]) for name in taken if taken[name] != wanted[name]} == {}
        failed = {one.case.name for one in destinations if "failed" in one.case.expected}
        assert len(list(site.read_arrived())) == len(failed)
        await wait_until_async(lambda: count_heard(destinations, "QUIT") == len(CODES) * 2, "all have heard QUIT")
        assert count_heard(destinations, "RSET") > 0


def count_heard(destinations: Sequence[Destination], command: str) -> int:
    """Give how many of the destinations that mistreat a command have heard it."""
    some = [one for one in destinations if f"at {command}" in one.case.name]
    return sum(any(command in commands for commands in one.server.commands) for one in some)


def empty_queue(site: Site) -> None:
    """Try all again, now, until nothing is left."""

    def is_empty() -> bool:
        site.ptt("queue", "retry", "--all")
        return not list_left(site)

    wait_until(is_empty, "the queue is empty", 120)


def list_left(site: Site) -> list[dict[str, Any]]:
    """Give what `ptt queue list` tells."""
    listing = json.loads(site.ptt("queue", "list", "--limit", "1000", "-o", "json").stdout)
    entries: list[dict[str, Any]] = listing["entries"]
    return entries


def list_recipients(entries: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Give who is left, by queue-id; the report to its sender that some of the messages wait for is none of them."""
    return {entry["queue_id"]: entry["recipients"] for entry in entries if not entry["is_report"]}


def check_queue(town: Town, names: Mapping[str, Destination]) -> None:
    """Check that the queue tells the same as the log: who was deferred is left, and nobody else; trace tells all."""
    left = list_recipients(list_left(town.site))
    wanted = {queue_id: one.list_expected("deferred") for queue_id, one in names.items()}
    assert {name: left.get(name, []) for name in wanted} == wanted
    for queue_id, one in list(names.items())[:: len(names) // 6]:
        (story,) = json.loads(town.site.ptt("trace", queue_id, "-o", "json").stdout)
        (attempt,) = (event for event in story["events"] if event["event"] == "attempt")
        told = {outcome["recipient"]: outcome["event"] for outcome in attempt["outcomes"]}
        assert told == one.expected, one.case.name
        if wanted[queue_id]:
            shown = json.loads(town.site.ptt("queue", "show", queue_id, "-o", "json").stdout)
            assert list_recipients(shown["entries"]) == {queue_id: wanted[queue_id]}
