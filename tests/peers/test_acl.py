"""What `ptt redis acl` grants and denies, asked of real servers: Debian's Redis and the embedded Valkey."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis
from click.testing import CliRunner
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from ptt.cli import main
from ptt.core.address import Domain
from ptt.core.envelope import QueueId
from ptt.core.errors import ConfigError, NotPermitted
from ptt.settings import put_login
from ptt.store import keys
from ptt.store.acl import ADMIN, ROLES, RULES, WITHOUT_KEYS, format_acl, name_user
from ptt.store.connection import RedisAddress
from ptt.store.queue_control import QueueControl
from ptt.store.scripts import SCRIPTS
from ptt.store.server import check_server
from tests.lua_calls import ID, TO, LuaCall, count_calls, list_scripts, read_calls
from tests.peers.queue_tools import ANN
from tests.servers.redis import SAFE, RedisServer, debian_redis, running_server
from tests.spooled import accept, sign

DATA = Path(__file__).parents[1] / "data/acl"
USED_BY = {
    "ingress": ("spool", "withdraw", "guess", "welcome"),
    "sign": ("begin", "claim_sign", "signed", "park_unsigned", "put_back", "claim_report", "report", "sweep_sign"),
    "relay": ("begin", "claim_relay", "unclaim_relay", "renew", "commit", "record", "park_relay", "sweep"),
    ADMIN: ("hold", "release", "retry", "give_up", "drop_report", "end_backoff"),
}
"""Which scripts the adapters of a role call; all may call ``ready``."""
DIRECT = {
    "ingress": ("RPUSH {c} x", "EXPIRE {c} 1"),
    "sign": ("LRANGE {c} 0 -1", "BRPOP sign 1", "LPUSH sign x"),
    "relay": ("LINDEX {c} 0", "BRPOP relay 1", "LPUSH relay x", "ZSCAN {q} 0"),
    ADMIN: (
        *("HMGET {m} f", "HMGET {d} f", "HKEYS {d}", "XRANGE {e} - +", "HMGET {b} f", "HMGET {u} f"),
        *(f"{command} {{{name}}} 0" for command in ("ZSCAN", "ZSCORE") for name in "qsp"),
        *("ZSCAN {t} 0", "ZSCAN {r} 0", "ZSCORE {r} 0"),
    ),
}
"""What the adapters and kombu do without a script."""
NAMES = {
    "m": keys.MESSAGE + ID,
    "d": keys.DELIVERY + ID,
    "c": keys.CONTENT + ID,
    "q": keys.QUEUE + TO,
    "s": keys.SIGN,
    "p": keys.PARKED,
    "t": keys.DESTINATIONS,
    "r": keys.REPORTS,
    "e": keys.EVENTS,
    "b": keys.BACKOFF + TO,
    "u": keys.RATE + "alice",
    "g": keys.GUESSES + "x",
    "k": keys.KNOWN + "x",
    "y": keys.SAME + "x",
}
ARGUMENTS = {
    "HSET": "f v", "HSETNX": "f v", "HGET": "f", "HMGET": "f", "HDEL": "f", "HEXISTS": "f", "HINCRBY": "f 1",
    "ZADD": "1 m", "ZREM": "m", "ZSCORE": "m", "ZRANGE": "0 0", "ZRANGEBYSCORE": "0 1", "SET": "1", "LPUSH": "x",
    "XADD": "* f v", "LINDEX": "0", "LREM": "1 x", "LTRIM": "0 0", "PEXPIRE": "1", "SELECT": "0",
}  # fmt: skip
DENIALS = (
    "ACL failure in script",
    "can't run this command",
    "can't access at least one of the keys",
    "command not allowed. If the enable-",  # DEBUG and MODULE: before it looks at rights
)
"""What is denied within a function is told so."""
MATRIX_KEYS = (*NAMES.values(), keys.DONE + ID, f"{keys.WAKE}sign", f"{keys.WAKE}relay:{TO}", "sign", "relay", "other")


def grant(client: redis.Redis, password: str = "p") -> None:
    """Make the users."""
    for line in format_acl(dict.fromkeys(ROLES, password)):
        _, user, rules = line.split(" ", 2)
        if user != "default":
            client.execute_command("ACL", "SETUSER", user, "reset", *re.findall(r"\([^)]*\)|\S+", rules))  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Run a server with the users of all roles."""
    with running_server(debian_redis() if request.param == "redis" else None) as server, server.client() as client:
        grant(client)
        yield server


def is_granted(client: redis.Redis, role: str, command: list[str]) -> bool:
    """Tell whether the user of a role may do this."""
    # What is denied is told as a text; an error would be a command that is wrong, or that the server does not have.
    return bool(client.execute_command("ACL", "DRYRUN", name_user(role), *command) == b"OK")  # type: ignore[no-untyped-call]


