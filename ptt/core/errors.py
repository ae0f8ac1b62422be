"""The one tree of exceptions that ptt raises.

    PttError
    ├── MalformedInput   (also ValueError)       bytes or text that a standard does not allow
    ├── Refused                                  a reply that the client gets word for word
    ├── Unavailable      (also ConnectionError)  Redis, DNS or Git cannot be asked now: try later
    │   └── NotPermitted                         Redis does not let this login do it: waiting is no use
    ├── UpdateRefused                            the primary DNS server does not take a record: trying again is no use
    ├── RotationRefused                          a key must not, or cannot, change its state as asked
    ├── NoSuchDomain                             the DNS says that the name does not exist
    ├── NoUsableKey                              no active DKIM key for the domain: the message waits
    ├── LeaseLost                                another worker owns the entry: leave it alone
    └── ConfigError                              the program must not start: exit 78

What a remote server answers is not an exception but a value: see ``ptt.core.outcome``.
"""

from ptt.core.reply import Reply


class PttError(Exception):
    """The root: whoever catches this catches all that ptt raises on purpose."""


class MalformedInput(PttError, ValueError):  # noqa: N818 - the name says what happened
    """Input that a standard does not allow; the text is safe to show to who sent it."""


class Refused(PttError):  # noqa: N818 - the name says what happened
    """A command or message is refused with ``reply``, which ingress answers word for word."""

    def __init__(self, reply: Reply) -> None:
        """Keep the reply."""
        super().__init__(str(reply))
        self.reply = reply


class Unavailable(PttError, ConnectionError):  # noqa: N818 - the name says what happened
    """A server that ptt needs cannot be asked now; the text is for the log only."""


class NotPermitted(Unavailable):
    """The login in redis.url is refused, or may not do this. Roles wait for it like for a server that is away."""


class UpdateRefused(PttError):  # noqa: N818 - the name says what happened
    """The primary DNS server does not take a record as things are; the text tells the operator why."""


class RotationRefused(PttError):  # noqa: N818 - the name says what happened
    """A key must not, or cannot, change its state as asked; the text tells the operator why."""


class NoSuchDomain(PttError):  # noqa: N818 - the name says what happened
    """NXDOMAIN: the name does not exist (RFC 8020)."""


class NoUsableKey(PttError):  # noqa: N818 - the name says what happened
    """No active DKIM key for the From domain: the message waits and is never sent unsigned."""


class LeaseLost(PttError):  # noqa: N818 - the name says what happened
    """The entry is owned by another worker by now, so this one must change nothing."""


class ConfigError(PttError):
    """Settings that cannot be used; one line a problem, ``file: key: reason``."""

    def __init__(self, *problems: str) -> None:
        """Keep each problem as a line of its own."""
        super().__init__("\n".join(problems))
        self.problems = problems


# The exit codes of all programs; those above 63 are of sysexits.h.
FAILED = 1
USAGE = 2
NOT_FOUND = 3
PROBLEMS_FOUND = 4
TEMPORARY = 75  # EX_TEMPFAIL
NOT_PERMITTED = 77  # EX_NOPERM
CONFIGURATION = 78  # EX_CONFIG

_CODES: tuple[tuple[type[PttError], int], ...] = (
    (ConfigError, CONFIGURATION),
    (NotPermitted, NOT_PERMITTED),
    (Unavailable, TEMPORARY),
    (MalformedInput, USAGE),
    (NoSuchDomain, NOT_FOUND),
    (PttError, FAILED),
)


def decide_exit_code(error: PttError) -> int:
    """Give the exit code that an exception of ours means."""
    return next(code for kind, code in _CODES if isinstance(error, kind))
