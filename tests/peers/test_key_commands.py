"""``ptt key`` from end to end against a real BIND: what it prints, what it changes, and its exit codes."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ptt.cli import main
from ptt.core.errors import NoUsableKey
from ptt.signing.key_files import KeyState
from ptt.signing.keys import KeyRing, SigningKey
from ptt.signing.signer import Signer
from tests.servers.bind import ADDRESS, Bind, running_bind
from tests.servers.verifiers import verify_by_dkimpy
from tests.signing_keys import DOMAIN, SIGNED_AT

CONTENT = b"From: alice@example.test\r\n\r\nhello\r\n"
SECOND = "127.0.0.3"


@dataclass
class Desk:
    """A folder with keys and a ptt.toml, and the way to run commands on it."""

    folder: Path
    config: Path

    def run(self, *arguments: str) -> Result:
        """Run ``ptt key``."""
        result = CliRunner().invoke(main, ["--config", str(self.config), "key", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    @property
    def ring(self) -> KeyRing:
        """Open the keys as the sign role would."""
        return KeyRing(self.folder / "keys")

    def is_signing(self) -> bool:
        """Tell whether mail of the domain can be signed."""
        try:
            return bool(self.ring.get_active(DOMAIN))
        except NoUsableKey:
            return False

    def write_config(self, *lines: str) -> None:
        """Write ptt.toml."""
        self.config.write_text("\n".join(['[signing]\nkeys_dir = "keys"', *lines, ""]))

    def use(self, bind: Bind) -> None:
        """Let this server be the primary."""
        (self.folder / "tsig").write_text(bind.secret)
        self.write_config(
            "[dns_update]",
            f'server = "{bind.address}"\nport = {bind.port}\ncheck_port = {bind.port}',
            f'tsig_key_name = "{bind.key_name}"\ntsig_secret_file = "tsig"',
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Make a folder without keys and without a primary."""
    desk = Desk(tmp_path, tmp_path / "ptt.toml")
    desk.write_config()
    return desk


@pytest.fixture
def bind() -> Iterator[Bind]:
    """Run a primary of the domain."""
    with running_bind((DOMAIN,)) as server:
        yield server


def events(result: Result) -> list[str]:
    """Give the events that a command logged."""
    return [json.loads(line)["event"] for line in result.stderr.splitlines() if line.startswith("{")]


def test_key_is_created_published_and_signs(desk: Desk, bind: Bind) -> None:
    """The three commands bring a domain from nothing to signatures that verify with what BIND answers."""
    desk.use(bind)
    for algorithm in ("rsa2048", "ed25519"):
        assert desk.run("create", DOMAIN, "--algorithm", algorithm).exit_code == 0
    assert not desk.is_signing()
    result = desk.run("publish", DOMAIN)
    assert result.exit_code == 0, result.output
    assert events(result) == ["key.published"] * 2 + ["key.activated"] * 2
    records = {key.record_name: bind.get_texts(key.record_name)[0] for key in desk.ring.get_active(DOMAIN)}
    signature = Signer(desk.ring).sign(CONTENT, signed_at=SIGNED_AT)
    assert sorted(verify_by_dkimpy(signature + CONTENT, records)) == ["ed25519-sha256=pass", "rsa-sha256=pass"]
    assert [row["state"] for row in json.loads(desk.run("list", "-o", "json").stdout)] == ["active", "active"]


def test_publish_again_changes_nothing(desk: Desk, bind: Bind) -> None:
    """A command that is run twice does no harm."""
    desk.use(bind)
    desk.run("create", DOMAIN, "--algorithm", "ed25519")
    desk.run("publish", DOMAIN)
    result = desk.run("publish", DOMAIN)
    assert (result.exit_code, events(result)) == (0, [])
    assert "nothing to publish" in result.stdout


def test_publish_with_a_lagging_server_keeps_the_key_waiting(desk: Desk) -> None:
    """The zone has a second server that does not answer: exit 75, the key stays published and signs nothing."""
    with running_bind((DOMAIN,), nameservers=(ADDRESS, SECOND)) as bind:
        desk.use(bind)
        desk.run("create", DOMAIN, "--selector", "s1", "--algorithm", "ed25519")
        result = desk.run("publish", DOMAIN, "--wait", "0")
    assert (result.exit_code, events(result)) == (75, ["key.published"])
    assert "s1._domainkey.example.test is not active: ns2.example.test. (127.0.0.3) does not answer" in result.stderr
    assert [row["state"] for row in json.loads(desk.run("list", "-o", "json").stdout)] == ["published"]
    assert not desk.is_signing()


