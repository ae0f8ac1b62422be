"""Faults that come with the mail: deferred mail under kills, poison, and a storm of failures."""

import asyncio
import random
from collections import Counter
from itertools import count

from ptt.store import keys
from ptt.store.keys import WAKE_TTL_MS
from ptt.store.sweep import SWEEP_EVERY_S
from tests.chaos.fault_points import hook
from tests.chaos.faults import SIGN, find_relays, kill, wait_delivered
from tests.chaos.ledger import read_lines
from tests.chaos.points import find
from tests.chaos.poison import KINDS, PLACES, PREFIX
from tests.chaos.rig import Load, Run, wait_pids
from tests.chaos.sender import Mail, Offer, expect, log_in, read_reply
from tests.chaos.site import ChaosSite
from tests.e2e.site import DESTINATIONS
from tests.waiting import wait_until_async

SPECIAL = 1_000_000
"""From here on messages have numbers that the load never reaches."""
STORM_RECIPIENTS = 100
"""B41: recipients of one message, all of which fail."""
NULL_PATHS = 3
"""B41: messages with the null reverse-path."""
FLAG = "poisonous"
EARLY_S = 0.6
"""The log rounds the delay to seconds."""
MAX_CLAIMS = 3
"""B27: so many workers may one message kill."""


def choose_deferred(load: Load, number: int) -> Mail:
    """Let all mail be put off once."""
    return Mail(domain=DESTINATIONS[number % 2], size_bytes=load.size_bytes, fate="later-")


def defer_long_enough(site: ChaosSite, load: Load, _choice: random.Random) -> None:
    """Let the first mail be tried again only when the last kill is over."""
    length_s = load.messages / load.rate + load.faults * load.life_s * 1.25
    site.settings["PTT_RELAY__RETRY_SCHEDULE_S"] = f"[{length_s:.0f}]"


async def kill_sweepers(run: Run) -> None:
    """Kill the processes that sweep, while all mail is deferred; look when each message is tried again."""
    # While the mail is deferred there is nothing else to do: sign's main process and those of both relays only sweep.
    count_of_load = run.load.messages
    wait_s = 240 + count_of_load / 10
    await wait_until_async(lambda: len(run.sender.accepted) >= count_of_load, "mail is deferred", wait_s)
    for number in range(run.load.faults):
        sweepers = (await find_relays(run))[1] if number % 2 else (await wait_pids(run.site, SIGN))[:2]
        kill(run.random.choice(sweepers))
        run.faults += 1
        run.mark_fault()
        await asyncio.sleep(run.random.uniform(0.5, 2 * run.load.life_s))
    await wait_delivered(run)
    _note_lateness(run)


def _note_lateness(run: Run) -> None:
    arrived = {line["queue_id"]: line["at"] for line in read_lines(run.site.folder / "arrived.ledger")}
    put_off_at = _read_first_attempts(run)
    late = []
    for event in run.site.list_events():
        if event["event"] == "recipient.deferred" and event["queue_id"] in arrived and event["attempt"] == 1:
            due = put_off_at[event["queue_id"]] + event["delay_s"]
            late.append(arrived[event["queue_id"]] - due)
    lease_s = float(run.case.settings["PTT_QUEUE__LEASE_S"])
    limit_s = lease_s + WAKE_TTL_MS / 1000 + 2 * SWEEP_EVERY_S
    soon = sum(1 for one in late if one <= 2 * SWEEP_EVERY_S + EARLY_S)
    detail = f"{len(late)} deferred, earliest {min(late):.1f} s, latest {max(late):.1f} s after it was due"
    run.note("none early", detail, holds=min(late) >= -EARLY_S)
    run.note(
        "none late", f"{soon} within two sweeps, all within {limit_s:.0f} s", holds=max(late) <= limit_s * run.patience
    )


def _read_first_attempts(run: Run) -> dict[str, float]:
    """Give when the first attempt of each message was recorded, by the clock of Redis: the log may be later."""
    with run.site.redis(1) as client:
        entries = client.xrange(keys.EVENTS)
    return {
        fields[b"queue_id"].decode(): int(name.partition(b"-")[0]) / 1000
        for name, fields in entries
        if fields[b"event"] == b"attempt" and fields[b"attempt"] == b"1"
    }


def bring_poison(site: ChaosSite, _load: Load, _choice: random.Random) -> None:
    """Let the processes of the site die of poison."""
    for place in PLACES.values():
        find(place)
    (site.folder / FLAG).touch()
    hook(site, CHAOS_POISON=str(site.folder / FLAG))