def list_needed(role: str) -> set[tuple[str, ...]]:
    """Give all commands that a role needs, from its scripts and its adapters."""
    calls = {call for script in USED_BY[role] for call in read_calls(script, is_admin=role == ADMIN)}
    wrong_wake = {"sign": f"{keys.WAKE}relay", "relay": f"{keys.WAKE}sign"}.get(role)
    mine = {call for call in calls if not (call.script == "begin" and wrong_wake and call.key.startswith(wrong_wake))}
    merged = {_merge(call, mine) for call in mine}
    return merged | {tuple(line.format(**NAMES).split()) for line in DIRECT[role]}


def _merge(call: LuaCall, calls: set[LuaCall]) -> tuple[str, ...]:
    # UNLINK takes several keys at once: all must be in one rule.
    if call.command == "UNLINK":
        return ("UNLINK", *sorted({one.key for one in calls if (one.script, one.command) == (call.script, "UNLINK")}))
    return tuple(f"{call.command} {call.key} {ARGUMENTS.get(call.command, '')}".split())


@pytest.mark.parametrize("role", ROLES)
def test_rights_of_a_role_suffice_for_all_that_its_scripts_do(server: RedisServer, role: str) -> None:
    """Who changes a script changes the rules: each command on each key in it is granted."""
    with server.client() as client:
        denied = [command for command in sorted(list_needed(role)) if not is_granted(client, role, list(command))]
    assert not denied


def test_all_calls_of_all_scripts_are_read() -> None:
    """The reader of the Lua files passes nothing over, and each script is used by a role."""
    found, read = count_calls()
    assert found == read
    assert {name for names in USED_BY.values() for name in names} | {"ready"} == set(list_scripts()) == SCRIPTS.keys()


@pytest.mark.parametrize("role", ROLES)
def test_rights_of_a_role_are_all_used(role: str) -> None:
    """No rule grants a command that neither a script nor an adapter of the role uses on such a key."""
    used = {(words[0].lower(), key) for words in list_needed(role) for key in words[1:]}
    unused = [
        (command, pattern)
        for rule in RULES[role]
        for command in rule.commands.split()
        for pattern in rule.patterns
        if command != "fcall"
        and not any(name == command and re.fullmatch(pattern.replace("*", ".+"), key) for name, key in used)
    ]
    assert not unused


def read_matrix(client: redis.Redis) -> dict[str, dict[str, str]]:
    """Give what each role may do to each kind of key; ``-`` is what has no key."""
    lines = [line for line in (DATA / "commands.txt").read_text().splitlines() if not line.startswith("#")]
    matrix: dict[str, dict[str, str]] = {}
    for role in ROLES:
        for key in ("-", *MATRIX_KEYS):
            asked = [line for line in lines if ("KEY" in line.split()) is (key != "-")]
            granted = [
                " ".join(word for word in line.split()[:2] if word.isupper() and word != "KEY")
                for line in asked
                if is_granted(client, role, [key if word == "KEY" else word for word in line.split()])
            ]
            matrix.setdefault(role, {})[key] = " ".join(granted)
    return matrix


def test_matrix_of_roles_commands_and_keys_is_the_golden_one(server: RedisServer) -> None:
    """Whatever is granted is in tests/data/acl/matrix.toml, looked at by a person; both servers agree."""
    golden = tomllib.loads((DATA / "matrix.toml").read_text())
    with server.client() as client:
        assert read_matrix(client) == golden


def snapshot(client: redis.Redis) -> dict[bytes, bytes]:
    """Give all keys with their values."""
    return {name: cast("bytes", client.dump(name)) for name in client.scan_iter()}


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_server_with_these_users_keeps_all_mail_when_it_starts_again(tmp_path: Path, kind: str) -> None:
    """A server reads its append-only file as the default user: what that user may not do, many versions forget."""
    users = [*format_acl(dict.fromkeys(ROLES, "p")), "user root on >r ~* &* +@all"]
    (tmp_path / "users.acl").write_text("\n".join(users) + "\n")
    options = {**SAFE, "aclfile": str(tmp_path / "users.acl")}
    with running_server(debian_redis() if kind == "redis" else None, options, password="r") as server:
        check_server(login(server, ADMIN), allow_unsafe=False)
        queue_ids = [await accept(login(server, "ingress"), number, ANN) for number in range(5)]
        with server.client() as client:
            before = [client.hgetall(keys.MESSAGE + queue_id) for queue_id in queue_ids]
            assert all(before)
        server.kill()
        server.start()
        with server.client() as client:
            assert [client.hgetall(keys.MESSAGE + queue_id) for queue_id in queue_ids] == before
            assert client.zrange(keys.SIGN, 0, -1) == [queue_id.encode() for queue_id in queue_ids]
        with redis.Redis(unix_socket_path=str(server.socket)) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()


