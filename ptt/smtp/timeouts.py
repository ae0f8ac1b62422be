"""How long each phase may take. RFC 5321 section 4.5.3.2 gives the least values."""

from collections.abc import Mapping

from ptt.core.verdict import Phase

_SECONDS: Mapping[Phase, float] = {
    Phase.CONNECT: 30,  # no value in the RFC; what a TCP connection needs that is ever going to work
    Phase.GREETING: 300,  # section 4.5.3.2.1
    Phase.EHLO: 300,
    Phase.STARTTLS: 120,  # the reply, and then the handshake
    Phase.RSET: 300,
    Phase.MAIL: 300,  # section 4.5.3.2.2
    Phase.RCPT: 300,  # section 4.5.3.2.3
    Phase.DATA: 120,  # section 4.5.3.2.4
    Phase.CONTENT: 180,  # section 4.5.3.2.5: for each block
    Phase.DOT: 600,  # section 4.5.3.2.6: too short a wait here sends the message twice
}

QUIT_S = 5
"""How long a reply to QUIT is waited for (RFC 5321 section 4.1.1.10); nothing depends on it."""

IDLE_S = 10
"""How long a connection is kept with nothing to send; servers give up at 300 s and some at 10 s."""

DEAD_S = 30
"""How long a host that could not be reached is not tried again: its other messages need not wait for it in turn."""


_LEAST_S = 1.0
"""Least time for a connection, whatever the scale: below it a busy machine alone would be the cause."""


def make_timeouts(scale: float = 1.0) -> Mapping[Phase, float]:
    """Give the seconds of each phase times ``scale``."""
    timeouts = {phase: seconds * scale for phase, seconds in _SECONDS.items()}
    timeouts[Phase.CONNECT] = max(timeouts[Phase.CONNECT], _LEAST_S)
    return timeouts
