"""Ports that somebody else has."""

import asyncio
import socket

import pytest

from ptt.core.errors import ConfigError
from ptt.workers.sockets import check_free


@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
async def test_port_that_another_process_would_share_is_taken(address: str, family: socket.AddressFamily) -> None:
    """SO_REUSEPORT lets two sites of one user share a port in silence; each place that is taken has its line."""
    shared = await asyncio.start_server(lambda *_: None, address, 0, family=family, reuse_port=True)
    port = shared.sockets[0].getsockname()[1]
    with pytest.raises(ConfigError) as raised:
        check_free([(address, port), ("127.0.0.1", 0), (address, port)], wait_s=0)
    assert raised.value.problems == (f"ingress.listen: {address} port {port}: Address already in use",) * 2
    waiting = asyncio.get_running_loop().run_in_executor(None, check_free, [(address, port)], 60)
    shared.close()
    await waiting
