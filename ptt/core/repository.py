"""What may stand in ``users.repository``: a path of this host, or the URL of a Git repository elsewhere."""

import re

from ptt.core.errors import MalformedInput

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://[^/]")
_SCP_LIKE = re.compile(r"[^/:]+:.")  # gitcli: "host:path" is ssh when no slash stands before the colon
_SCHEMES = ("https", "ssh")


def is_remote(repository: str) -> bool:
    """Tell a URL (``https://``, ``ssh://``, ``user@host:path``) from a path."""
    return "://" in repository or _SCP_LIKE.match(repository) is not None


def check_repository(repository: str) -> str:
    """Give the text back if it is a path or the URL of a protocol that proves who the server is.

    Raises:
        MalformedInput: for any other URL.
    """
    if "://" not in repository:
        return repository
    # The threat: over http:// or git:// anyone on the way can add a user.
    scheme = _URL.match(repository)
    if scheme is None or scheme[1].lower() not in _SCHEMES:
        raise MalformedInput("must be a path, or a URL of https:// or ssh://")
    return repository
