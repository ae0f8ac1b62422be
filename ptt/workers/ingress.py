"""``ptt-ingress``: the submission server as a process.

Reads the settings, builds spool, users and TLS, listens, and obeys signals: SIGTERM stops within 30 s, SIGHUP reloads
the certificate and the users. Exit codes: 0 stopped, 75 Redis does not answer, 78 the settings cannot be used.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from ptt import maillog
from ptt.core.address import Domain
from ptt.core.errors import ConfigError, PttError, decide_exit_code
from ptt.core.wishes import WishLimits
from ptt.ingress.acceptance import Acceptor
from ptt.ingress.answers import Policy
from ptt.ingress.arrival import Endpoint
from ptt.ingress.budget import Budget
from ptt.ingress.crowd import Crowd
from ptt.ingress.guard import Guard
from ptt.ingress.listener import Listener
from ptt.ingress.session import House
from ptt.settings import Listen, Settings
from ptt.store.guesses import RedisGuesses
from ptt.store.spool import connect_spool
from ptt.workers.ingress_files import list_checks, load_tls, open_tokens, open_users
from ptt.workers.lag import watch_lag
from ptt.workers.readiness import load_ready
from ptt.workers.sockets import allow_open_files, take_sockets
from ptt.workers.wiring import read_seal_key, redis_address

HELD_MESSAGES = 16
"""Messages of the largest size whose content one process holds in memory at once; one more hears 452."""


class Entrance:
    """All that the submission server consists of; `run` it once."""

    def __init__(self, settings: Settings) -> None:
        """Check what can be checked without waiting.

        Raises:
            ConfigError: a file cannot be used.
        """
        self._settings = settings
        self._seal_key = read_seal_key(settings)
        self._tls = load_tls(settings)
        self._tokens = open_tokens(settings)
        self._users = open_users(settings)
        self._stopping = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigError: Redis is not safe, or an address cannot be bound.
            Unavailable: Redis does not answer.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        async with AsyncExitStack() as resources:
            starting = asyncio.create_task(self._start(resources))
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                # Told to stop while Redis or the users repository keeps us waiting.
                starting.cancel()
                await asyncio.wait({starting})
                return
            listener = starting.result()
            await stopping
            maillog.emit("ingress.stopping")
            await listener.stop()
        maillog.emit("ingress.stopped")

    async def _start(self, resources: AsyncExitStack) -> Listener:
        settings = self._settings
        window_s = settings.ingress.idempotency_window_s
        spool = await connect_spool(
            redis_address(settings), allow_unsafe=settings.redis.allow_unsafe, repeats_known_s=window_s
        )
        resources.push_async_callback(spool.close)
        guesses = RedisGuesses(redis_address(settings))
        resources.push_async_callback(guesses.close)
        guard = Guard(guesses, self._seal_key)
        resources.push_async_callback(guard.finish)
        resources.push_async_callback(self._users.close)
        await self._users.start(settings.users.poll_s)
        ingress = settings.ingress
        hostname = Domain(ingress.hostname)
        house = House(
            policy=Policy(
                hostname=hostname,
                max_message_bytes=ingress.max_message_bytes,
                max_recipients=ingress.max_recipients,
                wish_limits=WishLimits(max_hold_s=ingress.max_hold_s, min_by_s=ingress.min_deliver_by_s),
            ),
            users=self._users,
            guard=guard,
            mechanisms=ingress.mechanisms,
            tokens=self._tokens,
            acceptor=Acceptor(
                hostname=hostname,
                seal_key=self._seal_key,
                spool=spool,
                knows_repeats=window_s > 0,
                makes_seven_bit=ingress.convert_8bit,
                rates=ingress.rates,
            ),
            budget=Budget(HELD_MESSAGES * ingress.max_message_bytes),
            tls_context=self._tls.context,
            timeout_s=ingress.timeout_s,
        )
        per_network = ingress.max_connections_per_address or max(1, ingress.max_connections // 2)
        listener = Listener(house, Crowd(ingress.max_connections, per_network))
        bound = await listener.start([_make_endpoint(listen) for listen in ingress.listen], take_sockets())
        resources.callback(asyncio.create_task(watch_lag(), name="lag").cancel)
        maillog.announce("ingress.started", hostname=hostname, listen=[_describe(endpoint) for endpoint in bound])
        return listener

    def _on_hangup(self) -> None:
        task = asyncio.create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        try:
            self._tls.reload()
        except ConfigError as error:
            maillog.emit("certificate.refused", logging.ERROR, reason=str(error))
        else:
            maillog.emit("certificate.loaded")
        await self._users.reload()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the submission server.

    Returns:
        The exit code.
    """
    options = _parse_arguments(arguments)
    try:
        settings = load_ready(options.config, "ingress", (list_checks,)).settings
        if options.allow_unsafe_redis:
            redis = settings.redis.model_copy(update={"allow_unsafe": True})
            settings = settings.model_copy(update={"redis": redis})
        maillog.configure(settings.log.level)
        allow_open_files(settings.ingress.max_connections)
        asyncio.run(_serve(settings))
    except PttError as error:
        sys.stderr.write(f"{error}\n")
        return decide_exit_code(error)
    return 0


async def _serve(settings: Settings) -> None:
    await Entrance(settings).run()


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ptt-ingress", description="The submission server of ptt.")
    parser.add_argument("--config", type=Path, metavar="F", help="the settings; else $PTT_CONFIG, ./ptt.toml, ...")
    parser.add_argument(
        "--allow-unsafe-redis",
        action="store_true",
        help="start although Redis may lose what it acknowledged; for experiments only",
    )
    return parser.parse_args(arguments)


def _make_endpoint(listen: Listen) -> Endpoint:
    return Endpoint(
        address=str(listen.address),
        port=listen.port,
        is_tls_implicit=listen.tls == "implicit",
        proxies=listen.proxy_networks,
    )


def _describe(endpoint: Endpoint) -> dict[str, object]:
    tls = "implicit" if endpoint.is_tls_implicit else "starttls"
    return {"address": endpoint.address, "port": endpoint.port, "tls": tls}


if __name__ == "__main__":
    sys.exit(main())
