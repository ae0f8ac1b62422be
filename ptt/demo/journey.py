"""The way of the mail: in, refused or accepted, signed, out, and verified at its destination."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ptt.demo.mail import Mail, make_forged, make_mails, read_header
from ptt.demo.programs import Event, Up
from ptt.demo.proof import Signature, hash_body, verify_signatures
from ptt.demo.stage import Stage, list_key_names

DELIVERY_TIMEOUT_S = 30.0

_QUEUED = re.compile(r"250 .*queued as (\S+)")
_FOREIGN = "ceo@bank.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that was accepted."""

    mail: Mail
    queue_id: str


async def submit(stage: Stage) -> list[Sent]:
    """Send all messages and give those that were accepted."""
    console = stage.console
    console.step("Mail in: over TLS, with AUTH")
    mails, sent = make_mails(), []
    for mail in mails:
        reply = await asyncio.to_thread(stage.mail_client.submit, mail)
        console.tell(mail.tls, f"{mail.title}, {len(mail.content)} octets, to {', '.join(mail.recipients)}")
        console.tell("", reply)
        if match := _QUEUED.match(reply):
            sent.append(Sent(mail=mail, queue_id=match[1]))
    console.check(len(sent) == len(mails), f"{len(sent)} of {len(mails)} messages accepted, each with a queue-id")
    return sent


async def be_refused(stage: Stage) -> None:
    """Try what must not work."""
    console = stage.console
    console.step("What is not let in")
    client, mail = stage.mail_client, make_mails()[0]
    cases = (
        ("wrong password", "535", replace(client, password=f"not {stage.password}"), mail),
        ("no AUTH", "530", replace(client, password=None), mail),
        ("other's MAIL FROM", "550", client, replace(mail, reverse_path=_FOREIGN)),
        ("other's From:", "550", client, make_forged(_FOREIGN)),
    )
    for title, code, who, what in cases:
        reply = await asyncio.to_thread(who.submit, what)
        console.tell(title, reply)
        console.check(reply.startswith(f"{code} "), f"refused with {code}")


async def arrive(stage: Stage, up: Up, sent: Sequence[Sent]) -> None:
    """Wait until each message is delivered, by ptt's own log, and compare with what the destination has.

    Raises:
        DemoFailed: one is not delivered in time.
    """
    console = stage.console
    console.step("Mail out: signed, then delivered over STARTTLS")
    wanted = sorted((recipient, _subject(one.mail.content)) for one in sent for recipient in one.mail.recipients)
    logged = "recipient.delivered"
    what = f"{len(wanted)} events {logged}"
    await up.wait_for(lambda: len(up.find(logged)) >= len(wanted), what, DELIVERY_TIMEOUT_S)
    for one in sent:
        for event in (*up.find("message.signed", queue_id=one.queue_id), *up.find(logged, queue_id=one.queue_id)):
            console.tell(event["process"], f"{one.queue_id} {_describe(event)}")
    deliveries = stage.destination.deliveries
    got = sorted((recipient, _subject(one.content)) for one in deliveries for recipient in one.recipients)
    console.check(got == wanted, f"{len(got)} recipients at the MX, each got each message exactly once")
    suites = sorted({one.tls for one in deliveries})
    console.check(suites and all(suites), f"TLS to the MX: {', '.join(suites)}")


async def prove(stage: Stage, sent: Sequence[Sent]) -> None:
    """Verify every delivered message's signatures and body."""
    console = stage.console
    console.step("The proof: DKIM verified with the key from the DNS, bodies compared")
    hashes = {_subject(one.mail.content): hash_body(one.mail.content) for one in sent}
    keys, verdicts = list_key_names(stage), []
    for delivery in stage.destination.deliveries:
        signatures = await asyncio.to_thread(verify_signatures, delivery.content, stage.dns_client)
        subject = _subject(delivery.content)
        is_same = hash_body(delivery.content) == hashes.get(subject)
        is_signed = keys == sorted(one.key_name for one in signatures) and all(one.passed for one in signatures)
        verdicts.append(is_signed and is_same)
        text = (
            f"{_name(signatures)}; body SHA-256 {hash_body(delivery.content)[:16]} {'same' if is_same else 'CHANGED'}"
        )
        console.tell(subject, f"{', '.join(delivery.recipients)}: {text}")
    console.check(
        verdicts and all(verdicts),
        f"{sum(verdicts)} of {len(verdicts)} deliveries: each key's signature passes, body unchanged",
    )


def _subject(content: bytes) -> str:
    return read_header(content, "Subject")


def _describe(event: Event) -> str:
    if event["event"] == "message.signed":
        return "signed"
    reply = (event.get("reply_code"), event.get("enhanced_status"), event.get("reply_text"))
    return f"{event.get('recipient')} at {event.get('mx_host')}: {' '.join(str(part) for part in reply if part)}"


def _name(signatures: Sequence[Signature]) -> str:
    texts = (f"{one.algorithm} s={one.selector} {'pass' if one.passed else one.reason or 'FAIL'}" for one in signatures)
    return ", ".join(texts) or "NOT SIGNED"
