"""What units and containers may do and hold: each role its own secrets, and nothing of the host."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.unit.ops.test_deployment import KEYS, ROOT, UNITS, is_command

MOST_EXPOSURE = 1.5
"""Of 10, as systemd-analyze counts; without network, which we need, it would be about 0.7."""
COMPOSE: dict[str, Any] = YAML(typ="safe").load((ROOT / "compose/compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRETS = {
    "redis": set(),
    "ingress": {"seal_key", "tls_certificate", "tls_key", "redis_ingress"},
    "sign": {"seal_key", "tsig_secret", "redis_sign"},
    "relay": {"redis_relay"},
    "admin": {"redis_admin"},
}
CREDENTIALS = {
    "ptt-ingress.service": {"ingress.seal_key_file", "ingress.certificate_file", "ingress.key_file", "redis.url"},
    "ptt-sign.service": {"ingress.seal_key_file", "dns_update.tsig_secret_file", "redis.url"},
    "ptt-relay.service": {"redis.url"},
}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_is_hardly_exposed(unit: Path) -> None:
    """Systemd's own judgement of what a process that was taken over could reach."""
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is missing: apt-get install systemd"
    command = [program, "security", "--offline=yes", "--no-pager", str(unit)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", output)
    assert exposure
    assert float(exposure[1]) <= MOST_EXPOSURE, output


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_has_its_own_user_login_and_secrets(unit: Path) -> None:
    """Each role is a user of its own, with its own login of Redis, and no secret of another role."""
    text = unit.read_text()
    role = unit.stem.removeprefix("ptt-")
    assert f"\nUser=ptt-{role}\n" in text
    assert set(re.findall(r"^LoadCredential=([^:]+):", text, re.MULTILINE)) == CREDENTIALS[unit.name]
    assert f"LoadCredential=redis.url:/etc/ptt/redis/{role}.url\n" in text


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_hardened(name: str) -> None:
    """Read-only, no capabilities, no new privileges, nothing of the host, never privileged."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "devices", "userns_mode"} & service.keys()
    assert service.get("network_mode") != "host"
    sources = [volume.partition(":")[0] for volume in service.get("volumes", ())]
    assert all(source in COMPOSE["volumes"] or source.startswith("./") for source in sources)


@pytest.mark.parametrize("name", SERVICES)
def test_container_holds_its_own_secrets_only(name: str) -> None:
    """Private keys, seal, TSIG and TLS keys and logins are where they are needed and nowhere else."""
    service = SERVICES[name]
    secrets = {secret if isinstance(secret, str) else secret["source"] for secret in service.get("secrets", ())}
    assert secrets == SECRETS[name]
    assert secrets <= COMPOSE["secrets"].keys()
    assert any(volume.startswith("./keys:") for volume in service.get("volumes", ())) is (name == "sign")


def test_containers_share_no_network() -> None:
    """They meet at the socket of Redis only; Redis and the administrator's commands have no network at all."""
    networks = [network for service in SERVICES.values() for network in service.get("networks", ())]
    assert sorted(networks) == sorted(COMPOSE["networks"])
    assert {name for name in SERVICES if SERVICES[name].get("network_mode") == "none"} == {"redis", "admin"}
    assert all("networks" in service or "network_mode" in service for service in SERVICES.values())


def test_container_commands_and_variables_are_ours() -> None:
    """Each command of a role is one of ours and each PTT_ variable names a key."""
    commands = {name: service.get("entrypoint", []) + service["command"] for name, service in SERVICES.items()}
    assert all(is_command(words) for name, words in commands.items() if name != "redis")
    names = {name.removesuffix("_FILE") for service in SERVICES.values() for name in service.get("environment", ())}
    for name in names - {"PTT_CONFIG"}:
        assert name.removeprefix("PTT_").lower().replace("__", ".") in KEYS, name


def test_no_container_of_a_role_can_take_the_place_of_redis() -> None:
    """Who may write into the folder of the socket may put one of its own there, and hear the passwords of all roles."""
    for name, service in SERVICES.items():
        (mount,) = (one for one in service["volumes"] if one.startswith("./run:"))
        assert mount == ("./run:/run/redis" if name == "redis" else "./run:/run/redis:ro"), name
