"""Secret files must be for their owner alone."""

from pathlib import Path

import pytest

from ptt.core.errors import ConfigError
from ptt.settings import load_settings


@pytest.mark.parametrize(
    ("mode", "is_refused"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o644, True)]
)
def test_seal_key_that_others_may_read_is_refused(tmp_path: Path, mode: int, is_refused: bool) -> None:  # noqa: FBT001
    """Who reads the seal key can have anything signed: one clear line, for each role that reads it."""
    path = tmp_path / "seal.key"
    path.write_text("A" * 43 + "=")
    path.chmod(mode)
    config = tmp_path / "ptt.toml"
    config.write_text('[ingress]\nseal_key_file = "seal.key"\n')
    with pytest.raises(ConfigError) as raised:
        load_settings(config, role="sign")
    told = f"{config}: ingress.seal_key_file: has mode {mode:04o}: must be 0600, so that nobody else reads it"
    assert (told in raised.value.problems) is is_refused


def test_credential_of_systemd_is_not_asked_for_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be 0440 by the access list that systemd puts on it; its folder is the role's alone."""
    path = tmp_path / "credentials/ingress.seal_key_file"
    path.parent.mkdir()
    path.write_text("A" * 43 + "=")
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    with pytest.raises(ConfigError) as raised:
        load_settings(role="sign")
    assert not any("mode" in problem for problem in raised.value.problems)
