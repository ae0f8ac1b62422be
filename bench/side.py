"""What the runner needs to know of a side, and the place where a side lives."""

import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from accounting import ProcessGroup


@dataclass(frozen=True, slots=True)
class Place:
    """What a side is given to build on.

    Attributes:
        folder: its own; others may pass through, so that unprivileged servers reach their files.
        certificate: PEM file for the submission server.
        key: PEM file of its key.
        sink_port: where the destination MX listens on 127.0.0.1.
        domains: the destinations; each has the sink as its only MX.
        login: who submits.
        password: with which password.
        sender: the address of that user, in the domain that is signed for.
    """

    folder: Path
    certificate: Path
    key: Path
    sink_port: int
    domains: tuple[str, ...]
    login: str
    password: str
    sender: str

    @property
    def sender_domain(self) -> str:
        """The domain that is signed for."""
        return self.sender.partition("@")[2]


class Side(Protocol):
    """One of the two systems under test."""

    name: str
    group: ProcessGroup

    def start(self) -> None:
        """Start all its servers and wait until they take mail."""

    def stop(self) -> None:
        """End all its processes."""

    def port(self, tls: str) -> int:
        """Give the submission port for ``implicit`` or ``starttls``."""

    def get_process_names(self) -> dict[int, str]:
        """Name processes by their role; children go by the same name, others by their program."""

    def is_drained(self) -> bool:
        """Tell whether its queue is empty."""

    def get_public_key(self, name: str) -> bytes | None:
        """Give the TXT record of a DKIM key, e.g. ``s1._domainkey.sender.example``."""

    def describe(self) -> dict[str, str]:
        """Give versions and durability settings, as the running servers tell them."""


def take_ports(count: int) -> list[int]:
    """Give ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
