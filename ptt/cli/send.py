"""``ptt send``: one test message through the ingress, with every reply that it gives."""

import ipaddress
import json
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import TypedDict

import click
from typing_extensions import Unpack

from ptt.cli.dialogue import Message, Step, Target, submit
from ptt.cli.exits import FAILED, TEMPORARY, Exit
from ptt.cli.passwords import read_password
from ptt.core.address import Address, parse_address
from ptt.settings import Ingress, load_settings

SUBMISSIONS_PORT = 465  # RFC 8314 section 3.3: TLS from the first byte
SUBMISSION_PORT = 587  # RFC 6409 section 3.1: STARTTLS


class Options(TypedDict):
    """What the command line says."""

    recipients: tuple[Address, ...]
    reverse_path: Address
    user: str
    server: str | None
    subject: str
    text: str
    output: str
    password_stdin: bool
    starttls: bool
    insecure: bool


def _parse_one(_ctx: click.Context, _param: click.Parameter, value: str) -> Address:
    return parse_address(value)


def _parse_all(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[Address, ...]:
    return tuple(map(parse_address, value))


@click.command()
@click.option("--to", "recipients", multiple=True, required=True, callback=_parse_all, help="Can be repeated.")
@click.option("--from", "reverse_path", required=True, callback=_parse_one, help="MAIL FROM and From.")
@click.option("--user", required=True, help="Who logs in.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--server", metavar="HOST:PORT", help="Server; the first address of ingress.listen when absent.")
@click.option("--starttls", is_flag=True, help="With --server: STARTTLS on a port other than 587.")
@click.option("--insecure", is_flag=True, help="Do not check the certificate.")
@click.option("--subject", default="Test message of ptt", show_default=True)
@click.option("--text", default="This is a test message.", show_default=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_obj
def send(obj: dict[str, Path | None], **options: Unpack[Options]) -> None:
    """Send a test message through the ingress, over verified TLS, and print every reply.

    The certificate in ingress.certificate_file is trusted as the system's authorities are. Exits with 75 when the
    server cannot be reached or says "later", and with 1 when it says no.

    Example: ptt send --user alice --from alice@example.org --to bob@example.net
    """
    ingress = load_settings(obj["config"]).ingress
    target = _choose_target(ingress, options)
    message = Message(
        user=options["user"],
        password=read_password(from_stdin=options["password_stdin"]),
        reverse_path=options["reverse_path"],
        recipients=options["recipients"],
        content=_write_content(options),
    )
    steps = []
    try:
        for step in submit(target, message):
            steps.append(step)
            if options["output"] == "text":
                _print_step(step)
    except ssl.SSLCertVerificationError as error:
        raise Exit(f"{target.host}: {error.verify_message}; --insecure sends all the same", FAILED) from error
    except OSError as error:
        raise Exit(f"{target.host} port {target.port}: {error}", TEMPORARY) from error
    if options["output"] == "json":
        click.echo(json.dumps([step._asdict() for step in steps], indent=2))
    refused = next((step for step in steps if not step.is_accepted), None)
    if refused is not None:
        raise Exit(f"not sent: {refused.code} {refused.text}", TEMPORARY if refused.is_transient else FAILED)


def _choose_target(ingress: Ingress, options: Options) -> Target:
    context = ssl.create_default_context()
    if ingress.certificate_file is not None and ingress.certificate_file.exists():
        context.load_verify_locations(ingress.certificate_file)
    if options["insecure"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options["server"] is None:
        listen = ingress.listen[0]
        # The address to listen on may be "all of them"; then we reach ourselves by loopback.
        host = str(listen.address)
        if listen.address.is_unspecified:
            host = "127.0.0.1" if listen.address.version == 4 else "::1"  # noqa: PLR2004 - the version of IP
        port, starttls = listen.port, listen.tls == "starttls"
    else:
        host, port = _split_server(options["server"])
        starttls = options["starttls"] or port == SUBMISSION_PORT
    name = ingress.hostname if ingress.hostname and (options["server"] is None or _is_loopback(host)) else host
    return Target(host=host, port=port, name=name, starttls=starttls, context=context)


def _split_server(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    if not colon or server.endswith("]"):
        host, port = server, str(SUBMISSIONS_PORT)
    if not port.isdigit():
        raise click.BadParameter("must be HOST:PORT", param_hint="--server")
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _write_content(options: Options) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = str(options["reverse_path"])
    message["To"] = ", ".join(map(str, options["recipients"]))
    try:
        message["Subject"] = options["subject"]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--subject") from error
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=options["reverse_path"].domain)
    message.set_content(options["text"])
    return message.as_bytes()


def _print_step(step: Step) -> None:
    if step.command:
        click.echo(f"C: {step.command}")
    for line in step.text.splitlines() or [""]:
        click.echo(f"S: {step.code} {line}")
