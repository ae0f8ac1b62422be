"""``ptt init``: a folder with all that `ptt up` needs."""

import base64
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

import click

from ptt.cli.certificate import make_self_signed
from ptt.cli.exits import FAILED, Exit
from ptt.cli.reference import Tables, format_toml, get_defaults
from ptt.core.address import parse_domain
from ptt.core.seal import SEAL_KEY_BYTES
from ptt.domain_names import to_a_labels
from ptt.store.users_commit import create_repository

CONFIG, SEAL_KEY, KEYS, USERS, DATA = "ptt.toml", "seal.key", "keys", "users.git", "var"
CERTIFICATE, CERTIFICATE_KEY = "tls/certificate.pem", "tls/key.pem"
PRIVATE_FILE = stat.S_IRUSR | stat.S_IWUSR
PRIVATE_FOLDER = stat.S_IRWXU
PORTS, ROOTLESS_PORTS = (465, 587), (4465, 4587)

_HEADER = """\
# The settings of ptt. A line that starts with "# name =" shows a default: remove the # to change it.
# Every key can also come from the environment, as PTT_SECTION__NAME. `ptt config check` finds what is wrong.
"""


@click.command()
@click.option("--domain", help="The domain that sends mail; the server is called mail.DOMAIN.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Folder for it all; made if there is none.",
)
@click.option(
    "--certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Certificate and chain to use."
)
@click.option("--key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Key of that certificate.")
def init(domain: str | None, directory: Path, certificate: Path | None, key: Path | None) -> None:
    """Make a folder with all that `ptt up` needs.

    Writes a commented ptt.toml, the seal key, a folder for DKIM keys and a users repository. Without --certificate and
    --key it makes a self-signed certificate for mail.DOMAIN: good enough for a trial, to be replaced after it. Never
    overwrites anything.

    Example: ptt init --domain example.org --directory /etc/ptt
    """
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key belong together")
    hostname = parse_domain(f"mail.{domain}", to_a_labels) if domain else ""
    try:
        _refuse_existing(directory)
        _make_folders(directory)
        _write_private(directory / SEAL_KEY, base64.b64encode(secrets.token_bytes(SEAL_KEY_BYTES)) + b"\n")
        create_repository(directory / USERS, "main")
        is_self_signed = certificate is None and bool(hostname) and _make_certificate(directory, hostname)
        values = _choose_values(hostname, certificate, key)
        text = _HEADER + "\n" + _format_config(values)
        with (directory / CONFIG).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Exit(f"{error.filename or directory}: {error.strerror or error}", FAILED) from error
    _print_next_steps(directory, domain, is_self_signed=is_self_signed, has_certificate=certificate is not None)


def _refuse_existing(directory: Path) -> None:
    existing = [str(directory / name) for name in (CONFIG, SEAL_KEY, USERS) if (directory / name).exists()]
    if existing:
        raise Exit("\n".join(f"{path}: exists already, nothing was changed" for path in existing), FAILED)


def _make_folders(directory: Path) -> None:
    """Make the folders; what is there already stays as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    # The users repository holds password hashes.
    for name in (KEYS, DATA, USERS):
        (directory / name).mkdir(PRIVATE_FOLDER, exist_ok=True)
    (directory / CERTIFICATE).parent.mkdir(exist_ok=True)


def _write_private(path: Path, data: bytes) -> None:
    # The mode is right from the start: nobody can open the file before it is.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "wb") as file:
        file.write(data)


def _make_certificate(directory: Path, hostname: str) -> bool:
    """Make a certificate unless there is one; tell whether it did."""
    certificate, key = directory / CERTIFICATE, directory / CERTIFICATE_KEY
    if certificate.exists() or key.exists():
        return False
    certificate_pem, key_pem = make_self_signed(hostname)
    _write_private(key, key_pem)
    certificate.write_bytes(certificate_pem)
    return True


def _choose_values(hostname: str, certificate: Path | None, key: Path | None) -> Mapping[str, object]:
    """Choose what is written; paths are relative to ptt.toml, so that the folder can be moved."""
    implicit, starttls = PORTS if os.geteuid() == 0 else ROOTLESS_PORTS
    values: dict[str, object] = {
        "ingress.hostname": hostname,
        "ingress.listen": [
            {"address": "0.0.0.0", "port": implicit, "tls": "implicit"},  # noqa: S104 - clients are elsewhere
            {"address": "0.0.0.0", "port": starttls, "tls": "starttls"},  # noqa: S104 - same
        ],
        "ingress.certificate_file": str(certificate.absolute()) if certificate else CERTIFICATE,
        "ingress.key_file": str(key.absolute()) if key else CERTIFICATE_KEY,
        "ingress.seal_key_file": SEAL_KEY,
        "users.repository": USERS,
        "users.clone_dir": f"{DATA}/users-clone",
        "signing.keys_dir": KEYS,
        "up.data_dir": f"{DATA}/valkey",
    }
    if not hostname:
        del values["ingress.hostname"]
    return values


def _format_config(values: Mapping[str, object]) -> str:
    tables: Tables = {
        section: {key: values.get(f"{section}.{key}", default) for key, default in table.items()}
        for section, table in get_defaults().items()
    }
    notes = {}
    if os.geteuid() != 0:
        notes["ingress.listen"] = "465 and 587 are usual; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    return format_toml(tables, lambda key: key in values, notes)


def _print_next_steps(directory: Path, domain: str | None, *, is_self_signed: bool, has_certificate: bool) -> None:
    config = directory / CONFIG
    click.echo(f"wrote {config}, {SEAL_KEY}, {KEYS}/, {USERS}", err=True)
    if is_self_signed:
        click.echo(
            f"wrote {directory / CERTIFICATE}: a SELF-SIGNED certificate for mail.{domain}, which no client trusts."
            f"\nReplace it and {directory / CERTIFICATE_KEY} by one of a public authority (then send SIGHUP), or set"
            " ingress.certificate_file and ingress.key_file.",
            err=True,
        )
    option = "" if config == Path(CONFIG) else f" --config {config}"
    click.echo("\nNext:", err=True)
    if domain is None:
        click.echo(f"  set ingress.hostname in {config}", err=True)
    if not has_certificate and not (directory / CERTIFICATE).exists():
        click.echo(f"  set ingress.certificate_file and ingress.key_file in {config}", err=True)
    domain = domain or "example.org"
    for command in (f"user add alice --address alice@{domain}", f"key create {domain}", "config check", "up"):
        click.echo(f"  ptt{option} {command}", err=True)
