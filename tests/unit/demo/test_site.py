"""Editing ptt.toml as a person would."""

import tomllib

import pytest

from ptt.demo.programs import DemoFailed
from ptt.demo.site import Ports, edit_toml, list_edits

TEXT = """\
# The settings.

[ingress]
# "0.0.0.0", port = 587, tls = "starttls" }].
listen = [
    { address = "0.0.0.0", port = 465, tls = "implicit" },
]
# port = 1
hostname = "mail.example.test"

[dns_update]
# Port of the primary. Default: 53.
# port = 53
# check_port = 53
"""


@pytest.mark.parametrize(
    ("dotted", "value", "expected"),
    [
        ("ingress.listen", "[]", {"ingress": {"listen": [], "hostname": "mail.example.test"}}),
        ("dns_update.port", "5353", {"dns_update": {"port": 5353}}),
        ("ingress.hostname", '"a\\\\b"', {"ingress": {"hostname": "a\\b"}}),
    ],
)
def test_edit_toml_key_is_set_in_its_table(dotted: str, value: str, expected: dict[str, dict[str, object]]) -> None:
    """A value is replaced where it stands, a default is uncommented, and nothing else changes."""
    before = tomllib.loads(TEXT)
    after = tomllib.loads(edit_toml(TEXT, dotted, value))
    assert after == {section: {**table, **expected.get(section, {})} for section, table in before.items()}


@pytest.mark.parametrize("dotted", ["ingress.nothing", "nowhere.port", "dns_update.hostname"])
def test_edit_toml_unknown_key_fails(dotted: str) -> None:
    """A key that `ptt init` does not write is a fault of the demonstration, not a line that is silently missing."""
    with pytest.raises(DemoFailed, match=dotted):
        edit_toml(TEXT, dotted, "1")


def test_list_edits_each_value_is_toml() -> None:
    """Each value can stand in ptt.toml."""
    for dotted, value in list_edits(Ports(implicit=1, starttls=2, dns=3, mx=4)).items():
        assert tomllib.loads(f"{dotted} = {value}")