@pytest.mark.parametrize("rights", ["-@all", "~* -@all +@read", "~other +@all"])
def test_server_that_would_forget_at_its_next_start_is_refused(rights: str) -> None:
    """Whoever wrote the ACL: a default user with too few rights loses mail, so ptt does not start, nor load."""
    with running_server(debian_redis()) as server:
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            grant(client)
            client.execute_command("ACL", "SETUSER", "root", "on", ">r", "~*", "&*", "+@all")
            client.execute_command("ACL", "SETUSER", "default", "reset", *rights.split())
        for url in (login(server, ADMIN), RedisAddress(url=f"unix://root:r@{server.socket}?db=1")):
            with pytest.raises(ConfigError, match="user default"):
                check_server(url, allow_unsafe=False)


def login(server: RedisServer, role: str) -> RedisAddress:
    """Give the server as a role reaches it."""
    return RedisAddress(url=f"unix://{name_user(role)}:p@{server.socket}?db=1")


async def test_relay_that_was_taken_over_is_denied_every_probe(server: RedisServer) -> None:
    """With the relay's login: other queues, content, seals, code and the server itself are out of reach.

    One message waits for its signature, one for its delivery. Nothing that is tried changes anything.
    """
    with server.client() as client, server.client(0) as broker:
        client.flushall()
        check_server(RedisAddress(url=server.url), allow_unsafe=False)
        address = RedisAddress(url=server.url)
        signed = await accept(address, 1, ANN)
        sign(address, signed, ANN)
        waiting = await accept(address, 2, ANN)
        before, wakeups = snapshot(client), snapshot(broker)
        places = {"SIGNED": signed, "WAITING": waiting} | {name: SCRIPTS[name].function for name in SCRIPTS}
        probes = read_probes(places)
        assert len(probes) >= 60
        login = {"username": "ptt-relay", "password": "p"}
        users = [redis.Redis(unix_socket_path=str(server.socket), db=db, **login) for db in (0, 1)]  # type: ignore[arg-type]
        for database, words in probes:
            with pytest.raises(ResponseError) as raised:
                users[database].execute_command(*words)  # type: ignore[no-untyped-call]
            told = str(raised.value)
            assert isinstance(raised.value, NoPermissionError) or any(text in told for text in DENIALS), (words, told)
        assert (snapshot(client), snapshot(broker)) == (before, wakeups)
        client.flushall()


def read_probes(places: dict[str, str]) -> list[tuple[int, list[str]]]:
    """Read the probes: number of the database, then the command; @NAME@ stands for a queue-id or a function."""
    probes = []
    for line in (DATA / "relay_probes.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            text = re.sub(r"@(\w+)@", lambda match: places[match[1]], line).replace("PTT:", keys.PREFIX)
            database, *words = shlex.split(text)
            probes.append((int(database), words))
    return probes


def test_commands_without_keys_are_few(server: RedisServer) -> None:
    """No role but the administrator has any command of the server's own."""
    with server.client() as client:
        for role in ("ingress", "sign", "relay"):
            user = cast("dict[str, object]", client.acl_getuser(name_user(role)))
            granted = {str(word).removeprefix("+") for word in cast("list[str]", user["commands"])} - {"-@all"}
            assert granted == set(WITHOUT_KEYS.split())


@pytest.mark.parametrize(
    ("role", "password", "reason"),
    [("relay", "p", "no permissions"), (ADMIN, "wrong", "invalid username-password")],
)
def test_command_with_a_login_that_may_not_ends_with_77(
    server: RedisServer, tmp_path: Path, role: str, password: str, reason: str
) -> None:
    """EX_NOPERM and one line: waiting is no use, another login is."""
    (tmp_path / "ptt.toml").write_text(f'[redis]\nurl = "{put_login(server.url, name_user(role), password)}"\n')
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "ptt.toml"), "queue", "list"], prog_name="ptt")
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 77
    assert re.match(rf"redis: the login in redis\.url has no right to this: .*{reason}", line, re.IGNORECASE), line


def test_what_a_function_may_not_do_is_not_permitted(server: RedisServer) -> None:
    """The call is granted to each role, what it does in Redis is not."""
    check_server(RedisAddress(url=server.url), allow_unsafe=True)
    with pytest.raises(NotPermitted, match="has no right to this"):
        QueueControl(login(server, "ingress"), "root").retry(QueueId(ID), Domain(TO))
