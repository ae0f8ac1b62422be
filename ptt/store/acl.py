"""Who may do what in Redis: one user for each role, with the least rights that its work needs.

The rules name commands and keys together (selectors, Redis 7.0): the relay role may record outcomes, and may not write
what was sealed or signed. Functions run with the rights of their caller, so these rules hold for them too. No role has
EVAL, SCRIPT, FUNCTION, KEYS, SCAN, CONFIG or FLUSH. Tests hold the rules against every Lua file and real servers.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ptt.core.wakeup import RELAY_QUEUE, SIGN_QUEUE
from ptt.store import keys

ADMIN = "admin"
ROLES = ("ingress", "sign", "relay", ADMIN)

_MESSAGE, _DELIVERY, _CONTENT, _QUEUE = (f"{name}*" for name in (keys.MESSAGE, keys.DELIVERY, keys.CONTENT, keys.QUEUE))
_DONE, _BACKOFF, _RATE = f"{keys.DONE}*", f"{keys.BACKOFF}*", f"{keys.RATE}*"
_SAME = f"{keys.SAME}*"
_GUESSES, _KNOWN = f"{keys.GUESSES}*", f"{keys.KNOWN}*"
_WAKE_SIGN = f"{keys.WAKE}{SIGN_QUEUE}"
_WAKE_RELAY = f"{keys.WAKE}{RELAY_QUEUE}:*"


@dataclass(frozen=True, slots=True)
class Rule:
    """Commands that may be used on keys."""

    access: Literal["R", "W", "RW"]
    """To read, to write, or both."""
    commands: str
    patterns: tuple[str, ...]

    def format(self) -> str:
        """Write it as a selector."""
        sign = "~" if self.access == "RW" else f"%{self.access}~"
        words = [*(f"+{command}" for command in self.commands.split()), *(sign + pattern for pattern in self.patterns)]
        return f"({' '.join(words)})"


WITHOUT_KEYS = "ping hello select multi exec time info"
"""Commands of every role; INFO is for the memory that is left, and how long Redis has been up."""

_CALL = Rule("RW", "fcall", (f"{keys.PREFIX}*",))
"""Calling a function on any key gives no right to what it does there."""
_HISTORY = (Rule("W", "xadd", (keys.EVENTS,)), Rule("W", "zadd", (keys.PARKED,)))
_FORGET = (Rule("W", "unlink", (_MESSAGE, _DELIVERY, _CONTENT)), Rule("W", "set", (_DONE,)))

RULES: Mapping[str, Sequence[Rule]] = {
    "ingress": (
        _CALL,
        Rule("W", "hset hsetnx hexists del pexpire", (_MESSAGE,)),
        Rule("W", "rpush expire persist", (_CONTENT,)),
        Rule("W", "unlink", (_MESSAGE, _CONTENT)),
        Rule("W", "exists", (_DONE,)),
        Rule("RW", "get set del", (_SAME,)),
        Rule("RW", "hmget hset pexpire", (_RATE,)),
        Rule("RW", "get incr decr exists lindex lpush lrem ltrim pexpire", (_GUESSES,)),
        Rule("RW", "exists pttl set", (_KNOWN,)),
        Rule("W", "zadd zrem", (keys.SIGN,)),
        Rule("W", "set", (_WAKE_SIGN,)),
        Rule("W", "lpush", (SIGN_QUEUE,)),
    ),
    "sign": (
        _CALL,
        *_HISTORY,
        *_FORGET,
        Rule("RW", "hget hmget hset hsetnx hdel hincrby", (_MESSAGE,)),
        Rule("RW", "hget hmget hset hdel hincrby", (_DELIVERY,)),
        Rule("R", "lrange", (_CONTENT,)),
        Rule("RW", "zrangebyscore zscore zadd zrem", (keys.SIGN, keys.REPORTS)),
        Rule("W", "zadd", (_QUEUE, keys.DESTINATIONS)),
        Rule("W", "set", (_WAKE_RELAY,)),
        Rule("W", "lpush", (RELAY_QUEUE,)),
        Rule("W", "set del", (_WAKE_SIGN,)),
        Rule("RW", "brpop lpush llen", (SIGN_QUEUE,)),
        Rule("R", "hget", (_BACKOFF,)),
    ),
    "relay": (
        _CALL,
        *_HISTORY,
        *_FORGET,
        Rule("R", "hget hmget", (_MESSAGE,)),
        Rule("RW", "hget hmget hset hsetnx hdel hexists hincrby", (_DELIVERY,)),
        Rule("R", "lindex", (_CONTENT,)),
        Rule("RW", "zrange zrangebyscore zscan zscore zadd zrem exists", (_QUEUE,)),
        Rule("RW", "zrangebyscore zadd zrem", (keys.DESTINATIONS,)),
        Rule("RW", "hget hmget hset hsetnx del pexpire", (_BACKOFF,)),
        Rule("W", "zadd", (keys.REPORTS,)),
        Rule("W", "set del", (_WAKE_RELAY,)),
        Rule("RW", "brpop lpush llen", (RELAY_QUEUE,)),
    ),
    ADMIN: (
        _CALL,
        *_FORGET,
        Rule("RW", "hget hmget hset hdel hexists hincrby", (_MESSAGE,)),
        Rule("RW", "hget hmget hset hdel hexists hincrby hkeys", (_DELIVERY,)),
        Rule("RW", "exists zadd zrem zscan zscore", (_QUEUE, keys.SIGN)),
        Rule("RW", "zadd zrem zscan zscore", (keys.PARKED,)),
        Rule("RW", "zadd zrem zscan", (keys.DESTINATIONS,)),
        Rule("RW", "zadd zrem zscan zscore", (keys.REPORTS,)),
        Rule("RW", "hmget del", (_BACKOFF,)),
        Rule("R", "hmget", (_RATE,)),
        Rule("RW", "xadd xrange", (keys.EVENTS,)),
        Rule("W", "set", (f"{keys.WAKE}*",)),
        Rule("W", "lpush", (SIGN_QUEUE, RELAY_QUEUE)),
    ),
}

ADMIN_COMMANDS = "config|get acl|dryrun function|load function|list function|delete"
"""What the administrator has beside: to check the server, and to load and delete the functions."""

REPLAYED = (
    ("HSET", f"{keys.MESSAGE}x", "field", "value"),
    ("ZADD", f"{keys.QUEUE}x", "1", "member"),
    ("DEL", f"{keys.DELIVERY}x"),
    ("LPUSH", RELAY_QUEUE, "wake-up"),
)
"""Some of what functions write: the default user must be allowed them, or a restart forgets all of it."""


DEFAULT_USER = "user default off resetpass ~* &* +@all"
"""Off, so that nobody is this user without a password; and yet with all rights, because a server reads its append-only
file as this user: many versions leave out each transaction that it may not do (https://github.com/redis/redis/issues/14541,
https://github.com/valkey-io/valkey/issues/3983), which is all that functions have written."""


def name_user(role: str) -> str:
    """Give the name of a role's user."""
    return f"ptt-{role}"


def format_acl(passwords: Mapping[str, str]) -> Iterator[str]:
    """Write the ACL file, one line for each user; nobody can log in as the default user.

    Args:
        passwords: by role; a role without one cannot log in.
    """
    yield DEFAULT_USER
    for role in ROLES:
        commands = f"{WITHOUT_KEYS} {ADMIN_COMMANDS if role == ADMIN else ''}"
        yield " ".join(
            (
                *("user", name_user(role), "on", *_format_password(passwords.get(role))),
                *("resetchannels", "-@all", *(f"+{command}" for command in commands.split())),
                *(rule.format() for rule in RULES[role]),
            )
        )


def _format_password(password: str | None) -> tuple[str, ...]:
    # Redis keeps the SHA-256 of passwords; ours are random, so that nobody finds them by guessing.
    return () if password is None else (f"#{hashlib.sha256(password.encode()).hexdigest()}",)
