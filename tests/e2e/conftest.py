"""Fixtures of the end-to-end tier."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.site import DESTINATIONS, MX_ADDRESS, Site
from tests.servers.bind import running_bind
from tests.servers.ports import free_port


@pytest.fixture
def site() -> Iterator[Site]:
    """Give a site whose servers run and whose `ptt up` does not yet."""
    folder = Path(tempfile.mkdtemp(prefix="ptt-site-"))
    records = ["@ MX 10 mx", f"mx A {MX_ADDRESS}"]
    with running_bind(("example.test", *DESTINATIONS), records=records) as bind:
        made = Site(folder, bind)
        made.sink_port = free_port(MX_ADDRESS)
        try:
            made.prepare()
            made.start_sink()
            yield made
        finally:
            made.close()
            shutil.rmtree(folder, ignore_errors=True)
