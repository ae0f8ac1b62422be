"""How mail of a domain is signed when ptt.toml says otherwise than usual: by a parent's keys, in the simple form."""

import re
from itertools import product
from pathlib import Path

import pytest

from ptt.core.address import Domain
from ptt.core.errors import ConfigError, NoUsableKey
from ptt.core.signature import Algorithm, SigningPolicy
from ptt.settings import load_settings
from ptt.signing.signer import Signer
from ptt.workers.wiring import make_policies
from tests.servers.verifiers import verify_by_dkimpy
from tests.signing_keys import DOMAIN, SIGNED_AT, make_ring

CHILD = Domain("news.example.test")
CONTENT = b"From: Ann <ann@NEWS.example.test>\r\nSubject:  A\r\n\tb  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n"
PASS = ["ed25519-sha256=pass"]


def test_mail_of_a_child_domain_is_signed_by_keys_of_its_parent(tmp_path: Path) -> None:
    """d= is the parent, which DMARC takes for aligned (RFC 7489 section 3.1.1); it passes."""
    ring, records = make_ring(tmp_path, Algorithm.ED25519_SHA256)
    signer = Signer(ring, policies={CHILD: SigningPolicy(signing_domain=DOMAIN)})
    signature = signer.sign(CONTENT, signed_at=SIGNED_AT)
    assert re.findall(rb"\bd=([^;]+);", signature) == [DOMAIN.encode()]
    assert signer.find_domain(CONTENT) == DOMAIN
    assert verify_by_dkimpy(signature + CONTENT, records) == PASS


def test_mail_of_a_child_domain_waits_for_its_own_key_unless_told_otherwise(tmp_path: Path) -> None:
    """A parent's key signs for nobody that ptt.toml does not name."""
    ring, _ = make_ring(tmp_path, Algorithm.ED25519_SHA256)
    with pytest.raises(NoUsableKey, match="news"):
        Signer(ring).sign(CONTENT, signed_at=SIGNED_AT)


@pytest.mark.parametrize(("is_header_simple", "is_body_simple"), [*product((False, True), repeat=2)])
def test_signature_in_each_form_passes_and_simple_ones_absorb_nothing(
    tmp_path: Path,
    is_header_simple: bool,  # noqa: FBT001 - from a table
    is_body_simple: bool,  # noqa: FBT001 - from a table
) -> None:
    """Blanks that are changed on the way break what is simple, and only that (RFC 6376 section 3.4)."""
    ring, records = make_ring(tmp_path, Algorithm.ED25519_SHA256)
    policy = SigningPolicy(signing_domain=DOMAIN, is_header_simple=is_header_simple, is_body_simple=is_body_simple)
    signature = Signer(ring, policies={CHILD: policy}).sign(CONTENT, signed_at=SIGNED_AT)
    assert verify_by_dkimpy(signature + CONTENT, records) == PASS
    header = verify_by_dkimpy(signature + CONTENT.replace(b"Subject:  A", b"Subject: A"), records)
    body = verify_by_dkimpy(signature + CONTENT.replace(b"D \t E", b"D E"), records)
    assert (header == PASS, body == PASS) == (not is_header_simple, not is_body_simple)


def test_policies_are_those_of_ptt_toml(tmp_path: Path) -> None:
    """[[signing.domains]] names the domain, whose keys sign, and the forms of header and body."""
    config = tmp_path / "ptt.toml"
    config.write_text(
        '[signing]\ndomains = [ { domain = "news.example.test", sign_as = "example.test" },\n'
        '{ domain = "odd.test", canonicalization = "simple/relaxed" } ]\n'
    )
    assert make_policies(load_settings(config)) == {
        CHILD: SigningPolicy(signing_domain=DOMAIN),
        "odd.test": SigningPolicy(signing_domain=Domain("odd.test"), is_header_simple=True),
    }


@pytest.mark.parametrize("sign_as", ["other.test", "ample.test", "mail.news.example.test"])
def test_key_of_a_domain_that_is_not_aligned_is_refused(tmp_path: Path, sign_as: str) -> None:
    """A signature of a stranger, or of a child, is worth nothing to DMARC (RFC 7489 section 3.1)."""
    config = tmp_path / "ptt.toml"
    config.write_text(f'[signing]\ndomains = [ {{ domain = "news.example.test", sign_as = "{sign_as}" }} ]\n')
    with pytest.raises(ConfigError, match="sign_as must be"):
        load_settings(config)
