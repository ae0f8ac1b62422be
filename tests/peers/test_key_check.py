"""``ptt key check`` against a real BIND: each fault of a key or its record is found, with what helps."""

from datetime import timedelta

import pytest
from click.testing import CliRunner

from ptt.cli import main
from ptt.core.address import Domain
from ptt.core.domain_policy import format_dmarc
from ptt.dns.update import publish_key_record, remove_key_record
from ptt.signing.key_files import KeyState
from tests.checked_host import HOST, RECORDS, Host, expect
from tests.servers.bind import running_bind
from tests.signing_keys import DOMAIN, SIGNED_AT


def test_key_check_finds_a_record_that_is_gone(host: Host) -> None:
    """The advice is the record to put there."""
    key = host.key
    remove_key_record(host.primary, key.record_name, key.record)
    expect(host, ("key", "check"), "key.record", "problem", key.record)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("v=DKIM1; k=ed25519; p=", "is revoked"),
        ("v=DKIM1; t=y; k=ed25519; p=QUJD", "this is a test"),
    ],
)
def test_key_check_finds_a_record_that_is_wrong(host: Host, record: str, text: str) -> None:
    """What is wrong is said, and that it is not ours."""
    publish_key_record(host.primary, host.key.record_name, record, ttl_s=60)
    exit_code, faults = host.run("key", "check", DOMAIN)
    assert exit_code == 4
    assert "answers another record" in faults["key.record"][1]
    assert text in faults["key.syntax"][1]


def test_key_check_finds_a_ttl_that_is_too_long(host: Host) -> None:
    """A wrong key would stay in caches for a week."""
    key = host.key
    remove_key_record(host.primary, key.record_name, key.record)
    publish_key_record(host.primary, key.record_name, key.record, ttl_s=604_800)
    expect(host, ("key", "check"), "key.ttl", "problem", "604800 s")


def test_key_check_finds_a_domain_whose_mail_waits(host: Host) -> None:
    """No key signs; the keys that are there say why."""
    key = host.key
    host.ring.change_status(key, lambda status: status.suspend("ns1 lies", SIGNED_AT))
    exit_code, faults = host.run("key", "check", DOMAIN)
    assert exit_code == 4
    assert "ns1 lies" in faults["key.state"][1]
    assert "mail of this domain waits" in faults["domain.signs"][1]


@pytest.mark.parametrize("state", [KeyState.PUBLISHED, KeyState.RETIRING, KeyState.RETIRED])
def test_key_check_finds_a_key_that_was_left_half_way(host: Host, state: KeyState) -> None:
    """Published and not active, retiring for too long, retired and still in the DNS."""
    host.ring.set_state(host.key, state, at=SIGNED_AT - timedelta(days=40))
    check = "key.record" if state is KeyState.RETIRED else "key.state"
    text = {KeyState.PUBLISHED: "ptt key publish", KeyState.RETIRING: "ptt key retire", KeyState.RETIRED: "remove the"}
    expect(host, ("key", "check"), check, "problem", text[state])


def test_key_check_finds_a_void_key_whose_record_does_not_say_so(host: Host) -> None:
    """The primary was down: the advice is to declare it void again, and after that nothing is wrong with it."""
    host.ring.change_status(host.key, lambda status: status.revoke(SIGNED_AT))
    expect(host, ("key", "check"), "key.state", "problem", f"ptt key retire {DOMAIN} {host.key.selector} --now")
    retire = [*host.config, "key", "retire", DOMAIN, host.key.selector, "--now"]
    assert CliRunner().invoke(main, retire).exit_code == 0
    assert "key.state" not in host.run("key", "check")[1]


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        (KeyState.PUBLISHED, f"ptt key publish {DOMAIN}"),
        (KeyState.RETIRING, f"ptt key activate {DOMAIN} {{}}"),
        (KeyState.RETIRED, f"ptt key create {DOMAIN}, then ptt key publish {DOMAIN}"),
    ],
)
def test_key_check_advises_a_command_that_makes_a_key_sign(host: Host, state: KeyState, advice: str) -> None:
    """No key signs: the command that is named leads to one that does."""
    host.ring.set_state(host.key, state, at=SIGNED_AT)
    text = advice.format(host.key.selector)
    expect(host, ("key", "check"), "domain.signs", "problem", text)
    for command in text.split(", then "):
        ran = CliRunner().invoke(main, [*host.config, *command.split()[1:]])
        assert ran.exit_code == 0, ran.output
    assert "domain.signs" not in host.run("key", "check")[1]


def test_key_check_gives_the_records_to_paste(host: Host) -> None:
    """A domain without SPF and DMARC: the advice is the line for the zone."""
    bare = "bare.test"
    records = RECORDS[2:]
    with running_bind((bare,), records=records) as other:
        host.bind = other
        (host.folder / "tsig").write_text(other.secret)
        host.write_config()
        assert CliRunner().invoke(main, [*host.config, "key", "create", bare]).exit_code == 0
        assert CliRunner().invoke(main, [*host.config, "key", "publish", bare]).exit_code == 0
        exit_code, faults = host.run("key", "check", bare)
    assert exit_code == 4
    assert faults == {
        "domain.spf": ("problem", f'has no SPF record {bare}. 3600 IN TXT "v=spf1 a:{HOST} ~all"'),
        "domain.dmarc": (
            "problem",
            f"_dmarc.{bare} has no DMARC record {format_dmarc(Domain(bare))}",
        ),
    }


def test_key_check_without_keys_exits_with_3(host: Host) -> None:
    """There is nothing to check."""
    assert CliRunner().invoke(main, [*host.config, "key", "check", "other.test"]).exit_code == 3
