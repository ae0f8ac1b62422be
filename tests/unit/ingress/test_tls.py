"""Which certificate a client gets, and by which cipher. RFC 6066 section 3, RFC 9525, RFC 9325."""

import datetime as dt
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from ptt.core.errors import ConfigError
from ptt.ingress.tls import CertificateFiles, ServerTls


def issue(folder: Path, authority: trustme.CA, *names: str) -> CertificateFiles:
    """Write a certificate for these names."""
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert(*names)
    files = CertificateFiles(folder / "certificate.pem", folder / "key.pem")
    issued.private_key_pem.write_to_path(str(files.key_file))
    issued.cert_chain_pems[0].write_to_path(str(files.certificate_file))
    return files


def meet(tls: ServerTls, name: str | None, client: ssl.SSLContext | None = None) -> tuple[set[str], str]:
    """Make a handshake in memory; give the names in the server's certificate, and the cipher."""
    if client is None:
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [tls.context.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname=name)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = ends[1].getpeercert(binary_form=True)
    cipher = ends[1].cipher()
    assert der is not None
    assert cipher is not None
    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(found.value.get_values_for_type(x509.DNSName)), cipher[0]


@pytest.fixture
def authority() -> trustme.CA:
    """Give an authority."""
    return trustme.CA()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "mail.example.test"),
        ("mail.example.test", "mail.example.test"),
        ("MAIL.other.test", "mail.other.test"),
        ("a.many.test", "*.many.test"),
        ("a.b.many.test", "mail.example.test"),
        ("exact.many.test", "exact.many.test"),
        ("nobody.test", "mail.example.test"),
    ],
)
def test_client_gets_the_certificate_that_has_its_name(
    tmp_path: Path, authority: trustme.CA, name: str | None, expected: str
) -> None:
    """SNI: the exact name before a wildcard, a wildcard for one label, else the first certificate."""
    names = ("mail.example.test", "mail.other.test", "*.many.test", "exact.many.test")
    tls = ServerTls([issue(tmp_path / str(number), authority, one) for number, one in enumerate(names)])
    assert meet(tls, name)[0] == {expected}


def test_reload_takes_all_certificates_or_none(tmp_path: Path, authority: trustme.CA) -> None:
    """Half of a renewal is not served."""
    files = [issue(tmp_path / name, authority, f"{name}.test") for name in ("one", "two")]
    tls = ServerTls(files)
    issue(tmp_path / "one", authority, "new.test", "one.test")
    whole = files[1].certificate_file.read_bytes()
    files[1].certificate_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="two"):
        tls.reload()
    assert meet(tls, "one.test")[0] == {"one.test"}
    files[1].certificate_file.write_bytes(whole)
    tls.reload()
    assert meet(tls, "one.test")[0] == {"one.test", "new.test"}
    assert meet(tls, "two.test")[0] == {"two.test"}


def test_expired_certificate_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    """Case 232: no client would take it, so it is told at the start, and at a reload the old one stays."""
    files = issue(tmp_path, authority, "mail.example.test")
    tls = ServerTls([files])
    then = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    expired = authority.issue_cert("mail.example.test", not_before=then, not_after=then + dt.timedelta(days=9))
    expired.private_key_pem.write_to_path(str(files.key_file))
    expired.cert_chain_pems[0].write_to_path(str(files.certificate_file))
    with pytest.raises(ConfigError, match="expired on 2020-01-10"):
        tls.reload()
    assert meet(tls, None)[0] == {"mail.example.test"}


@pytest.mark.parametrize(
    ("ciphers", "is_served"), [("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE+AES:!AESGCM", False)]
)
def test_tls_1_2_is_served_with_forward_secrecy_and_aead_only(
    tmp_path: Path, authority: trustme.CA, ciphers: str, *, is_served: bool
) -> None:
    """RFC 9325 section 4.2: no CBC, no static key exchange."""
    tls = ServerTls([issue(tmp_path, authority, "mail.example.test")])
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    if is_served:
        assert meet(tls, None, client)[1] == ciphers
    else:
        with pytest.raises(ssl.SSLError):
            meet(tls, None, client)
