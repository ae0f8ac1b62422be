"""The pure parts of DKIM: signed names, the signature field, key records, selectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.address import Domain
from ptt.core.errors import MalformedInput
from ptt.core.signature import (
    MAX_INSTANCES,
    OVERSIGNED,
    SIGNED_IF_PRESENT,
    SINGLETONS,
    Algorithm,
    Selector,
    SignatureTags,
    canonicalize_unsigned,
    decide_signed_names,
    format_key_name,
    format_key_record,
    format_signed,
    format_unsigned,
    is_key_record,
    parse_selector,
    split_txt,
)
from ptt.signing.canonicalization import relax_header

DOMAIN = Domain("example.test")
NAMES = st.lists(st.sampled_from([*OVERSIGNED, *SIGNED_IF_PRESENT, b"x-other", b"received"]), unique=True)


def make_tags(names: tuple[bytes, ...] = (b"from", b"from"), selector: str = "s1") -> SignatureTags:
    """Make tags that differ in what the test is about."""
    return SignatureTags(
        algorithm=Algorithm.ED25519_SHA256,
        canonicalization=b"relaxed/relaxed",
        signing_domain=DOMAIN,
        selector=Selector(selector),
        signed_at=1_795_000_000,
        expires_at=1_796_036_800,
        signed_names=names,
        body_hash=b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    )


@given(NAMES)
def test_decide_signed_names_of_any_header_oversigns(present: list[bytes]) -> None:
    """Each field that matters is named once more than it occurs (RFC 6376 section 8.15)."""
    fields = dict.fromkeys([*present, b"from"], (b"line",))
    names = decide_signed_names(fields)
    for name in OVERSIGNED:
        assert names.count(name) == (2 if name in fields else 1)
    for name in SIGNED_IF_PRESENT:
        assert names.count(name) == (1 if name in fields else 0)
    assert not {b"x-other", b"received", b"dkim-signature", b"return-path", b"bcc"} & set(names)


def test_decide_signed_names_without_from_refuses() -> None:
    """From MUST be signed (RFC 6376 section 5.4)."""
    with pytest.raises(MalformedInput, match="no From"):
        decide_signed_names({b"to": (b"to:a",)})


@pytest.mark.parametrize("name", sorted(SINGLETONS))
def test_decide_signed_names_with_a_second_singleton_refuses(name: bytes) -> None:
    """A verifier may check one and a reader be shown the other (RFC 6376 section 8.15)."""
    with pytest.raises(MalformedInput, match=f"more than one {name.decode()}"):
        decide_signed_names({b"from": (b"a",), name: (b"a", b"b")})


def test_decide_signed_names_of_a_flood_of_fields_is_bounded() -> None:
    """The size of h= does not follow the size of the header."""
    names = decide_signed_names({b"from": (b"a",), b"resent-to": (b"b",) * 100_000})
    assert names.count(b"resent-to") == MAX_INSTANCES


@given(NAMES, st.sampled_from(["s1", "ptt20261123", "s" * 63]))
def test_format_unsigned_of_any_names_keeps_lines_short(present: list[bytes], selector: str) -> None:
    """RFC 5322 section 2.1.1: a line SHOULD have no more than 78 characters; h= is folded at colons."""
    names = decide_signed_names(dict.fromkeys([*present, b"from"], (b"line",)))
    signed = format_signed(format_unsigned(make_tags(names, selector)), bytes(range(256)))
    assert signed.endswith(b"\r\n")
    assert b"\r\n\r\n" not in signed
    assert max(map(len, signed.split(b"\r\n"))) <= 78
    folded = signed.partition(b" h=")[2].partition(b";")[0]
    assert tuple(folded.replace(b"\r\n ", b"").split(b":")) == names


@given(NAMES)
def test_canonicalize_unsigned_equals_the_canonical_header(present: list[bytes]) -> None:
    """The short way for our own field gives what the canonicalisation of any field does (RFC 6376 section 3.7)."""
    unsigned = format_unsigned(make_tags(decide_signed_names(dict.fromkeys([*present, b"from"], (b"line",)))))
    assert [canonicalize_unsigned(unsigned)] == relax_header(unsigned + b"\r\n")


def test_format_unsigned_has_the_tags_of_the_standard_and_no_length() -> None:
    """RFC 6376 section 3.5; l= would let anybody add to the body (section 8.2)."""
    value = format_unsigned(make_tags()).replace(b"\r\n ", b" ").removeprefix(b"DKIM-Signature: ")
    tags = dict(tag.strip().split(b"=", 1) for tag in value.split(b";"))
    assert tags == {
        b"v": b"1",
        b"a": b"ed25519-sha256",
        b"c": b"relaxed/relaxed",
        b"d": b"example.test",
        b"s": b"s1",
        b"t": b"1795000000",
        b"x": b"1796036800",
        b"h": b"from:from",
        b"bh": b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        b"b": b"",
    }


def test_format_key_record_of_the_standards_key_gives_its_record() -> None:
    """RFC 8463 appendix A.2; the version comes first (RFC 6376 section 3.6.1)."""
    public_key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    record = format_key_record(Algorithm.ED25519_SHA256, public_key)
    assert record == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v=DKIM1; k=rsa; p=AAAA", True),
        ("v=DKIM1;p=", True),
        ("v = DKIM1 ; p=", True),
        ("v=spf1 -all", False),
        ("k=rsa; v=DKIM1; p=AAAA", False),
        ("v=DKIM10; p=", False),
        ("", False),
    ],
)
def test_is_key_record_looks_at_the_first_tag(text: str, expected: bool) -> None:  # noqa: FBT001 - a column of cases
    """What is not a key of ours is somebody else's record (RFC 6376 section 3.6.1)."""
    assert is_key_record(text) is expected


@given(st.integers(min_value=1, max_value=2000))
def test_split_txt_of_any_length_gives_strings_that_fit(length: int) -> None:
    """A string of a TXT record has at most 255 octets (RFC 1035 section 3.3); none is empty, none is lost."""
    text = "".join(chr(ord("A") + number % 26) for number in range(length))
    parts = split_txt(text)
    assert b"".join(parts).decode() == text
    assert all(1 <= len(part) <= 255 for part in parts)
    assert len(parts) == -(-length // 255)


@pytest.mark.parametrize("text", ["s1", "ptt20261123-2", "2026.mail", "a" * 63])
def test_parse_selector_of_dns_labels_gives_the_name(text: str) -> None:
    """RFC 6376 section 3.1: labels joined by dots."""
    selector = parse_selector(text, DOMAIN)
    assert format_key_name(selector, DOMAIN) == f"{text}._domainkey.example.test"


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", "-a", "a-", "A", "a_b", "a/b", "../../x", "a b", "a" * 64, "ä", "a\n", ".".join("a" * 120)],
)
def test_parse_selector_of_anything_else_refuses(text: str) -> None:
    """It becomes a file name and a DNS name: nothing but labels may get through."""
    with pytest.raises(MalformedInput):
        parse_selector(text, DOMAIN)
