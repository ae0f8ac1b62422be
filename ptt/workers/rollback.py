"""Finds what the last rotation of a domain replaced, from the states of its keys alone.

All of it or nothing comes back: a mix of keys of two rotations is one that nobody has ever chosen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ptt.core.address import Domain
from ptt.core.errors import RotationRefused
from ptt.signing.key_files import KeyState
from ptt.signing.keys import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """One rotation that was done."""

    replaced: Sequence[SigningKey]
    successors: Sequence[SigningKey]
    """What signed in their place, in any state."""


def find_last_rotation(domain: Domain, keys: Sequence[SigningKey]) -> Rotation:
    """Find the last rotation, which all that it replaced can come back from.

    Args:
        domain: whose keys they are.
        keys: all that can be used, in any state.

    Raises:
        RotationRefused: there was none, or not all of these keys can come back.
    """
    # One that still signs was not replaced: a crash came before.
    instants = [key.status.replaced_at for key in keys if key.status.state is not KeyState.ACTIVE]
    last = max((instant for instant in instants if instant), default=None)
    if last is None:
        raise RotationRefused(
            f"no rotation of {domain} is recorded, there is nothing to go back to: "
            "`ptt key activate` lets a retiring key sign again"
        )
    replaced = [key for key in keys if key.status.replaced_at == last]
    named = {key.status.successor for key in replaced}
    others = [key for key in keys if key.status.replaced_at != last]
    successors = [key for key in others if key.selector in named or key.status.active_at == last]
    rotation = Rotation(replaced=replaced, successors=successors)
    if obstacles := list(_list_obstacles(rotation)):
        raise RotationRefused(f"the last rotation of {domain} cannot be undone: {'; '.join(obstacles)}")
    return rotation


def _list_obstacles(rotation: Rotation) -> Iterator[str]:
    for key in rotation.replaced:
        if key.status.revoked_at:
            yield f"{key.selector} was declared void"
        elif key.status.state is KeyState.RETIRED:
            yield f"{key.selector} is retired, its record is gone"
    found = {key.algorithm for key in rotation.replaced}
    for key in rotation.successors:
        if key.algorithm not in found:
            yield f"the key that {key.selector} replaced is gone, or cannot be used"
