"""Keys that change under load: by a command every few seconds, or by the timers of two sign workers.

Each message is verified when it arrives, with what the name server answers at that moment, as a receiver does.
"""

import asyncio
import re
from collections import Counter

from tests.chaos.rig import Run, read_contents
from tests.servers.verifiers import verify_by_dkimpy

LOOK_EVERY_S = 0.1
SELECTOR = re.compile(rb"\bs=([a-z0-9-]+);")
GOOD = frozenset({"rsa-sha256=pass"})


async def rotate_by_command(run: Run) -> None:
    """Run ``ptt key rotate`` at even distances."""
    async with asyncio.TaskGroup() as tasks:
        verifying = tasks.create_task(_verify_as_it_comes(run))
        length_s = run.load.messages / run.load.rate
        for _ in range(run.load.faults):
            await asyncio.sleep(length_s / (run.load.faults + 1))
            await asyncio.to_thread(run.site.ptt, "key", "rotate", "example.test")
            run.faults += 1
            run.mark_fault()
        await _end(run, verifying)
    _check_states(run, run.load.faults)


async def rotate_by_timer(run: Run) -> None:
    """Let the workers do it: `signing.rotate_after_days` is a second or two."""
    async with asyncio.TaskGroup() as tasks:
        verifying = tasks.create_task(_verify_as_it_comes(run))
        await asyncio.sleep(run.load.messages / run.load.rate)
        run.faults = sum(event["event"] == "key.retiring" for event in run.site.list_events())
        run.mark_fault()
        await _end(run, verifying)
    run.note("rotations", f"{run.faults} by the timer", holds=run.faults >= run.load.faults)
    failed = [event for event in run.site.list_events() if event["event"] == "rotation.failed"]
    run.note("no failed rotation", f"{len(failed)} failed", holds=not failed)


async def _end(run: Run, verifying: "asyncio.Task[None]") -> None:
    """Go on verifying until the last message that is accepted by now has arrived."""
    wanted = len(run.sender.accepted)
    async with asyncio.timeout(60):
        while await asyncio.to_thread(_count, run) < wanted:  # noqa: ASYNC110 - the file tells nobody
            await asyncio.sleep(LOOK_EVERY_S)
    verifying.cancel()


def _count(run: Run) -> int:
    return len(read_contents(run.site.folder / "arrived.contents"))


async def _verify_as_it_comes(run: Run) -> None:
    results: Counter[bool] = Counter()
    seen = 0
    try:
        while True:
            contents = (await asyncio.to_thread(read_contents, run.site.folder / "arrived.contents"))[seen:]
            seen += len(contents)
            results.update(await asyncio.to_thread(_verify, run, contents))
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        detail = f"{results[True]} verified on arrival, {results[False]} did not"
        run.note("signatures on arrival", detail, holds=results[True] > 0 and not results[False])


def _verify(run: Run, contents: list[bytes]) -> list[bool]:
    """Verify each message with the records that BIND answers now."""
    return [bool(found) and GOOD.issuperset(found) for found in (_verify_one(run, content) for content in contents)]


def _verify_one(run: Run, content: bytes) -> list[str]:
    header = content.partition(b"\r\n\r\n")[0]
    names = [f"{selector.decode()}._domainkey.example.test" for selector in SELECTOR.findall(header)]
    answers = {name: run.site.bind.get_texts(name) for name in names}
    return verify_by_dkimpy(content, {name: texts[0] for name, texts in answers.items() if len(texts) == 1})


def _check_states(run: Run, rotations: int) -> None:
    states = Counter(
        path.read_text().split('"state": "')[1].split('"')[0]
        for path in (run.site.folder / "keys/example.test").glob("*.json")
    )
    holds = states == {"active": 1, "retiring": rotations}
    run.note("states of the keys", ", ".join(f"{count} {state}" for state, count in states.items()), holds=holds)
