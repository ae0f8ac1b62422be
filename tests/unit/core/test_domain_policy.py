"""What is wrong with the TXT records that receivers look at: keys, SPF, DMARC."""

import pytest

from ptt.core.address import Domain
from ptt.core.domain_policy import (
    find_dmarc_fault,
    find_key_faults,
    find_spf_fault,
    format_dmarc,
    format_spf,
    is_revoked,
    list_dmarc_names,
)

GOOD_KEY = "v=DKIM1; k=ed25519; p=8VU6eZGIW/dL3hH60dT6rOIH4H2egpfxDSPFm9z0Xwo="


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD_KEY, ""),
        ("v=DKIM1;p=QUJD", ""),
        ("v=DKIM1; h=sha1:sha256; s=email; t=s; p=QUJD;", ""),
        ("h=sha256; v=DKIM1; p=QUJD", "does not begin with v=DKIM1"),
        ("k=rsa; p=QUJD", "does not begin with v=DKIM1"),
        ("v=DKIM1; k=dsa; p=QUJD", "unknown type of key"),
        ("v=DKIM1; h=sha1; p=QUJD", "forbids SHA-256"),
        ("v=DKIM1; s=tlsrpt; p=QUJD", "is not for mail"),
        ("v=DKIM1; t=y:s; p=QUJD", "is a test"),
        ("v=DKIM1; p=", "is revoked"),
        ("v=DKIM1; k=rsa", "no public key"),
        ("v=DKIM1; p=QUJ*", "no base64"),
        ("v=DKIM1; p=QUJD; p=QUJE", "no list of tags"),
        ("v=spf1 -all", "does not begin with v=DKIM1"),
        ("hello", "no list of tags"),
        (f"v=DKIM1; p={'QUJD' * 300}", "too long for an answer over UDP"),
    ],
)
def test_key_record_case_has_its_fault(text: str, fault: str) -> None:
    """RFC 6376 section 3.6.1: each tag that keeps receivers from using the key is named."""
    faults = find_key_faults(text)
    assert (fault in "; ".join(faults)) if fault else faults == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("v=DKIM1; k=rsa; p=", True), ("v=DKIM1;p= ;", True), (GOOD_KEY, False), ("v=DKIM1", False), ("p", False)],
)
def test_key_record_without_a_public_key_is_revoked(text: str, expected: bool) -> None:  # noqa: FBT001 - a case
    """RFC 6376 section 3.6.1: p= is there and empty."""
    assert is_revoked(text) is expected


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (["other", "v=spf1 mx -all"], ""),
        (["V=SPF1 mx ~all"], ""),
        (["v=spf10 -all"], "has no SPF record"),
        ([], "has no SPF record"),
        (["v=spf1 -all", "v=spf1 mx -all"], "has 2 SPF records"),
        (["v=spf1 +all"], "lets everybody send"),
        (["v=spf1 all"], "lets everybody send"),
    ],
)
def test_spf_case_has_its_fault(texts: list[str], fault: str) -> None:
    """RFC 7208 section 4.5: exactly one record counts."""
    assert find_spf_fault(texts).startswith(fault)
    assert bool(find_spf_fault(texts)) == bool(fault)


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (["v=DMARC1; p=none"], ""),
        (["v=DMARC1;p=reject;rua=mailto:a@example.org"], ""),
        (["v=spf1 -all"], "has no DMARC record"),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], "has 2 DMARC records"),
        (["v=DMARC1; rua=mailto:a@example.org"], "without a policy"),
        (["v=DMARC1; p=all"], "without a policy"),
    ],
)
def test_dmarc_case_has_its_fault(texts: list[str], fault: str) -> None:
    """RFC 7489 section 6.6.3: exactly one record with a policy counts."""
    assert fault in find_dmarc_fault(texts)
    assert bool(find_dmarc_fault(texts)) == bool(fault)


def test_texts_to_paste_are_what_the_checks_ask_for() -> None:
    """Who pastes them has no fault any more."""
    domain = Domain("news.example.org")
    assert find_spf_fault([format_spf(domain, "mail.example.org").split('"')[1]]) == ""
    assert find_dmarc_fault([format_dmarc(domain).split('"')[1]]) == ""
    assert format_spf(domain, "mail.example.org").startswith("news.example.org. 3600 IN TXT")


def test_list_dmarc_names_goes_up_to_the_second_label() -> None:
    """A policy of the organisation counts for the names below it."""
    assert list_dmarc_names(Domain("a.b.example.org")) == [
        "_dmarc.a.b.example.org",
        "_dmarc.b.example.org",
        "_dmarc.example.org",
    ]
