"""The mailboxes of From and Sender, read strictly: what two parsers could read differently is refused.

Only the modern grammar of RFC 5322 section 3.4 is taken, with two habits of living software: unquoted dots in a display
name (``John Q. Public``) and one plain comment after a bare address (``alice@example.org (Alice)``). Refused: groups
(RFC 6854), routes, comments elsewhere, blanks around ``@``, empty list elements, an encoded-word in the local part,
``<`` or ``>`` in a quoted display name, and an escaped character beside ``@`` in one: parsers exist that find another
address in each of these. Characters beyond ASCII need SMTPUTF8 (RFC 6532 section 3.2), also in display names.
"""

import re

from ptt.core.address import Address, parse_address
from ptt.core.errors import MalformedInput
from ptt.core.path import ToAscii

MAX_MAILBOXES = 50
"""Authors of one message: each is looked up, and nobody writes with more."""

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff"
_BLANK = r"[ \t]*+"
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_ADDRESS = rf'(?:{_QUOTED}|[{_ATEXT}.]++)@[^\s<>(),;:"@\\]++'
# Each quantifier is possessive: no input can make the matching go back, so the time is linear.
_MAILBOX = re.compile(
    rf"{_BLANK}(?:(?P<bare>{_ADDRESS}){_BLANK}(?:\([^()\\<>@,\"]*+\))?+"
    rf"|(?P<name>(?:(?:[{_ATEXT}.]++|{_QUOTED}){_BLANK})*+)<(?P<angle>{_ADDRESS})>)"
    rf"{_BLANK}(?P<end>,|\Z)"
)


def parse_mailboxes(text: str, *, smtputf8: bool, to_ascii: ToAscii) -> tuple[Address, ...]:
    """Parse a mailbox-list (RFC 5322 section 3.4).

    Args:
        text: the value of a From or Sender field, unfolded.
        smtputf8: whether the client asked for SMTPUTF8.
        to_ascii: as for `ptt.core.address.parse_domain`.

    Raises:
        MalformedInput: if it is none, or not every parser would find the same addresses in it.
    """
    addresses: list[Address] = []
    position = 0
    while True:
        mailbox = _MAILBOX.match(text, position)
        if mailbox is None or len(addresses) == MAX_MAILBOXES:
            raise MalformedInput("not a plain list of mailboxes")
        _check_display_name(mailbox["name"] or "")
        addresses.append(_parse_one(mailbox["bare"] or mailbox["angle"], smtputf8=smtputf8, to_ascii=to_ascii))
        if not mailbox["end"]:
            return tuple(addresses)
        position = mailbox.end()


def _check_display_name(name: str) -> None:
    # The threat: "<boss@example.org>" <me@example.org> shows, or is taken for, the first address by careless readers.
    if "<" in name or ">" in name:
        raise MalformedInput("angle bracket in the display name")
    # A parser that does not know \" ends the string early and reads what follows as an address.
    if "\\" in name and "@" in name:
        raise MalformedInput("escaped character and @ in the display name")


def _parse_one(text: str, *, smtputf8: bool, to_ascii: ToAscii) -> Address:
    # RFC 2047 section 5: no encoded-word in an addr-spec; who decodes it anyway finds another mailbox.
    if "=?" in text:
        raise MalformedInput("encoded-word in an address")
    return parse_address(text, smtputf8=smtputf8, to_ascii=to_ascii)
