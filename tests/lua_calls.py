"""What each Lua file does to which kind of key, read from its text: for the test that rights and scripts fit.

A key is known by the name that it has in the file's `-- KEYS:` line, by the constant in front of it, or by the name of
the helper's parameter in the prelude. What cannot be resolved fails: nothing is passed over.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ptt.store import keys

FOLDER = Path(__file__).parents[1] / "ptt/store/lua"
ID, TO = "1ABCDEFGHJKMNPQRSTVW", "one.test"

KINDS: Mapping[str, tuple[str, ...]] = {
    "message": (keys.MESSAGE + ID,),
    "message of the report": (keys.MESSAGE + ID,),
    "delivery": (keys.DELIVERY + ID,),
    "its delivery": (keys.DELIVERY + ID,),
    "message or delivery": (keys.MESSAGE + ID, keys.DELIVERY + ID),
    "state": (keys.MESSAGE + ID, keys.DELIVERY + ID),
    "content list": (keys.CONTENT + ID,),
    "sign queue": (keys.SIGN,),
    "reports": (keys.REPORTS,),
    "sign queue or reports": (keys.SIGN, keys.REPORTS),
    "its queue": (keys.QUEUE + TO,),
    "destinations": (keys.DESTINATIONS,),
    "parked": (keys.PARKED,),
    "events": (keys.EVENTS,),
    "done": (keys.DONE + ID,),
    "backoff": (keys.BACKOFF + TO,),
    "same": (keys.SAME + "x",),
    "counts": (keys.RATE + "alice",),
    "known mark": (keys.KNOWN + "x",),
    "guesses of the login from this known network": (keys.GUESSES + "x",),
    "guesses of the network": (keys.GUESSES + "x",),
    "number of guesses at the login": (keys.GUESSES + "x",),
}
"""Keys by what the files call them; ``queue`` is left to whose file it is."""
CONSTANTS: Mapping[str, str] = {
    "MESSAGE": "message",
    "DELIVERY": "delivery",
    "CONTENT": "content list",
    "DONE": "done",
    "BACKOFF": "backoff",
}
_CALL = re.compile(r"redis\.call\('([A-Z]+)'(?:, (.*))?")
_HELPER = re.compile(r"^local function (\w+)\(.*?\)\n(.*?)^end$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class LuaCall:
    """One command on one key, or without a key."""

    script: str
    command: str
    key: str


def list_scripts() -> list[str]:
    """Name all scripts."""
    return sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem != "prelude")


@dataclass(frozen=True, slots=True)
class _File:
    """One Lua file, as the role reads it that calls it."""

    script: str
    text: str
    names: tuple[str, ...]
    """Of its keys, in their order."""
    is_admin: bool


def read_calls(script: str, *, is_admin: bool) -> Iterator[LuaCall]:
    """Give what a script may do, with the helpers that it calls."""
    text = (FOLDER / f"{script}.lua").read_text()
    helpers = dict(_HELPER.findall((FOLDER / "prelude.lua").read_text()))
    used = {name for name in helpers if re.search(rf"\b{name}\(", text)}
    used |= {name for name in helpers for user in used if re.search(rf"\b{name}\(", helpers[user])}
    file = _File(script, text, _read_names(script), is_admin)
    yield LuaCall(script, "TIME", "")
    for body in [text, *(helpers[name] for name in sorted(used))]:
        for command, rest in _find_calls(body):
            for key in _resolve(file, command, rest):
                yield LuaCall(script, command, key)


def _read_names(script: str) -> tuple[str, ...]:
    text = (FOLDER / f"{script}.lua").read_text()
    header = re.search(r"^-- (?:.* )?KEYS: (.*?)(?=   ARGV|;|\n)", text, re.MULTILINE)
    assert header, f"{script}.lua: no KEYS line"
    if as_in := re.match(r"as for (\w+)$", header[1]):
        return _read_names(as_in[1])
    return tuple(name.strip() for name in header[1].split(","))


def count_calls() -> tuple[int, int]:
    """Give how often the files say redis.call, and how many of these can be read."""
    texts = [path.read_text() for path in FOLDER.glob("*.lua")]
    return sum(text.count("redis.call(") for text in texts), sum(len(list(_find_calls(text))) for text in texts)


def _find_calls(text: str) -> Iterator[tuple[str, str]]:
    for piece in text.split("redis.call(")[1:]:
        match = _CALL.match("redis.call(" + piece.replace("\n", " "))
        if match:
            yield match[1], match[2] or ""


def _resolve(file: _File, command: str, rest: str) -> Iterator[str]:
    if command == "LLEN" and not re.search(r"push_wakeups\(.*, true\)", file.text):
        return  # asked by those who doubt the flags only
    if command in {"SELECT", "TIME"}:
        yield ""
        return
    count = 1 if command != "UNLINK" else len(re.findall(r"KEYS\[|\.\. id", rest.partition(")")[0]))
    for expression in rest.split(", ")[:count]:
        yield from _resolve_one(file, expression.partition(")")[0].strip())


def _resolve_one(file: _File, expression: str) -> Iterator[str]:
    if expression == "key":
        assigned = re.search(r"local key = (\w+) \.\. id|unclaim\(KEYS\[1\], (\w+)", file.text)
        assert assigned, f"{file.script}.lua: what is key?"
        expression = assigned[1] or assigned[2]
    if index := re.match(r"KEYS\[(\d)\]", expression):
        expression = file.names[int(index[1]) - 1]
    if not expression.startswith("PREFIX"):
        expression = expression.partition(" ..")[0]
    wakes = {name: f"'{name}'" in file.text or file.is_admin for name in ("sign", "relay")}
    flags = {"sign": f"{keys.WAKE}sign", "relay": f"{keys.WAKE}relay:{TO}"}
    if file.script == "begin" and expression == "WAKE":
        yield from flags.values()
    elif assigned := re.search(rf"local {re.escape(expression)} = .*KEYS.*", file.text):
        for index in re.findall(r"KEYS\[(\d)\]", assigned[0]):
            yield from KINDS[file.names[int(index) - 1]]
    elif expression in {"WAKE", "list"}:
        yield from (flags[name] if expression == "WAKE" else name for name in wakes if wakes[name])
    elif expression == "queue":
        yield from _resolve_queue(file)
    elif expression.startswith("PREFIX .. 'q:'"):
        yield keys.QUEUE + TO
    else:
        yield from KINDS[CONSTANTS.get(expression, expression)]


def _resolve_queue(file: _File) -> tuple[str, ...]:
    if file.names[0] in {"sign queue", "reports"}:
        return KINDS[file.names[0]]
    return (keys.QUEUE + TO, keys.SIGN) if file.is_admin else (keys.QUEUE + TO,)
