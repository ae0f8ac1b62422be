"""What a relay refuses before it starts a process."""

from pathlib import Path

import dns.resolver
import pytest

from ptt.core.errors import ConfigError
from ptt.settings import Settings
from ptt.workers.relay import list_checks


def test_relay_on_a_system_without_resolvers_is_refused_with_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who has named no resolver hears it as one line and exit 78, not as a traceback of each process."""
    empty = tmp_path / "resolv.conf"
    empty.touch()
    read = dns.resolver.BaseResolver.read_resolv_conf
    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", lambda self, _: read(self, str(empty)))
    (check,) = [check for check in list_checks(Settings()) if "relay.resolvers" in check.keys]
    with pytest.raises(ConfigError, match=r"relay\.resolvers: none given"):
        check.run()