def test_publish_that_is_refused_says_why(desk: Desk, bind: Bind) -> None:
    """The primary knows another secret: exit 1 with one line, the key stays as it was."""
    desk.use(bind)
    (desk.folder / "tsig").write_text("AAAA")
    desk.run("create", DOMAIN, "--algorithm", "ed25519")
    result = desk.run("publish", DOMAIN)
    assert (result.exit_code, events(result)) == (1, [])
    assert result.stderr.count("\n") == 1
    assert "BADSIG" in result.stderr
    assert [row["state"] for row in json.loads(desk.run("list", "-o", "json").stdout)] == ["created"]


def test_publish_while_the_primary_is_down_is_temporary(desk: Desk, bind: Bind) -> None:
    """Exit 75: a script tries again later."""
    desk.use(bind)
    bind.stop()
    desk.run("create", DOMAIN, "--algorithm", "ed25519")
    assert desk.run("publish", DOMAIN).exit_code == 75


def test_key_without_primary_is_published_by_hand(desk: Desk) -> None:
    """What `create` prints is put into the zone as it is; `publish` then finds it and lets the key sign."""
    created = desk.run("create", DOMAIN, "--selector", "hand")
    line = next(line for line in created.stdout.splitlines() if line.startswith("hand._domainkey.example.test. "))
    with running_bind((DOMAIN,), records=[line]) as bind:
        desk.write_config(
            f"[dns_update]\ncheck_port = {bind.port}",
            f'[relay]\nresolvers = ["{bind.address}"]\nresolver_port = {bind.port}',
        )
        result = desk.run("publish", DOMAIN)
        assert (result.exit_code, events(result)) == (0, ["key.published", "key.activated"])
        assert desk.is_signing()
        change_zone(bind, "update delete hand._domainkey.example.test. TXT")
        missing = desk.run("publish", DOMAIN, "--wait", "0")
    assert (missing.exit_code, line in missing.stdout) == (4, True)
    assert "hand._domainkey.example.test is not in place: ns1.example.test." in missing.stderr


def test_key_without_primary_and_without_record_is_a_problem(desk: Desk, bind: Bind) -> None:
    """Nobody has put the record there: exit 4."""
    desk.run("create", DOMAIN, "--selector", "hand", "--algorithm", "ed25519")
    desk.write_config(
        f"[dns_update]\ncheck_port = {bind.port}",
        f'[relay]\nresolvers = ["{bind.address}"]\nresolver_port = {bind.port}',
    )
    result = desk.run("publish", DOMAIN, "--wait", "0")
    assert (result.exit_code, events(result)) == (4, [])
    assert "does not have the record yet" in result.stderr
    assert not desk.is_signing()


def publish_two(desk: Desk, bind: Bind) -> list[SigningKey]:
    """Bring a key of each algorithm to sign, as the commands do."""
    desk.use(bind)
    for algorithm in ("rsa2048", "ed25519"):
        desk.run("create", DOMAIN, "--algorithm", algorithm)
    assert desk.run("publish", DOMAIN).exit_code == 0
    return [key for key in desk.ring.list_keys(DOMAIN) if isinstance(key, SigningKey)]


def change_zone(bind: Bind, *changes: str) -> None:
    """Let an operator change the zone by nsupdate."""
    key = f"{bind.algorithm}:{bind.key_name}:{bind.secret}"
    script = "\n".join([f"server {bind.address} {bind.port}", f"zone {DOMAIN}.", *changes, "send", ""])
    subprocess.run(["nsupdate", "-y", key], input=script, text=True, check=True, timeout=60, capture_output=True)


def test_publish_puts_back_the_records_that_somebody_removed(desk: Desk, bind: Bind) -> None:
    """What `check` advises helps: the suspended keys sign again, with the age and the records that they had."""
    keys = publish_two(desk, bind)
    change_zone(bind, *(f"update delete {key.record_name}. TXT" for key in keys))
    for key in keys:
        desk.ring.change_status(key, lambda status: status.suspend("gone", SIGNED_AT))
    assert f"-> ptt key publish {DOMAIN}" in desk.run("check", DOMAIN).stdout
    result = desk.run("publish", DOMAIN)
    assert (result.exit_code, events(result)) == (0, ["key.resumed"] * 2), result.output
    assert result.stdout.count(f" again on DNS server {bind.address}") == 2
    assert [bind.get_texts(key.record_name) for key in keys] == [[key.record] for key in keys]
    found = [key for key in desk.ring.list_keys(DOMAIN) if isinstance(key, SigningKey)]
    assert [key.status for key in found] == [key.status for key in keys]
    assert "nothing to publish" in desk.run("publish", DOMAIN).stdout


