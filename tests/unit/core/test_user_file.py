"""Changes of a user's file: what is meant, and nothing else."""

import pytest

from ptt.core.credentials import make_application_password
from ptt.core.errors import MalformedInput
from ptt.core.scram import make_verifier
from ptt.core.user import parse_user
from ptt.core.user_file import (
    add_application_password,
    format_user,
    remove_application_password,
    replace_enabled,
    replace_password,
)

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaA"
MINIMAL = f'password = "{HASH}"\naddresses = ["alice@example.test"]\n'
SCRAM = make_verifier(b"secret", b"salt", 4096)
PRINTER = make_application_password("printer", b"made up")
SCANNER = make_application_password('the "scanner"', b"made up too")


def test_format_user_is_read_back() -> None:
    """What is written is what is meant, whatever is in it."""
    user = parse_user("alice", format_user(HASH, ['"a\\"b"@example.test', "ünal@example.test", "*@example.test"]))
    assert {address.local for address in user.addresses} == {'"a\\"b"', "ünal"}
    assert user.domains == {"example.test"}


def test_replace_password_leaves_all_else_as_it_is() -> None:
    """Comments and order are a person's."""
    text = f'# Alice\naddresses = ["alice@example.test"] # hers\npassword = "{HASH}" # old\nrate_per_hour = 5\n'
    changed = replace_password("alice", text, HASH + "2")
    assert changed == text.replace(f'"{HASH}" # old', f'"{HASH}2"')


def test_replace_enabled_adds_or_changes_the_key() -> None:
    """A file without the key gets it at the end, and never twice."""
    disabled = replace_enabled("alice", MINIMAL, enabled=False)
    assert disabled == MINIMAL + "enabled = false\n"
    assert replace_enabled("alice", disabled, enabled=True) == MINIMAL + "enabled = true\n"
    assert replace_enabled("alice", MINIMAL.rstrip(), enabled=False) == disabled


@pytest.mark.parametrize(
    "text",
    [
        f'password = """\n{HASH}"""\naddresses = ["alice@example.test"]\n',
        f'addresses = ["""\nalice@example.test""",\n]\n"password" = "{HASH}"\n',
    ],
)
def test_replace_password_that_a_line_cannot_hold_is_refused(text: str) -> None:
    """Rather no change than a wrong one."""
    with pytest.raises(MalformedInput):
        replace_password("alice", text, HASH + "2")


def test_replace_password_replaces_that_of_scram_too() -> None:
    """The old password must not go on to work by way of SCRAM."""
    with_scram = format_user(HASH, ["alice@example.test"], SCRAM)
    assert parse_user("alice", with_scram).scram == SCRAM
    other = make_verifier(b"other", b"salt", 4096)
    assert parse_user("alice", replace_password("alice", with_scram, HASH + "2", other)).scram == other
    assert replace_password("alice", with_scram, HASH) == MINIMAL
    assert replace_password("alice", MINIMAL, HASH, SCRAM) == with_scram


def test_application_passwords_are_added_and_removed_one_by_one() -> None:
    """Each is a table at the end; the rest of the file stays as it is."""
    one = add_application_password("alice", MINIMAL, PRINTER)
    two = add_application_password("alice", one, SCANNER)
    assert parse_user("alice", two).application_passwords == (PRINTER, SCANNER)
    assert remove_application_password("alice", two, 'the "scanner"') == one
    left = remove_application_password("alice", two, "printer")
    assert left is not None
    assert parse_user("alice", left).application_passwords == (SCANNER,)
    assert remove_application_password("alice", one, "printer") == MINIMAL
    assert remove_application_password("alice", one, "scanner") is None
    with pytest.raises(MalformedInput, match="exists already"):
        add_application_password("alice", one, PRINTER)


def test_change_before_tables_stays_before_them() -> None:
    """A key behind the header of a table would be a key of the table."""
    with_table = add_application_password("alice", MINIMAL, PRINTER)
    changed = parse_user("alice", replace_enabled("alice", with_table, enabled=False))
    assert (changed.enabled, changed.application_passwords) == (False, (PRINTER,))
    changed = parse_user("alice", replace_password("alice", with_table, HASH, SCRAM))
    assert (changed.scram, changed.application_passwords) == (SCRAM, (PRINTER,))
