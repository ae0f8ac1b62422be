"""Passwords of programs and names of certificates, as a user's file has them."""

import pytest

from ptt.core.credentials import (
    format_application_password,
    make_application_password,
    parse_application_password,
    parse_certificate,
)
from ptt.core.errors import MalformedInput
from ptt.core.user import parse_user

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaA"
MINIMAL = f'password = "{HASH}"\naddresses = ["alice@example.test"]\n'
DIGEST = "sha256:" + "ab" * 32
FINGERPRINT = "sha256:" + ":".join(["AB"] * 32)


def test_application_password_is_right_or_wrong() -> None:
    """Read back as it was made; neither it nor its hash is shown."""
    made = make_application_password("printer", b"made up")
    found = parse_application_password({"name": "printer", "hash": format_application_password(made)})
    assert found == made
    assert found.is_right(b"made up")
    assert not found.is_right(b"made u")
    assert "digest" not in repr(found)


@pytest.mark.parametrize(
    "table",
    [
        "text",
        {},
        {"name": "printer"},
        {"name": "printer", "hash": DIGEST, "scope": "all"},
        {"name": 5, "hash": DIGEST},
        {"name": "printer", "hash": 5},
        {"name": "", "hash": DIGEST},
        {"name": "x" * 65, "hash": DIGEST},
        {"name": "a\nb", "hash": DIGEST},
        {"name": " a", "hash": DIGEST},
        {"name": "printer", "hash": DIGEST.removeprefix("sha256:")},
        {"name": "printer", "hash": DIGEST[:-1]},
        {"name": "printer", "hash": HASH},
    ],
)
def test_wrong_application_password_is_refused(table: object) -> None:
    """Nothing unknown is passed over."""
    with pytest.raises(MalformedInput):
        parse_application_password(table)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (DIGEST, DIGEST),
        (FINGERPRINT, DIGEST),
        ("DNS:App.example.test", "dns:app.example.test"),
        ("email:alice@example.test", "email:alice@example.test"),
    ],
)
def test_certificate_names_have_one_form(text: str, name: str) -> None:
    """As openssl prints them, or as a person writes them."""
    assert parse_certificate(text) == name


@pytest.mark.parametrize(
    "text",
    [5, "", "sha256:", DIGEST[:-1], "sha1:" + "ab" * 20, "dns:", "dns:*.example.test", "dns:a b", "cn:alice"],
)
def test_wrong_certificate_name_is_refused(text: object) -> None:
    """A pattern or a common name would let in more than was meant."""
    with pytest.raises(MalformedInput):
        parse_certificate(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('scram = "secret"', "scram: not SCRAM-SHA-256"),
        ("scram = 5", "scram: must be str"),
        ('certificates = "sha256:"', "certificates: must be list"),
        ('certificates = ["cn:alice"]', "certificates: 'cn:alice'"),
        ("application_passwords = [5]", "application_passwords: each must be a table"),
        (f'[[application_passwords]]\nname = "a"\nhash = "{DIGEST}"\n' * 2, "application_passwords: two have the same"),
        (f'[[application_passwords]]\nname = "a"\nhash = "{DIGEST}"\nx = 1', "application_passwords: each must be"),
    ],
)
def test_parse_user_names_the_key_that_is_wrong(text: str, reason: str) -> None:
    """So that `users.refused` can name its line."""
    with pytest.raises(MalformedInput) as caught:
        parse_user("alice", MINIMAL + text)
    assert str(caught.value).startswith(reason)


def test_parse_user_has_all_ways_to_log_in() -> None:
    """Each is optional."""
    user = parse_user("alice", MINIMAL)
    assert (user.scram, user.certificates, user.application_passwords) == (None, frozenset(), ())
    user = parse_user("alice", f'{MINIMAL}certificates = ["{FINGERPRINT}", "{DIGEST}"]\n')
    assert user.certificates == {DIGEST}