def test_publish_puts_back_the_record_of_a_retiring_key(desk: Desk, bind: Bind) -> None:
    """Mail under way has its signature; the key signs no more all the same. A void key stays void."""
    retiring, void = publish_two(desk, bind)
    desk.run("rotate", DOMAIN)
    desk.run("retire", DOMAIN, void.selector, "--now")
    change_zone(bind, *(f"update delete {key.record_name}. TXT" for key in (retiring, void)))
    states = list_states(desk)
    assert desk.run("publish", DOMAIN).exit_code == 0
    assert [bind.get_texts(key.record_name) for key in (retiring, void)] == [[retiring.record], []]
    assert list_states(desk) == states


def test_publish_where_no_key_is_left_that_could_sign_says_what_helps(desk: Desk, bind: Bind) -> None:
    """All keys are void, so mail waits: exit 4, and not a word of all being published."""
    for key in publish_two(desk, bind):
        desk.run("retire", DOMAIN, key.selector, "--now", "--force")
    result = desk.run("publish", DOMAIN)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (4, "", 1)
    assert f"no key signs: mail of this domain waits: ptt key create {DOMAIN}, then" in result.stderr


@pytest.mark.parametrize("record", ["v=DKIM1; k=ed25519; p=THEIRS", "v=DKIM1; k=rsa; p=", "v=spf1 -all"])
def test_publish_never_puts_a_record_back_over_another(desk: Desk, bind: Bind, record: str) -> None:
    """Exit 1 with a line that says what helps; the key beside it is put back all the same."""
    keys = publish_two(desk, bind)
    first, second = keys
    change_zone(bind, *(f"update delete {key.record_name}. TXT" for key in keys))
    change_zone(bind, f'update add {first.record_name}. 60 TXT "{record}"')
    result = desk.run("publish", DOMAIN)
    assert (result.exit_code, events(result), result.stderr.count("\n")) == (1, [], 1)
    assert first.record_name in result.stderr
    assert f"`ptt key rotate {DOMAIN}`" in result.stderr
    assert [bind.get_texts(key.record_name) for key in keys] == [[record], [second.record]]


def test_create_with_a_taken_selector_fails(desk: Desk) -> None:
    """Exit 1, and the key stays."""
    desk.run("create", DOMAIN, "--selector", "s1", "--algorithm", "ed25519")
    result = desk.run("create", DOMAIN, "--selector", "s1", "--algorithm", "ed25519")
    assert result.exit_code == 1
    assert "there is a key s1 already" in result.stderr


def test_create_for_an_internationalised_domain_uses_a_labels(desk: Desk) -> None:
    """The folder and the record have the name that the DNS has."""
    assert desk.run("create", "M\u00fcnchen.test", "--algorithm", "ed25519").exit_code == 0
    assert (desk.folder / "keys" / "xn--mnchen-3ya.test").is_dir()


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["create", "nodots"], 2),
        (["create", "../etc"], 2),
        (["create", DOMAIN, "--selector", "../x"], 2),
        (["create", DOMAIN, "--algorithm", "rsa1024"], 2),
        (["publish", DOMAIN], 3),
    ],
)
def test_key_with_bad_arguments_exits_with_the_code(desk: Desk, arguments: list[str], exit_code: int) -> None:
    """2 for what was typed wrong, 3 for what is not there."""
    assert desk.run(*arguments).exit_code == exit_code
    assert not (desk.folder / "keys").exists()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (['[dns_update]\nserver = "127.0.0.1"'], "dns_update.tsig_key_name: missing"),
        (['[dns_update]\nserver = "127.0.0.1"\ntsig_key_name = "k"\ntsig_secret_file = "none"'], "tsig_secret_file"),
    ],
)
def test_publish_with_bad_settings_exits_with_78(desk: Desk, lines: list[str], reason: str) -> None:
    """The line names the key of ptt.toml."""
    desk.write_config(*lines)
    result = desk.run("publish", DOMAIN)
    assert result.exit_code == 78
    assert reason in result.stderr


def test_create_without_keys_dir_exits_with_78(desk: Desk) -> None:
    """There is no place to guess."""
    desk.config.write_text("")
    result = desk.run("create", DOMAIN)
    assert result.exit_code == 78
    assert "signing.keys_dir" in result.stderr


def test_list_shows_refused_keys_with_the_reason(desk: Desk) -> None:
    """A key that others can read is not hidden: the operator sees why it signs nothing."""
    desk.run("create", DOMAIN, "--selector", "s1", "--algorithm", "ed25519")
    (desk.folder / "keys" / DOMAIN / "s1.pem").chmod(0o644)
    result = desk.run("list")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{DOMAIN}  s1  -  refused  has mode 0644")
    assert events(result) == ["key.refused"]


def list_states(desk: Desk) -> dict[str, str]:
    """Give what `list` says of each key."""
    return {row["selector"]: row["state"] for row in json.loads(desk.run("list", "-o", "json").stdout)}


