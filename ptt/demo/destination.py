"""The MX host at the other end: takes mail over STARTTLS only, and keeps it for comparison. RFC 5321, RFC 3207."""

import asyncio
import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as it arrived."""

    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes
    tls: str
    reply: str


class Destination:
    """The server and all that it took."""

    def __init__(self, hostname: str, certificate_file: Path, key_file: Path) -> None:
        """Prepare."""
        self.deliveries: list[Delivery] = []
        self.arrived = asyncio.Condition()
        self._hostname = hostname
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate_file, key_file)
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> int:
        """Listen on a free port and give it."""
        loop = asyncio.get_running_loop()
        serve = partial(
            SMTP,
            self,
            hostname=self._hostname,
            ident="ESMTP",
            tls_context=self._tls,
            require_starttls=True,
            enable_SMTPUTF8=True,
            loop=loop,
        )
        self._server = await loop.create_server(serve, address, 0)
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a message; aiosmtpd calls this after the final dot."""
        reply = f"250 2.0.0 taken as number {len(self.deliveries) + 1}"
        content = envelope.content or b""
        assert isinstance(content, bytes)  # noqa: S101 - for the type checker: decode_data is off
        delivery = Delivery(
            reverse_path=envelope.mail_from or "",
            recipients=tuple(envelope.rcpt_tos),
            content=content,
            tls=_name_tls(session.ssl or {}),
            reply=reply,
        )
        async with self.arrived:
            self.deliveries.append(delivery)
            self.arrived.notify_all()
        return reply

    def count(self) -> int:
        """Count the recipients that mail came for; one that came twice counts twice."""
        return sum(len(delivery.recipients) for delivery in self.deliveries)


def _name_tls(extra: dict[str, Any]) -> str:
    tls = extra.get("ssl_object")
    cipher = tls.cipher() if isinstance(tls, ssl.SSLObject) else None
    return f"{cipher[1]} {cipher[0]}" if cipher else ""
