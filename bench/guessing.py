"""What guessing at passwords gets, and what good log-ins feel of it; and whether the clock tells who is a user.

Run it from the root of the checkout:  python -m bench.guessing [--guesses 10000] [--connections 400] [--attempts 100]
Starts an embedded Valkey and a ptt-ingress of its own on the loopback. It asserts nothing: it prints what it measured.
First the times of a wrong password, an unknown and a disabled user, each attempt from an address of its own. Then the
guesses, all at one user, from 50 addresses, each over a connection that is opened again when it is closed, while good
users log in from other addresses: known ones (who logged in from there before a restart of the ingress), fresh ones,
and ones whose password is remembered.
"""

import argparse
import asyncio
import base64
import collections
import contextlib
import json
import multiprocessing
import random
import ssl
import statistics
import subprocess
import tempfile
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from bench.conditions import describe_machine
from bench.slow_clients import ask, enter, raise_limit, read_reply
from ptt.store.users_password import hash_password
from tests.servers.ingress import IngressProcess, IngressSite, make_site, running_ingress
from tests.servers.redis import running_server

ADDRESSES = 50
USERS = 100
KNOWN = USERS // 2
LOGIN_EVERY_S = 0.1
KINDS = {"wrong password": "user0", "unknown user": "nobody", "disabled user": "disabled"}


def write_users(site: IngressSite) -> None:
    """Commit the users, each with a password of his own, and one who is disabled."""
    folder = site.repository / "users"
    for number in range(USERS):
        text = f'password = "{hash_password(b"right%d" % number)}"\naddresses = ["alice@example.test"]\n'
        (folder / f"user{number}.toml").write_text(text)
    (folder / "disabled.toml").write_text(f"{text}enabled = false\n")
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@example.test")
    for arguments in (("add", "-A"), (*identity, "commit", "-q", "-m", "users")):
        subprocess.run(["git", "-C", site.repository, *arguments], check=True)


def format_auth(login: str, password: str) -> bytes:
    """Write the command."""
    return b"AUTH PLAIN " + base64.b64encode(f"\0{login}\0{password}".encode()) + b"\r\n"


async def attempt(port: int, context: ssl.SSLContext, address: str, auth: bytes) -> tuple[float, float, bytes]:
    """Log in once; give the seconds in all, those of AUTH alone, and the reply."""
    began = time.perf_counter()
    streams = await enter(port, context, address)
    await ask(streams, b"EHLO bench.test\r\n", b"250")
    asked = time.perf_counter()
    streams[1].write(auth)
    reply = await read_reply(streams[0])
    ended = time.perf_counter()
    streams[1].transport.abort()
    return ended - began, ended - asked, reply


