"""How guessing at passwords is limited, without giving strangers a way to lock a user out. Values only.

Three things count: the network that a guess comes from, the login it is for, and whether that user has logged in from
that network lately. Who has is never held up by what others do, neither from elsewhere nor beside him.
"""

import ipaddress
from dataclasses import dataclass
from enum import IntEnum

IPV6_PREFIX = 64
"""One network for all limits: a customer gets a /64 at least, so single addresses in it cost nothing."""
GUESSES = 10
"""Checks of passwords that one network may get wrong within WINDOW_S. The threat: a dictionary from one place."""
WINDOW_S = 60
LOGIN_GUESSES = 100
"""Wrong guesses at one login from networks unknown to it within LOGIN_WINDOW_S; after that, only networks without a
wrong guess of their own are heard. The threat: a dictionary from a thousand places, ten guesses from each."""
LOGIN_WINDOW_S = 3600
KNOWN_FOR_S = 30 * 86_400
"""How long a network is one that the user logs in from: somebody on holiday comes back to the office as a friend."""


class Trust(IntEnum):
    """Whose password is checked first, and who waits."""

    KNOWN = 0
    """This user has logged in from this network lately."""
    FRESH = 1
    """Nobody has guessed wrong from this network lately."""
    SUSPECT = 2
    """Somebody has."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to check one guess; ``stamp`` names it, so that it can be taken out of the count again."""

    trust: Trust
    stamp: str = ""


def find_network(address: str) -> str:
    """Give the network that an IP address counts for."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(ipaddress.IPv6Network((parsed, IPV6_PREFIX), strict=False))
