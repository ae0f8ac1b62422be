"""Who runs what under `ptt up --user-per-role`, and files that the wrong ones may read. Needs root, as it does."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptt.core.errors import ConfigError
from ptt.settings import Settings, find_account, load_settings
from ptt.workers.apart import prepare_accounts
from ptt.workers.embedded import open_embedded

UIDS = {"ingress": 61_431, "sign": 61_432, "relay": 61_433, "redis": 61_434}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that every user may pass, with a seal key and a folder of keys as they should be."""
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="ptt-apart-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "seal.key").write_text("A" * 43 + "=")
        (folder / "keys/example.test").mkdir(parents=True)
        (folder / "keys/example.test/s1.pem").write_text("secret")
        give(folder / "seal.key", "ingress", "sign", 0o440)
        give(folder / "keys/example.test/s1.pem", "sign", "sign", 0o600)
        give(folder / "keys/example.test", "sign", "sign", 0o700)
        give(folder / "keys", "sign", "sign", 0o700)
        yield folder


def give(path: Path, owner: str, group: str, mode: int) -> None:
    """Give a file or folder to a role."""
    os.chown(path, UIDS[owner], UIDS[group])
    path.chmod(mode)


def make_settings(folder: Path, **up: str) -> Settings:
    """Make settings with the accounts of this file."""
    return Settings.model_validate(
        {
            "ingress": {"seal_key_file": folder / "seal.key"},
            "signing": {"keys_dir": folder / "keys"},
            "up": {"data_dir": folder / "valkey"} | {f"{name}_user": f"{uid}:{uid}" for name, uid in UIDS.items()} | up,
        }
    )


def list_problems(settings: Settings) -> list[str]:
    """Give what is wrong, but for the interpreter, which in a home is closed to other users."""
    try:
        prepare_accounts(settings, None)
    except ConfigError as error:
        return [problem for problem in error.problems if not problem.startswith("python: ")]
    return []


def test_prepare_accounts_files_for_the_right_ones_are_accepted(folder: Path) -> None:
    """Each role reads its own: nothing to tell."""
    assert not list_problems(make_settings(folder))


def test_prepare_accounts_secret_of_sign_for_all_is_refused_with_the_command(folder: Path) -> None:
    """The relay, which talks to the Internet, must not read a private key; neither must ingress."""
    (folder / "keys").chmod(0o755)
    assert list_problems(make_settings(folder)) == [
        (
            f"signing.keys_dir: {folder}/keys: can be read by 61431 and 61433 and 61434, who must not:"
            f" chown -R 61432:61432 {folder}/keys && chmod 700 {folder}/keys, and o+x the folders above it"
        )
    ]


def test_prepare_accounts_keys_of_root_are_told_of_once(folder: Path) -> None:
    """One command repairs the folder and all keys in it: one line."""
    for path in (folder / "keys", *(folder / "keys").rglob("*")):
        os.chown(path, 0, 0)
    (problem,) = list_problems(make_settings(folder))
    assert problem.startswith(f"signing.keys_dir: {folder}/keys: cannot be used by 61432: chown -R 61432:61432 ")


def test_prepare_accounts_one_key_of_root_is_refused_with_the_command(folder: Path) -> None:
    """A key that root has created is one that sign cannot sign with."""
    path = folder / "keys/example.test/s1.pem"
    os.chown(path, 0, 0)
    (problem,) = list_problems(make_settings(folder))
    assert problem.startswith(f"signing.keys_dir: {path}: cannot be used by 61432: chown 61432:61432 {path} && ")


def test_prepare_accounts_password_in_a_url_is_refused(folder: Path) -> None:
    """ptt.toml is for all roles: the relay would read the password of the users repository."""
    users = {"repository": "https://ptt:hunter2@git.example.test/users", "clone_dir": folder / "clone"}
    settings = Settings.model_validate(make_settings(folder).model_dump() | {"users": users})
    assert list_problems(settings) == [
        f"users.clone_dir: {folder}/clone: cannot be used by 61431: install -d -o 61431 -g 61431 -m 700 {folder}/clone",
        "users.repository: holds a password, which each role reads: set users.password_file instead",
    ]