async def compare(port: int, context: ssl.SSLContext, attempts: int) -> dict[str, list[float]]:
    """Measure AUTH of each kind in turn, one at a time, from an address that was never seen."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    order = [kind for kind in KINDS for _ in range(attempts)]
    random.shuffle(order)
    for number, kind in enumerate(order):
        address = f"127.{100 + number // 60_000}.{number // 250 % 250}.{1 + number % 250}"
        _, auth_s, reply = await attempt(port, context, address, format_auth(KINDS[kind], f"wrong{number}"))
        if not reply.startswith(b"535"):
            raise ConnectionError(f"{kind}: {reply!r}")
        times[kind].append(auth_s)
    return times


async def guess(port: int, context: ssl.SSLContext, numbers: list[int], tally: collections.Counter[str]) -> None:
    """Guess until no number is left, on connections that are opened again when they are closed."""
    while numbers:
        address = f"127.9.0.{1 + numbers[-1] % ADDRESSES}"
        try:
            streams = await enter(port, context, address)
            await ask(streams, b"EHLO bench.test\r\n", b"250")
            while numbers:
                streams[1].write(format_auth("user0", f"wrong{numbers.pop()}"))
                code = (await read_reply(streams[0]))[:3].decode()
                tally[code] += 1
                if code == "421":
                    break
            streams[1].transport.abort()
        except (OSError, asyncio.IncompleteReadError):
            tally["cut"] += 1


def run_guesses(pipe: Pipe, port: int, authority: str, count: int, connections: int) -> None:
    """Be the process of those who guess."""
    raise_limit()
    context = ssl.create_default_context(cafile=authority)
    tally: collections.Counter[str] = collections.Counter()

    async def main() -> None:
        numbers = list(range(count))
        await asyncio.gather(*(guess(port, context, numbers, tally) for _ in range(connections)))

    pipe.send("begin")
    began = time.perf_counter()
    asyncio.run(main())
    pipe.send((dict(tally), round(time.perf_counter() - began, 1)))


async def log_in_beside(
    port: int, context: ssl.SSLContext, pipe: Pipe | None
) -> dict[str, list[tuple[float, float, bytes]]]:
    """Log in as one good user after the other until the guesses are over, or all have."""
    found: dict[str, list[tuple[float, float, bytes]]] = {"known": [], "fresh": [], "remembered": []}
    running: set[asyncio.Task[None]] = set()

    async def log_in(number: int, kind: str) -> None:
        auth = format_auth(f"user{number}", f"right{number}")
        total_s, auth_s, reply = await attempt(port, context, f"127.8.0.{1 + number}", auth)
        found[kind].append((total_s, auth_s, reply[:3]))

    order = [(number, "known" if number < KNOWN else "fresh") for number in range(USERS)]
    random.shuffle(order)
    turn = 0
    while turn < 2 * USERS or (pipe is not None and not pipe.poll()):
        number, kind = order[turn % USERS]
        running.add(asyncio.create_task(log_in(number, kind if turn < USERS else "remembered")))
        turn += 1
        await asyncio.sleep(LOGIN_EVERY_S)
    await asyncio.gather(*running)
    return found


async def make_known(port: int, context: ssl.SSLContext) -> None:
    """Let the first half of the users log in from where they will come from."""
    for number in range(KNOWN):
        await attempt(port, context, f"127.8.0.{1 + number}", format_auth(f"user{number}", f"right{number}"))


@contextlib.contextmanager
def guessing(ingress: IngressProcess, site: IngressSite, count: int, connections: int):  # noqa: ANN201 - a generator
    """Run those who guess in a process of their own; give the pipe that says when they are done."""
    ours, theirs = multiprocessing.Pipe()
    arguments = (theirs, ingress.port("implicit"), str(site.certificate.authority_file), count, connections)
    process = multiprocessing.get_context("spawn").Process(target=run_guesses, args=arguments)
    process.start()
    ours.recv()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def show(found: dict[str, list[tuple[float, float, bytes]]]) -> None:
    """Print the times of good log-ins: connection, handshake, EHLO and AUTH together."""
    for kind, results in found.items():
        replies = dict(collections.Counter(code.decode() for _, _, code in results))
        print(f"  {kind:10}  {len(results):4} log-ins, replies {replies}")
        for part, place in (("in all", 0), ("AUTH", 1)):
            times = sorted(result[place] for result in results)
            p50_ms, p99_ms = (round(times[int(len(times) * share)] * 1e3) for share in (0.5, 0.99))
            print(f"    {part:6}  p50 {p50_ms} ms  p99 {p99_ms} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--guesses", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=400)
    parser.add_argument("--attempts", type=int, default=100)
    options = parser.parse_args()
    raise_limit()
    with tempfile.TemporaryDirectory(prefix="ptt-guessing-") as folder, running_server() as redis:
        print(json.dumps(describe_machine(Path(folder)), indent=2))
        site = make_site(Path(folder), redis.url)
        write_users(site)
        context = site.certificate.trust()
        with running_ingress(site) as ingress:
            times = asyncio.run(compare(ingress.port("implicit"), context, options.attempts))
            medians = {kind: statistics.median(values) for kind, values in times.items()}
            for kind, median in medians.items():
                gap = median / medians["wrong password"] - 1
                print(f"{kind:15} median {median * 1e3:.2f} ms of AUTH  ({gap:+.1%})  n={options.attempts}")
            asyncio.run(make_known(ingress.port("implicit"), context))
        with running_ingress(site) as ingress:
            port = ingress.port("implicit")
            with guessing(ingress, site, options.guesses, options.connections) as pipe:
                found = asyncio.run(log_in_beside(port, context, pipe))
                tally, seconds = pipe.recv()
            print(f"beside {options.guesses} guesses over {options.connections} connections in {seconds} s: {tally}")
            show(found)
        with running_ingress(site) as ingress:
            print("alone:")
            show(asyncio.run(log_in_beside(ingress.port("implicit"), context, None)))


if __name__ == "__main__":
    main()
