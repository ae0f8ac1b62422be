"""Messages made by a seeded generator, as hard on canonicalisation as those of ``dkim_messages.py``, and many."""

import random

from ptt.core.signature import OVERSIGNED
from tests.dkim_messages import AUTHORS, REPEATED

_FOLDS = (b"\r\n ", b"\r\n\t", b" \r\n \t", b" ", b"\t", b"  \t ", b"\r\n \r\n ")
_WORDS = b"abcXYZ019;:=\".<>()\\'-_,@"
_SINGLE = tuple(name for name in OVERSIGNED if name != b"from")


def make_message(random_: random.Random) -> bytes:
    """Make a message of DOMAIN that can be signed: odd folds, blanks, letter case, 8-bit text, empty and odd bodies."""
    names = [name for name in _SINGLE if random_.random() < 0.5]
    names += [random_.choice(REPEATED).encode() for _ in range(random_.randrange(5))]
    fields = [_vary_case(name, random_) + b":" + _make_value(random_) for name in names]
    fields.append(b"From:" + _make_blanks(random_) + random_.choice(AUTHORS).encode() + _make_blanks(random_) + b"\r\n")
    random_.shuffle(fields)
    return b"".join(fields) + _make_body(random_)


def _make_body(random_: random.Random) -> bytes:
    kind = random_.randrange(12)
    if kind == 0:
        return b""
    if kind == 1:
        return b"\r\n" + b"\r\n" * random_.randrange(4)
    lines = [_make_line(random_) for _ in range(random_.randrange(1, 12))]
    return b"\r\n" + b"\r\n".join(lines) + b"\r\n" + b"\r\n" * random_.randrange(3)


def _make_line(random_: random.Random) -> bytes:
    kind = random_.randrange(6)
    if kind == 0:
        return _make_blanks(random_)
    if kind == 1:
        return b"." * random_.randrange(4)
    words = (_make_word(random_) + _make_blanks(random_) for _ in range(random_.randrange(6)))
    return _make_blanks(random_) + b"".join(words)


def _make_value(random_: random.Random) -> bytes:
    parts = (_make_word(random_) + random_.choice(_FOLDS) for _ in range(random_.randrange(5)))
    return _make_blanks(random_) + b"".join(parts) + _make_word(random_) + _make_blanks(random_) + b"\r\n"


def _make_word(random_: random.Random) -> bytes:
    if random_.randrange(8) == 0:
        return bytes(random_.randrange(0x80, 0x100) for _ in range(random_.randrange(1, 4)))
    return bytes(random_.choice(_WORDS) for _ in range(random_.randrange(1, 14)))


def _make_blanks(random_: random.Random) -> bytes:
    return bytes(random_.choice(b" \t") for _ in range(random_.choice((0, 0, 0, 1, 1, 2, 5))))


def _vary_case(name: bytes, random_: random.Random) -> bytes:
    return random_.choice((name, name.title(), name.upper()))