def test_prepare_accounts_seal_key_of_root_is_refused_with_the_command(folder: Path) -> None:
    """As `ptt init` makes it, no role but root can read it."""
    os.chown(folder / "seal.key", 0, 0)
    assert list_problems(make_settings(folder)) == [
        (
            f"ingress.seal_key_file: {folder}/seal.key: cannot be used by 61431 and 61432:"
            f" chown 61431:61432 {folder}/seal.key && chmod 440 {folder}/seal.key, and o+x the folders above it"
        )
    ]


def test_prepare_accounts_spool_of_root_is_refused_with_the_command(folder: Path) -> None:
    """A spool from before each role had its user is handed over by a person, never left behind."""
    (folder / "valkey").mkdir()
    (folder / "valkey/dump").touch()
    (folder / "valkey").chmod(0o700)
    assert list_problems(make_settings(folder)) == [
        (
            f"up.data_dir: {folder}/valkey: cannot be used by 61434:"
            f" chown -R 61434:61434 {folder}/valkey && chmod 700 {folder}/valkey, and o+x the folders above it"
        )
    ]


@pytest.mark.parametrize(
    ("up", "told"),
    [
        ({"sign_user": "ptt-nobody-has-this"}, "up.sign_user: no user 'ptt-nobody-has-this' on this host: useradd "),
        ({"relay_user": "root"}, "up.relay_user: root has the rights of root"),
        ({"relay_user": "61435:0"}, "up.relay_user: 61435:0 has the rights of root"),
        ({"relay_user": "61432:61435"}, "up: 61432 shares its user or group with another role"),
        ({"relay_user": "61435:61432"}, "up: 61435 shares its user or group with another role"),
    ],
)
def test_prepare_accounts_user_that_cannot_be_is_refused(folder: Path, up: dict[str, str], told: str) -> None:
    """Never a silent fallback to root, or to two roles in one."""
    (problem,) = list_problems(make_settings(folder, **up))
    assert problem.startswith(told)


def test_prepare_accounts_without_root_is_refused(folder: Path) -> None:
    """Only root can become others: one line, before anything is looked at."""
    source = (
        "import os, sys\nfrom ptt.settings import Settings\nfrom ptt.workers.apart import prepare_accounts\n"
        "from ptt.core.errors import ConfigError\nos.setresuid(61431, 61431, 61431)\n"
        "try:\n    prepare_accounts(Settings(), None)\nexcept ConfigError as error:\n    sys.exit(str(error))\n"
    )
    assert folder.exists()
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=30)
    assert ended.stderr == "ptt up --user-per-role: must be started as root: only root can become other users\n"


def test_open_embedded_folder_of_another_user_is_not_a_way_to_write_elsewhere(folder: Path) -> None:
    """Whoever took the Valkey over may put links in its folder: root follows none of them."""
    up = make_settings(folder).up
    account = find_account(up.redis_user)
    victim = folder / "victim"
    victim.write_text("kept")
    up.data_dir.mkdir()
    for name in ("valkey.conf", "users.acl", "admin.url"):
        (up.data_dir / name).symlink_to(victim)
    with open_embedded(up, Path("/bin/false"), account) as server:
        assert server.config.stat().st_uid == account.uid
        assert not (up.data_dir / "admin.url").is_symlink()
    (up.data_dir / "lock").unlink()
    (up.data_dir / "lock").symlink_to(victim)
    with pytest.raises(ConfigError, match=r"up\.data_dir"), open_embedded(up, Path("/bin/false"), account):
        pass
    assert (victim.read_text(), victim.stat().st_uid) == ("kept", 0)


@pytest.mark.parametrize(
    ("owner", "group", "mode", "is_refused"),
    [
        ("ingress", "sign", 0o440, False),
        ("ingress", "sign", 0o640, False),
        ("ingress", "sign", 0o644, True),
        ("ingress", "relay", 0o440, True),
        ("sign", "sign", 0o440, True),
    ],
)
def test_seal_key_that_ingress_and_sign_share_is_accepted(
    folder: Path, owner: str, group: str, mode: int, *, is_refused: bool
) -> None:
    """A group may read it only where that is sign's and the owner is ingress."""
    give(folder / "seal.key", owner, group, mode)
    users = "".join(f'{name}_user = "{uid}:{uid}"\n' for name, uid in UIDS.items())
    config = folder / "ptt.toml"
    config.write_text(f'[ingress]\nseal_key_file = "seal.key"\n[up]\n{users}')
    with pytest.raises(ConfigError) as raised:
        load_settings(config, role="sign")
    assert any("seal_key_file: has mode" in problem for problem in raised.value.problems) is is_refused