def test_key_is_rotated_back_and_forth_and_retired(desk: Desk, bind: Bind) -> None:
    """Each command says what it did, and mail verifies with what BIND answers after each of them."""
    desk.use(bind)
    desk.run("create", DOMAIN, "--selector", "s1", "--algorithm", "ed25519")
    desk.run("publish", DOMAIN)
    result = desk.run("rotate", DOMAIN)
    assert (result.exit_code, events(result)) == (0, ["key.published", "key.activated", "key.retiring"])
    assert "retiring s1._domainkey.example.test: its record stays until" in result.stdout
    [new] = set(list_states(desk)) - {"s1"}
    assert list_states(desk) == {"s1": "retiring", new: "active"}
    assert desk.run("rotate", DOMAIN, "--rollback").exit_code == 0
    assert list_states(desk) == {"s1": "active", new: "retiring"}
    assert desk.run("activate", DOMAIN, new).exit_code == 0
    [key] = desk.ring.get_active(DOMAIN)
    records = {key.record_name: bind.get_texts(key.record_name)[0]}
    signature = Signer(desk.ring).sign(CONTENT, signed_at=SIGNED_AT)
    assert verify_by_dkimpy(signature + CONTENT, records) == ["ed25519-sha256=pass"]
    assert desk.run("retire", DOMAIN, "s1").exit_code == 0
    assert list_states(desk) == {"s1": "retiring", new: "active"}
    assert desk.run("retire", DOMAIN, "s1", "--now").exit_code == 0
    assert bind.get_texts("s1._domainkey.example.test") == ["v=DKIM1; k=ed25519; p="]
    refused = desk.run("activate", DOMAIN, "s1")
    assert (refused.exit_code, refused.stderr.count("\n"), "declared void" in refused.stderr) == (1, 1, True)
    assert bind.get_texts("s1._domainkey.example.test") == ["v=DKIM1; k=ed25519; p="]
    assert list_states(desk) == {"s1": "retired", new: "active"}


def test_retire_of_the_last_key_needs_force(desk: Desk, bind: Bind) -> None:
    """Exit 1 with one line; with --force mail waits, and `activate` brings the key back."""
    desk.use(bind)
    desk.run("create", DOMAIN, "--selector", "s1", "--algorithm", "ed25519")
    desk.run("publish", DOMAIN)
    refused = desk.run("retire", DOMAIN, "s1")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert desk.is_signing()
    assert desk.run("retire", DOMAIN, "s1", "--force").exit_code == 0
    assert not desk.is_signing()
    assert desk.run("activate", DOMAIN, "s1").exit_code == 0
    assert desk.is_signing()


def test_rotate_without_primary_tells_what_to_publish(desk: Desk, bind: Bind) -> None:
    """Exit 4 with the line for the zone; the old key goes on."""
    desk.run("create", DOMAIN, "--selector", "s1", "--algorithm", "ed25519")
    [key] = desk.ring.list_keys(DOMAIN)
    assert isinstance(key, SigningKey)
    desk.ring.set_state(key, KeyState.ACTIVE, at=SIGNED_AT)
    desk.write_config(
        f"[dns_update]\ncheck_port = {bind.port}",
        f'[relay]\nresolvers = ["{bind.address}"]\nresolver_port = {bind.port}',
    )
    result = desk.run("rotate", DOMAIN, "--wait", "0")
    assert (result.exit_code, events(result)) == (4, [])
    [new] = set(list_states(desk)) - {"s1"}
    assert f"{new}._domainkey.example.test. 3600 IN TXT (" in result.stdout
    assert list_states(desk) == {"s1": "active", new: "created"}


@pytest.mark.parametrize("arguments", [["rotate", DOMAIN], ["activate", DOMAIN, "s9"], ["retire", DOMAIN, "s9"]])
def test_key_that_is_not_there_exits_with_3(desk: Desk, arguments: list[str]) -> None:
    """The commands of the later life make nothing."""
    assert desk.run(*arguments).exit_code == 3
    assert not (desk.folder / "keys").exists()


def test_create_from_a_seed_gives_the_same_key_again(desk: Desk) -> None:
    """A lost folder of keys is made again from the seed."""
    seed = desk.folder / "seed"
    seed.write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    seed.chmod(0o600)
    records = []
    for _ in range(2):
        made = desk.run("create", DOMAIN, "--algorithm", "ed25519", "--seed-file", str(seed))
        assert made.exit_code == 0, made.output
        records.append([row["record"] for row in json.loads(desk.run("list", "-o", "json").stdout)])
        shutil.rmtree(desk.folder / "keys")
    assert records[0] == records[1]
    seed.chmod(0o644)
    assert desk.run("create", DOMAIN, "--seed-file", str(seed)).exit_code == 2