def choose_poison(load: Load, number: int) -> Mail:
    """Make some messages poison, spread over the load."""
    every = load.messages // load.faults
    fate = KINDS[number // every % len(KINDS)] if number % every == every // 2 and number < load.messages else ""
    return Mail(domain=DESTINATIONS[number % 2], size_bytes=load.size_bytes, fate=fate)


async def wait_for_parked(run: Run) -> None:
    """Wait until the good is delivered and the poison parked; then cure it, and let a person release it."""
    sender, count_of_load = run.sender, run.load.messages

    def list_parked() -> set[str]:
        events = [event for event in run.site.list_events() if event["event"] == "recipient.parked"]
        return {event["queue_id"] for event in events}

    await wait_until_async(lambda: len(sender.accepted) >= count_of_load, "all is accepted", 240 + count_of_load / 10)
    poison = {sender.accepted[name] for name, one in sender.offers.items() if one.recipient.startswith(PREFIX)}
    wait = f"{len(poison)} are parked, see {run.site.folder}"
    await wait_until_async(lambda: len(list_parked()) >= len(poison), wait, 480)
    parked = list_parked()
    run.faults += len(poison)
    good = f"{len(parked - poison)} good"
    run.note("parked", f"{len(parked & poison)} of {len(poison)}, and {good}", holds=parked == poison)
    deaths = sum(1 for event in run.site.list_events() if _is_death(event))
    killers = sum("-kill-" in one.recipient for one in sender.offers.values())
    run.note("deaths", f"{deaths} by {killers}", holds=killers <= deaths <= MAX_CLAIMS * killers)
    (run.site.folder / FLAG).unlink()
    for queue_id in sorted(parked):
        await asyncio.to_thread(run.site.ptt, "queue", "release", queue_id)
    run.mark_fault()


def _is_death(event: dict[str, object]) -> bool:
    killed = "signal 9" in str(event.get("text", "")) and event["event"] == "process.output"
    return killed or (event["event"] in {"process.exited", "relay.process_ended"} and event.get("exit_code") == -9)


def choose_storm(load: Load, number: int) -> Mail:
    """Let what is no load fail."""
    fate = "never-" if number >= SPECIAL else ""
    return Mail(domain=DESTINATIONS[number % 2], size_bytes=load.size_bytes, fate=fate)


async def storm(run: Run) -> None:
    """Send mail to many recipients that all fail, some of it with the null reverse-path; count the reports."""
    numbers = count(SPECIAL)
    offers = [run.sender.make(next(numbers)) for _ in range(run.load.faults)]
    unreported = [run.sender.make(next(numbers)) for _ in range(NULL_PATHS)]
    reader, writer = await log_in(run.sender.account)
    try:
        for offer in offers:
            reply = await _submit(reader, writer, run.sender.account.sender, offer)
            run.sender.accept(offer, reply)
        silent = [(await _submit(reader, writer, "", offer)).rsplit(maxsplit=1)[-1] for offer in unreported]
    finally:
        writer.transport.abort()
    run.faults += len(offers)
    run.mark_fault()
    total = STORM_RECIPIENTS * (len(offers) + len(silent))
    await wait_until_async(lambda: len(_list_failed(run)) >= total, f"{total} recipients fail", 480)
    await wait_delivered(run)
    lines = [line for line in read_lines(run.site.folder / "arrived.ledger") if line["is_report"]]
    copies = Counter(line["id"] for line in lines)
    named = {offer.identity for offer in offers}
    detail = f"{len(lines)} for {len(offers)} messages to {total} recipients"
    run.note("one report a message", detail, holds=copies == Counter(named))
    stray = [line["id"] for line in lines if line["id"] in {offer.identity for offer in unreported}]
    run.note("no report to the null reverse-path", f"{len(stray)} on {len(silent)} messages", holds=not stray)
    silent_failed = sum(1 for event in _list_failed(run) if event["queue_id"] in silent)
    detail = f"{silent_failed} recipients of the null reverse-path failed in the log"
    run.note("all failed", detail, holds=silent_failed == STORM_RECIPIENTS * len(silent))


def _list_failed(run: Run) -> list[dict[str, str]]:
    return [event for event in run.site.list_events() if event["event"] == "recipient.failed"]


async def _submit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reverse_path: str, offer: Offer) -> str:
    """Submit to STORM_RECIPIENTS recipients and give the reply; the first is the one of the offer."""
    others = [offer.recipient.replace("@", f"x{number}@") for number in range(1, STORM_RECIPIENTS)]
    writer.write(f"MAIL FROM:<{reverse_path}>\r\n".encode())
    await expect(reader, "250")
    for recipient in (offer.recipient, *others):
        writer.write(f"RCPT TO:<{recipient}>\r\n".encode())
        await expect(reader, "250")
    writer.write(b"DATA\r\n")
    await expect(reader, "354")
    writer.write(offer.content)
    reply = await read_reply(reader)
    assert reply.startswith("250"), reply
    return reply
