"""A site with many dead destinations: MX hosts that refuse connections, or take them and say nothing."""

import asyncio
import resource
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.site import DESTINATIONS, MX_ADDRESS, Site
from tests.servers.bind import running_bind
from tests.servers.ports import free_port

ZONE = "dead.test"
PER_NET = 250


def name_destination(number: int) -> str:
    """Name a dead destination."""
    return f"d{number}.{ZONE}"


def _address(number: int) -> str:
    return f"127.77.{number // PER_NET}.{1 + number % PER_NET}"


@contextmanager
def dead_site(destinations: int, *, silent: bool, settings: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Give a site that runs, with so many dead destinations beside `DESTINATIONS`.

    Args:
        destinations: how many.
        silent: their hosts take connections and never greet; else they refuse them.
        settings: more settings of ptt, as environment variables.
    """
    records = ["@ MX 10 mx", f"mx A {MX_ADDRESS}"]
    for number in range(destinations):
        records += [f"d{number} MX 10 m{number}", f"m{number} A {_address(number)}"]
    folder = Path(tempfile.mkdtemp(prefix="ptt-dead-"))
    zones = ("example.test", *DESTINATIONS, ZONE)
    with running_bind(zones, records=records) as bind:
        site = Site(folder, bind, {"PTT_RELAY__RETRY_SCHEDULE_S": "[900, 1800, 3600]", **(settings or {})})
        site.sink_port = free_port(MX_ADDRESS)
        try:
            site.prepare()
            site.start_sink()
            with _silent_hosts(destinations if silent else 0, site.sink_port):
                site.start()
                yield site
        finally:
            site.close()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _silent_hosts(count: int, port: int) -> Iterator[None]:
    """Listen on the address of each destination in a thread, and say nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.new_event_loop()

    async def listen() -> list[asyncio.Server]:
        return [await asyncio.start_server(_stay_silent, _address(n), port) for n in range(count)]

    servers = loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for server in servers:
            server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


async def _stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read until the client gives up."""
    try:
        while await reader.read(4096):
            pass
    except OSError:
        pass
    finally:
        writer.close()
