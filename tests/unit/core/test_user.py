"""The file of a user: what it allows, what is refused, and how it is changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.address import Address, Domain, parse_address
from ptt.core.errors import MalformedInput
from ptt.core.user import (
    MAX_LOGIN,
    fold_login,
    parse_login,
    parse_user,
)
from ptt.core.user_file import format_user

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaA"
MINIMAL = f'password = "{HASH}"\naddresses = ["alice@example.test"]\n'


def test_parse_user_minimal_has_defaults() -> None:
    """Password and addresses are enough."""
    user = parse_user("alice", MINIMAL)
    assert user.login == "alice"
    assert user.password_hash == HASH
    assert user.addresses == {Address("alice", Domain("example.test"))}
    assert (user.domains, user.rate_per_hour, user.enabled) == (frozenset(), None, True)


def test_parse_user_complete() -> None:
    """All keys of the file format."""
    text = f'password = "{HASH}"\naddresses = ["*@Alerts.example.test"]\nrate_per_hour = 5\nenabled = false\n'
    user = parse_user("app@example.test", text)
    assert user.domains == {"alerts.example.test"}
    assert (user.rate_per_hour, user.enabled) == (5, False)


def test_parse_user_takes_a_rate_of_0_as_it_is() -> None:
    """0 is no limit; it is something else than a file that says nothing."""
    user = parse_user("alice", f"{MINIMAL}rate_per_hour = 0\nrate_per_day = 0\nrecipients_per_day = 0\n")
    assert (user.rate_per_hour, user.rate_per_day, user.recipients_per_day) == (0, 0, 0)


@pytest.mark.parametrize(
    ("address", "is_own"),
    [
        ("alice@example.test", True),
        ("alice@EXAMPLE.test", True),
        ("Alice@example.test", False),
        ("bob@example.test", False),
        ("anyone@alerts.example.test", True),
        ("anyone@sub.alerts.example.test", False),
    ],
)
def test_may_send_as_only_what_is_listed(address: str, *, is_own: bool) -> None:
    """A pattern covers its own domain and nothing below or beside it."""
    user = parse_user("alice", format_user(HASH, ["alice@example.test", "*@alerts.example.test"]))
    assert user.may_send_as(parse_address(address)) is is_own


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("password = \n", "Invalid value (at line 1"),
        ("rate_per_hour = " + "9" * 5000, "Exceeds the limit"),
        ("addresses = " + "[" * 10_000, "maximum recursion depth exceeded"),
        ("", "password: missing"),
        (f'password = "{HASH}"', "addresses: missing"),
        (MINIMAL + "admin = true", "admin: unknown key"),
        (MINIMAL + "rate_per_hour = true", "rate_per_hour: must be int, not bool"),
        (MINIMAL + "rate_per_hour = -1", "rate_per_hour: must not be negative"),
        (MINIMAL + "recipients_per_day = -1", "recipients_per_day: must not be negative"),
        (MINIMAL + "enabled = 1", "enabled: must be bool, not int"),
        (MINIMAL.replace(HASH, "secret"), "password: not an argon2id hash"),
        (MINIMAL.replace(HASH, "$argon2i$v=19$m=1"), "password: not an argon2id hash"),
        (MINIMAL.replace('"alice@example.test"', "5"), "addresses: each must be text"),
        (MINIMAL.replace("alice@example.test", "alice"), "addresses: 'alice': no domain in the address"),
        (MINIMAL.replace("alice@example.test", "*@*"), "addresses: '*@*': malformed domain"),
        ("\ufeff" + MINIMAL, "Invalid statement (at line 1"),
    ],
)
def test_parse_user_refuses_with_the_reason(text: str, reason: str) -> None:
    """What is wrong is named; nothing unknown is passed over."""
    with pytest.raises(MalformedInput) as caught:
        parse_user("alice", text)
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("login", ["alice", "app@example.test", "a", "Ünal", "a b", "a.b-c_d+e", "x" * MAX_LOGIN])
def test_parse_login_takes_what_can_be_a_file(login: str) -> None:
    """Any name that a file may have and a person can see."""
    assert parse_login(login) == login


@pytest.mark.parametrize(
    "login",
    ["", "x" * (MAX_LOGIN + 1), "é" * MAX_LOGIN, "a/b", "/a", "a\\b", ".git", "..", "a..b", "a\n", "a\0b", " a", "a ",
     "a\u202eb", "a\u200bb", "\udc80"],
)  # fmt: skip
def test_parse_login_refuses_what_could_be_a_path_or_a_lie(login: str) -> None:
    """Separators, leading dots, control, invisible and bidirectional characters."""
    with pytest.raises(MalformedInput, match=r"^login: "):
        parse_login(login)


@given(st.text(max_size=40))
def test_parse_login_gives_a_file_name_or_refuses(text: str) -> None:
    """Whatever is taken has no separator, no leading dot and nothing that cannot be seen."""
    try:
        login = parse_login(text)
    except MalformedInput:
        return
    assert login == text
    assert login.isprintable()
    assert not set(login) & set("/\\")
    assert login not in {"", ".", ".."}


@pytest.mark.parametrize(("one", "other"), [("Alice", "alice"), ("straße", "STRASSE"), ("é", "e\u0301"), ("ﬁ", "fi")])
def test_fold_login_is_equal_for_look_alikes(one: str, other: str) -> None:
    """Case and composition do not make another user."""
    assert fold_login(one) == fold_login(other)
