"""What ingress makes of the files that its settings name: certificates, keys of tokens, the users repository."""

from collections.abc import Iterator
from functools import partial

from ptt.core.errors import ConfigError
from ptt.ingress.tls import CertificateFiles, ServerTls, check_authorities, check_certificate
from ptt.settings import Settings
from ptt.store.tokens import JwtTokens, TokenRules
from ptt.store.users import GitUsers
from ptt.store.users_repository import check_source
from ptt.store.users_signers import Signers
from ptt.store.users_transfer import Access
from ptt.workers.readiness import Check
from ptt.workers.wiring import check_redis_files, read_seal_key


def list_checks(settings: Settings) -> Iterator[Check]:
    """List what can be wrong with the files."""
    yield check_redis_files(settings)
    yield Check(("ingress.seal_key_file",), partial(read_seal_key, settings))
    yield from _list_certificate_checks(settings)
    yield Check(("oauth.keys_file",), partial(open_tokens, settings))
    yield Check(("users.signers_file", "users.gpg_signers_file"), _make_signers(settings).check_setting)
    yield Check(("users.repository", "users.clone_dir"), partial(check_source, _make_access(settings)))


def load_tls(settings: Settings) -> ServerTls:
    """Load the certificates.

    Raises:
        ConfigError: one cannot be used.
    """
    return ServerTls(_list_certificates(settings), settings.ingress.client_ca_file)


def open_tokens(settings: Settings) -> JwtTokens | None:
    """Load the keys of tokens, if there are to be any.

    Raises:
        ConfigError: they cannot be used.
    """
    oauth = settings.oauth
    if oauth.keys_file is None:
        return None
    return JwtTokens(
        TokenRules(
            keys_file=oauth.keys_file,
            issuer=oauth.issuer,
            audience=oauth.audience,
            algorithms=oauth.algorithms,
            login_claim=oauth.login_claim,
            scope=oauth.scope,
        )
    )


def open_users(settings: Settings) -> GitUsers:
    """Open the users repository.

    Raises:
        ConfigError: it cannot be used.
    """
    return GitUsers(_make_access(settings), _make_signers(settings))


def _list_certificates(settings: Settings) -> list[CertificateFiles]:
    ingress = settings.ingress
    certificates = ingress.all_certificates
    # One without the other: the certificate that was meant would silently not be served.
    if (ingress.certificate_file is None) is not (ingress.key_file is None):
        absent = "certificate_file" if ingress.certificate_file is None else "key_file"
        raise ConfigError(f"ingress.{absent}: missing; each certificate needs its key")
    if not certificates:
        raise ConfigError("ingress.certificate_file: missing")
    return [CertificateFiles(one.certificate_file, one.key_file) for one in certificates]


def _list_certificate_checks(settings: Settings) -> Iterator[Check]:
    ingress = settings.ingress
    first = ("ingress.certificate_file", "ingress.key_file")
    yield Check(first, partial(_list_certificates, settings))
    more = [f"ingress.certificates[{number}]" for number in range(len(ingress.certificates))]
    keys = [first] * (len(ingress.all_certificates) - len(more))
    keys += [(f"{place}.certificate_file", f"{place}.key_file") for place in more]
    for names, one in zip(keys, ingress.all_certificates, strict=True):
        yield Check(names, partial(check_certificate, CertificateFiles(one.certificate_file, one.key_file)))
    if ingress.client_ca_file is not None:
        yield Check(("ingress.client_ca_file",), partial(check_authorities, ingress.client_ca_file))


def _make_access(settings: Settings) -> Access:
    users = settings.users
    return Access(
        repository=users.repository,
        branch=users.branch,
        clone_dir=users.clone_dir,
        ssh_key_file=users.ssh_key_file,
        password_file=users.password_file,
        known_hosts_file=users.known_hosts_file,
        allows_rewind=users.allow_rewind,
    )


def _make_signers(settings: Settings) -> Signers:
    return Signers(ssh_file=settings.users.signers_file, gpg_file=settings.users.gpg_signers_file)
