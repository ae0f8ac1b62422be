"""From a line to a verb and its argument, or a refusal. RFC 5321 sections 2.4, 4.1.1 and 4.5.3.1.4."""

import re
from collections.abc import Mapping

from ptt.core.errors import Refused
from ptt.ingress import replies
from ptt.ingress.inbox import MAX_LINE as MAX_AUTH_LINE

MAX_LINE = 512  # octets with CRLF; RFC 5321 section 4.5.3.1.4
MAX_LINES: Mapping[str, int] = {
    # RFC 1870 adds 26 octets for SIZE, RFC 6152 17 for BODY, RFC 6531 10 for SMTPUTF8, RFC 4954 500 for AUTH,
    # RFC 3461 section 5.4 100 for the value of ENVID and 8 for RET.
    # RFC 4865 adds 34 for HOLDUNTIL, RFC 2852 17 for BY, RFC 6710 15 for MT-PRIORITY, RFC 8689 11 for REQUIRETLS.
    "MAIL": MAX_LINE + 26 + 17 + 10 + 500 + len(" ENVID=") + 100 + len(" ") + 8 + 34 + 17 + 15 + 11,
    # RFC 3461 section 5.4: for NOTIFY and ORCPT.
    "RCPT": MAX_LINE + 530,
    "AUTH": MAX_AUTH_LINE,
}
"""The limits are constants: what one session does never changes them, for itself or for another."""

_VERB = re.compile(rb"[A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def split_command(line: bytes) -> tuple[str, str]:
    """Split a command line.

    Args:
        line: without its CRLF.

    Returns:
        The verb in upper case, and what follows it without blanks around.

    Raises:
        Refused: 500 or 501.
    """
    word, _, rest = line.partition(b" ")
    verb = word.upper().decode("ascii", "replace")
    if len(line) + 2 > MAX_LINES.get(verb, MAX_LINE):
        raise Refused(replies.AUTH_LINE_TOO_LONG if verb == "AUTH" else replies.LINE_TOO_LONG)
    # The threat: "NOOP<LF>MAIL ..." is two commands to a careless server and one to a careful one in front of it.
    if not _VERB.fullmatch(word):
        raise Refused(replies.MALFORMED_COMMAND)
    # RFC 3030 section 2: one blank. Of BDAT nothing is overlooked, for the next octets depend on how it is read.
    if _CONTROL.search(rest) or (verb == "BDAT" and rest.startswith(b" ")):
        raise Refused(replies.MALFORMED_ARGUMENT)
    try:
        return verb, rest.decode().strip(" ")
    except UnicodeDecodeError as error:
        raise Refused(replies.MALFORMED_ARGUMENT) from error
