"""Keys that change under load: by a command every few seconds, or by the timers of two sign workers.

Each message is verified when it arrives, with what the name server answers at that moment, as a receiver does.
"""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.rig import Run, split_contents
from tests.servers.verifiers import verify_by_dkimpy

LOOK_EVERY_S = 0.1
SELECTOR = re.compile(rb"\bs=([a-z0-9-]+);")
GOOD = frozenset({"rsa-sha256=pass"})


@dataclass
class _Receiver:
    """Verifies each message once it is there, with the records that BIND answers at that moment."""

    run: Run
    read_bytes: int = 0
    results: Counter[bool] = field(default_factory=Counter)

    async def follow(self) -> None:
        """Go on until the whole load is verified and the last rotation is over, with some mail after it."""
        while self.run.faults < self.run.load.faults or self.results.total() < self.run.load.messages:
            await asyncio.to_thread(self._verify_new)
            await asyncio.sleep(LOOK_EVERY_S)
        detail = f"{self.results[True]} verified on arrival, {self.results[False]} did not"
        self.run.note("signatures on arrival", detail, holds=self.results[True] > 0 and not self.results[False])

    def _verify_new(self) -> None:
        with (self.run.site.folder / "arrived.contents").open("rb") as file:
            file.seek(self.read_bytes)
            octets = file.read()
        for content in split_contents(octets):
            found = _verify_one(self.run, content)
            self.results[bool(found) and GOOD.issuperset(found)] += 1
            self.read_bytes += 4 + len(content)


async def rotate_by_command(run: Run) -> None:
    """Run ``ptt key rotate`` at even distances."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_Receiver(run).follow())
        began, length_s = time.monotonic(), run.load.messages / run.load.rate
        for number in range(run.load.faults):
            moment = began + length_s * (number + 0.5) / run.load.faults
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            await asyncio.to_thread(run.site.ptt, "key", "rotate", "example.test")
            run.faults += 1
            run.mark_fault()
    _check_states(run, run.load.faults)
    _check_found(run)


async def rotate_by_timer(run: Run) -> None:
    """Let the worker do it: `signing.rotate_after_days` is a second or two."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_Receiver(run).follow())
        while run.faults < run.load.faults:
            await asyncio.sleep(LOOK_EVERY_S)
            events = await asyncio.to_thread(run.site.list_events)
            run.faults = sum(event["event"] == "key.retiring" for event in events)
        run.mark_fault()
    failed = [event for event in run.site.list_events() if event["event"] == "rotation.failed"]
    run.note("no failed rotation", f"{len(failed)} failed", holds=not failed)
    _check_found(run)


def _verify_one(run: Run, content: bytes) -> list[str]:
    header = content.partition(b"\r\n\r\n")[0]
    names = [f"{selector.decode()}._domainkey.example.test" for selector in SELECTOR.findall(header)]
    answers = {name: run.site.bind.get_texts(name) for name in names}
    return verify_by_dkimpy(content, {name: texts[0] for name, texts in answers.items() if len(texts) == 1})


def _check_found(run: Run) -> None:
    missing = [event for event in run.site.list_events() if event["event"] == "key.missing"]
    run.note("a key for each message", f"{len(missing)} found none", holds=not missing)


def _check_states(run: Run, rotations: int) -> None:
    states = Counter(
        path.read_text().split('"state": "')[1].split('"')[0]
        for path in (run.site.folder / "keys/example.test").glob("*.json")
    )
    holds = states == {"active": 1, "retiring": rotations}
    run.note("states of the keys", ", ".join(f"{count} {state}" for state, count in states.items()), holds=holds)
