"""Paths and URLs of repositories."""

import pytest

from ptt.core.errors import MalformedInput
from ptt.core.repository import check_repository, is_remote


@pytest.mark.parametrize(
    ("repository", "remote"),
    [
        ("/var/lib/ptt/users.git", False),
        ("users.git", False),
        ("./a:b", False),
        ("https://git.example/users.git", True),
        ("ssh://git@git.example/users.git", True),
        ("git@git.example:users.git", True),
        ("git.example:users.git", True),
    ],
)
def test_is_remote_tells_urls_from_paths(repository: str, *, remote: bool) -> None:
    """As git does: a colon before any slash means ssh."""
    assert is_remote(repository) is remote
    assert check_repository(repository) == repository


@pytest.mark.parametrize(
    "url", ["http://git.example/x", "git://git.example/x", "file:///x", "ext::sh://x", "https:///x"]
)
def test_check_repository_refuses_servers_that_prove_nothing(url: str) -> None:
    """Who may log in is not asked of anyone who happens to answer."""
    with pytest.raises(MalformedInput):
        check_repository(url)
