"""One submission by SMTP over TLS, step by step (RFC 5321, RFC 6409, RFC 4954), for a person to look at."""

import base64
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import NamedTuple

from ptt.core.address import Address

TIMEOUT_S = 60.0  # a test message is sent by somebody who waits


class Step(NamedTuple):
    """One command and its reply."""

    command: str
    code: int
    text: str

    @property
    def is_accepted(self) -> bool:
        """Tell whether the dialogue goes on."""
        return 200 <= self.code < 400  # noqa: PLR2004 - RFC 5321 section 4.2.1: 2yz and 3yz

    @property
    def is_transient(self) -> bool:
        """Tell whether it may work later."""
        return 400 <= self.code < 500  # noqa: PLR2004 - RFC 5321 section 4.2.1: 4yz


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server: where it is, what its certificate must say, how TLS starts, which authorities count."""

    host: str
    port: int
    name: str
    starttls: bool
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What to send; ``content`` is an RFC 5322 message with CRLF."""

    user: str
    password: bytes
    reverse_path: Address
    recipients: tuple[Address, ...]
    content: bytes


def submit(target: Target, message: Message) -> Iterator[Step]:
    """Submit a message, and give each step as soon as it is done; the last may be one that was refused.

    Raises:
        OSError: no connection, no TLS, or the connection was lost.
    """
    with closing(_connect(target)) as client:
        for step in _converse(client, target, message):
            yield step
            if not step.is_accepted:
                break
        # The outcome is known by now, whatever the server says to this.
        with suppress(OSError):
            client.docmd("QUIT")


def _connect(target: Target) -> smtplib.SMTP:
    plain = socket.create_connection((target.host, target.port), TIMEOUT_S)
    # RFC 5321 section 4.1.1.1: a client without a name says its address.
    address = plain.getsockname()[0]
    client = smtplib.SMTP(local_hostname=f"[IPv6:{address}]" if ":" in address else f"[{address}]")
    # Given a socket and no host, smtplib neither connects nor derives the name to verify from the address.
    try:
        client.sock = plain if target.starttls else target.context.wrap_socket(plain, server_hostname=target.name)
    except OSError:
        plain.close()
        raise
    return client


def _converse(client: smtplib.SMTP, target: Target, message: Message) -> Iterator[Step]:
    yield _step("", client.getreply())
    hello = f"EHLO {client.local_hostname}"
    yield _say(client, hello)
    if target.starttls and client.sock is not None:
        yield _say(client, "STARTTLS")
        client.sock = target.context.wrap_socket(client.sock, server_hostname=target.name)
        # RFC 3207 section 4.2: nothing that came in clear counts any more, also what was read ahead.
        client.file = None
        yield _say(client, hello)
    secret = base64.b64encode(b"\0%b\0%b" % (message.user.encode(), message.password)).decode()
    yield _say(client, f"AUTH PLAIN {secret}", shown="AUTH PLAIN ***")
    yield _say(client, f"MAIL FROM:<{message.reverse_path}>")
    for recipient in message.recipients:
        yield _say(client, f"RCPT TO:<{recipient}>")
    yield _say(client, "DATA")
    # RFC 5321 section 4.5.2: a dot at the start of a line is doubled.
    client.send(re.sub(rb"(?m)^\.", b"..", message.content) + b".\r\n")
    yield _step(f"({len(message.content)} octets and the final dot)", client.getreply())


def _say(client: smtplib.SMTP, command: str, shown: str = "") -> Step:
    return _step(shown or command, client.docmd(command))


def _step(command: str, reply: tuple[int, bytes]) -> Step:
    return Step(command, reply[0], reply[1].decode(errors="replace"))
