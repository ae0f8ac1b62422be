"""The queue of a whole site: one message that is deferred, looked at, held, released, retried and traced."""

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.site import MX_ADDRESS, Site
from tests.scripted import Script, scripted_server
from tests.servers.submitter import submit_all
from tests.waiting import wait_until, wait_until_async

pytestmark = pytest.mark.timeout(600)
RECIPIENT = "rita@destination.test"
TOLD = f"by mx.destination.test [{MX_ADDRESS}], in clear: 451 4.7.1 greylisted, come back"


class Commands:
    """The commands of ptt, on a site whose destination is under the test's control."""

    def __init__(self, site: Site) -> None:
        """Stop the usual destination."""
        self._site = site
        assert site.sink is not None
        assert site.sink.stdout is not None
        site.sink.kill()
        site.sink.wait()
        site.sink.stdout.close()

    async def run(self, *arguments: str, expected: int = 0) -> str:
        """Run one and give what it prints."""
        return (await asyncio.to_thread(self._site.ptt, *arguments, expected=expected)).stdout

    async def list(self) -> list[dict[str, Any]]:
        """List the queue in plain types."""
        entries: list[dict[str, Any]] = json.loads(await self.run("queue", "list", "-o", "json"))["entries"]
        return entries

    async def submit_deferred(self) -> None:
        """Submit a message and wait until it is deferred."""
        await asyncio.to_thread(self._site.start)
        await submit_all(self._site.account(), [0], 1, 1000, lambda _: RECIPIENT)
        await wait_until_async(lambda: self._site.has_event("recipient.deferred"), "the message is deferred")

    def is_retried(self) -> bool:
        """Tell whether the message is delivered; else try it again, for its host may have been left alone."""
        if not self._site.has_event("message.done"):
            self._site.ptt("queue", "retry", "--all")
        return self._site.has_event("message.done")

    async def check_shown(self, queue_id: str) -> None:
        """Check that the attempt is told with all that the destination said."""
        shown = await self.run("queue", "show", queue_id)
        assert "waiting until 20" in shown
        assert f"{RECIPIENT} deferred, {TOLD}" in shown
        (attempt,) = json.loads(await self.run("queue", "show", queue_id, "-o", "json"))["events"]
        assert attempt["attempt"] == 1
        assert attempt["duration_ms"] >= 0

    async def check_traced(self, subject: str) -> None:
        """Check that the whole story is told."""
        traced = await self.run("trace", subject)
        assert TOLD in traced
        assert "recipient.released" in traced
        assert f"{RECIPIENT} delivered, by mx.destination.test" in traced
        assert traced.endswith("now: not in the queue any more\n")


async def test_deferred_message_is_shown_held_released_and_traced(site: Site) -> None:
    """With the settings alone the commands find the embedded Valkey; each tells what the destination really said."""
    site.settings["PTT_RELAY__RETRY_SCHEDULE_S"] = "[600]"
    site.settings["PTT_RELAY__SOURCE_ADDRESSES"] = '["127.0.0.78"]'
    ptt = Commands(site)
    await ptt.run("queue", "list", expected=75)
    later = Script(answers={"RCPT": [b"451 4.7.1 greylisted, come back\r\n", b"250 2.1.5 ok\r\n"]})
    async with scripted_server(later, Script(), address=MX_ADDRESS, port=site.sink_port) as destination:
        await ptt.submit_deferred()
        (entry,) = await ptt.list()
        assert (entry["state"], entry["attempts"], entry["recipients"]) == ("waiting", 1, [RECIPIENT])
        assert entry["reason"].startswith("451 4.7.1 greylisted, come back")
        queue_id = entry["queue_id"]
        await ptt.check_shown(queue_id)
        await ptt.run("queue", "hold", queue_id, "--reason", "to be looked at")
        assert [one["state"] for one in await ptt.list()] == ["held"]
        await ptt.run("queue", "retry", queue_id, expected=1)
        assert not destination.accepted
        await ptt.run("queue", "release", queue_id)
        await wait_until_async(lambda: site.has_event("message.done"), "the message is delivered")
        assert [one.recipients for one in destination.accepted] == [[f"<{RECIPIENT}>"]]
        # Greylisting knows a client by its address: the second try comes from the same.
        assert set(destination.clients) == {"127.0.0.78"}
    assert await ptt.list() == []
    await ptt.run("queue", "show", queue_id, expected=3)
    for subject in (queue_id, RECIPIENT, "alice@example.test"):
        await ptt.check_traced(subject)
    assert await asyncio.to_thread(site.stop) == 0


async def test_retry_delivers_at_once_what_waits_for_hours(site: Site) -> None:
    """A destination that was down is tried as soon as a person says that it is up."""
    site.settings["PTT_RELAY__RETRY_SCHEDULE_S"] = "[36000]"
    # A host that could not be reached is left alone for 30 s times this. Less, and a busy machine would be too slow.
    site.settings["PTT_RELAY__TIMEOUT_SCALE"] = "0.1"
    ptt = Commands(site)
    await ptt.submit_deferred()
    site.start_sink()
    said = await ptt.run("queue", "retry", "--all")
    assert said.startswith("1 due now")
    await asyncio.to_thread(wait_until, ptt.is_retried, "the message is delivered")
    assert len(list(site.read_arrived())) == 1
    assert await asyncio.to_thread(site.stop) == 0
