"""An SMTP reply: code, enhanced status and text. RFC 5321 section 4.2, RFC 2034, RFC 3463."""

import re
from dataclasses import dataclass

from typing_extensions import override

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|$)")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; ``text`` is one line, without the code and without the enhanced status."""

    code: int
    enhanced_status: str = ""
    text: str = ""

    @override
    def __str__(self) -> str:
        """Give the reply as one line of the wire, without CRLF."""
        return " ".join(part for part in (str(self.code), self.enhanced_status, self.text) if part)

    @property
    def is_success(self) -> bool:
        """Tell whether the first digit is 2: all that a client may act on (RFC 5321 section 4.2)."""
        return 200 <= self.code < 300  # noqa: PLR2004 - the range is the definition

    @property
    def is_transient(self) -> bool:
        """Tell whether the first digit is 4."""
        return 400 <= self.code < 500  # noqa: PLR2004 - the range is the definition

    @property
    def is_permanent(self) -> bool:
        """Tell whether the first digit is 5."""
        return 500 <= self.code < 600  # noqa: PLR2004 - the range is the definition


def make_reply(code: int, text: str) -> Reply:
    """Build a reply from what a remote server sent.

    Args:
        code: the three digits.
        text: the text of all lines after the code, lines joined by LF.

    Returns:
        The reply with the enhanced status split off, and every control and non-ASCII character replaced by ``?``
        so that a remote server cannot write into a log or a report.
    """
    line = _UNPRINTABLE.sub("?", text.replace("\r", "").replace("\n", " ")).strip(" ")
    match = _ENHANCED.match(line)
    # RFC 2034 section 4: the class of the enhanced status must be the first digit of the code.
    if match and match[1][0] == str(code)[0]:
        return Reply(code, match[1], line[match.end() :])
    return Reply(code, "", line)
