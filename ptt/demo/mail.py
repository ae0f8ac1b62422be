"""The mail of the demonstration and its sending, with the SMTP client of Python's standard library. RFC 6409, RFC 8314.

Replies come back as the server wrote them.
"""

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import Literal

from ptt.demo.site import ADDRESS, INGRESS_ADDRESS, LOGIN

CLIENT_NAME = "laptop.example.test"
TIMEOUT_S = 20.0

_EIGHT_BIT = POLICY.clone(cte_type="8bit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One message and how it is sent."""

    title: str
    recipients: tuple[str, ...]
    content: bytes
    tls: Literal["implicit", "starttls"] = "implicit"
    reverse_path: str = ADDRESS
    options: tuple[str, ...] = ()

    @property
    def body(self) -> bytes:
        """What follows the header."""
        return split_body(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A mail program: where it sends, whom it trusts, and how it logs in."""

    implicit_port: int
    starttls_port: int
    tls: ssl.SSLContext
    password: str | None

    def submit(self, mail: Mail) -> str:
        """Send a message; give the server's last reply, be it yes or no."""
        try:
            with self._connect(mail.tls) as server:
                return self._send(server, mail)
        except smtplib.SMTPResponseException as error:
            return _format_reply(error.smtp_code, _as_bytes(error.smtp_error))

    def _connect(self, tls: str) -> smtplib.SMTP:
        if tls == "implicit":
            return smtplib.SMTP_SSL(
                INGRESS_ADDRESS, self.implicit_port, CLIENT_NAME, timeout=TIMEOUT_S, context=self.tls
            )
        server = smtplib.SMTP(INGRESS_ADDRESS, self.starttls_port, CLIENT_NAME, timeout=TIMEOUT_S)
        server.starttls(context=self.tls)
        return server

    def _send(self, server: smtplib.SMTP, mail: Mail) -> str:
        server.ehlo()
        if self.password is not None:
            server.login(LOGIN, self.password)
        replies = [server.mail(mail.reverse_path, mail.options)]
        replies += [server.rcpt(recipient) for recipient in mail.recipients if replies[-1][0] < 300]  # noqa: PLR2004 - 2yz is yes
        if replies[-1][0] < 300:  # noqa: PLR2004 - 2yz is yes
            replies.append(server.data(mail.content))
        return _format_reply(*replies[-1])


def make_mails() -> tuple[Mail, ...]:
    """Make the messages that have to arrive."""
    bob, carol, dora = "bob@destination.test", "carol@destination.test", "dora@elsewhere.test"
    umlauts = "Grüße aus Köln, 500 € und ein 漢字.\r\n"
    page = "<!doctype html><title>Hello</title><p>" + "A page with a line that is long. " * 20 + "</p>"
    lines = ("..a line with two dots", ".", "trailing blanks  \t", "", "From here on", "x" * 990, "", "", "")
    return (
        Mail(title="a short text", recipients=(bob,), content=_write("Hello", "Does it work?\r\n", to=(bob,))),
        Mail(
            title="8-bit UTF-8",
            recipients=(bob,),
            content=_write("Umlauts", umlauts, to=(bob,), eight_bit=True),
            tls="starttls",
            options=("BODY=8BITMIME",),
        ),
        Mail(
            title="200 KB attachment",
            recipients=(bob, carol),
            content=_write(
                "Report", "See the file.\r\n", to=(bob, carol), page=page, attachment=bytes(range(256)) * 560
            ),
        ),
        Mail(
            title="dots and blanks",
            recipients=(bob,),
            content=_write("Lines", "", to=(bob,)) + "\r\n".join(lines).encode() + b"\r\n",
            tls="starttls",
        ),
        Mail(
            title="two domains",
            recipients=(carol, dora),
            content=_write("Both", "To two domains.\r\n", to=(carol, dora)),
        ),
    )


def make_forged(address: str) -> Mail:
    """Make a message whose From belongs to somebody else."""
    recipient = "bob@destination.test"
    content = _write("Urgent", "Please pay.\r\n", to=(recipient,), sender=address)
    return Mail(title="a foreign From", recipients=(recipient,), content=content)


def split_body(content: bytes) -> bytes:
    """Give what follows the header."""
    return content.partition(b"\r\n\r\n")[2]


def read_header(content: bytes, name: str) -> str:
    """Give the first header field of a name, unfolded; empty if there is none."""
    header = (
        content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").decode("utf-8", "replace")
    )
    fields = (line.partition(":") for line in header.split("\r\n"))
    return next((value.strip() for field, _, value in fields if field.lower() == name.lower()), "")


def _write(  # noqa: PLR0913 - the parts of a message
    subject: str,
    text: str,
    *,
    to: tuple[str, ...],
    sender: str = ADDRESS,
    eight_bit: bool = False,
    page: str = "",
    attachment: bytes = b"",
) -> bytes:
    message = EmailMessage(policy=_EIGHT_BIT if eight_bit else POLICY)
    message["From"] = f"Alice Example <{sender}>"
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message.set_content(text, cte="8bit" if eight_bit else "7bit")
    if page:
        message.add_alternative(page, subtype="html")
    if attachment:
        message.add_attachment(attachment, maintype="application", subtype="octet-stream", filename="report.bin")
    return message.as_bytes()


def _format_reply(code: int, text: bytes) -> str:
    return f"{code} {text.decode('utf-8', 'replace')}"


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
