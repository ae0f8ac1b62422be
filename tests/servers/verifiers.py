"""Four DKIM verifiers that share no code with ours or each other: dkimpy, Mail::DKIM, OpenDKIM (C), mailauth (Node).

Each gives ``algorithm=result`` for every signature of a message, topmost first. Debian's Mail::DKIM knows no Ed25519.
"""

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import dkim

_PROGRAM = Path(__file__).with_name("mail_dkim.pl")
PEERS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptt-peers"
"""Where tests/install_peers.sh puts what comes from npm."""
_RESULT = re.compile(rb"dkim=(\w+)\b[^;]*?header\.a=([\w-]+)")


def verify_by_dkimpy(message: bytes, records: Mapping[str, str]) -> list[str]:
    """Verify with dkimpy."""

    def look_up(name: bytes, timeout: float = 0) -> bytes:  # noqa: ARG001 - dkimpy passes it by name
        return records.get(name.decode().rstrip("."), "").encode()

    verifier = dkim.DKIM(message)
    count = sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)
    return [_verify_one(verifier, index, look_up) for index in range(count)]


def _verify_one(verifier: dkim.DKIM, index: int, look_up: object) -> str:
    try:
        passed = verifier.verify(idx=index, dnsfunc=look_up)
    except dkim.ValidationError:
        passed = False
    return f"{verifier.signature_fields[b'a'].decode()}={'pass' if passed else 'fail'}"


def verify_by_opendkim(message: bytes, records: Mapping[str, str], folder: Path) -> list[str]:
    """Verify with OpenDKIM; the folder is for its files."""
    program = shutil.which("opendkim") or shutil.which("/usr/sbin/opendkim")
    assert program, "opendkim is missing: apt-get install opendkim"
    (folder / "records").write_text(_format_records(records))
    (folder / "opendkim.conf").write_text(f"TestPublicKeys {folder / 'records'}\nMode v\nOn-SignatureError accept\n")
    (folder / "message").write_bytes(message)
    command = [program, "-t", str(folder / "message"), "-x", str(folder / "opendkim.conf"), "-v", "-v"]
    output = subprocess.run(command, capture_output=True, check=False, timeout=60).stdout
    return [f"{algorithm.decode()}={result.decode()}" for result, algorithm in _RESULT.findall(output)]


def verify_all_by_opendkim(messages: Sequence[bytes], records: Mapping[str, str], folder: Path) -> list[list[str]]:
    """Verify many messages with one run of OpenDKIM; the folder is for its files."""
    program = shutil.which("opendkim") or shutil.which("/usr/sbin/opendkim")
    assert program, "opendkim is missing: apt-get install opendkim"
    (folder / "records").write_text(_format_records(records))
    (folder / "opendkim.conf").write_text(f"TestPublicKeys {folder / 'records'}\nMode v\nOn-SignatureError accept\n")
    paths = [folder / f"message-{number}" for number in range(len(messages))]
    for path, message in zip(paths, messages, strict=True):
        path.write_bytes(message)
    command = [program, "-t", ",".join(map(str, paths)), "-x", str(folder / "opendkim.conf"), "-v", "-v"]
    output = subprocess.run(command, capture_output=True, check=False, timeout=60).stdout
    parts = output.split(b"### INSHEADER")[1:]
    assert len(parts) == len(messages)
    return [[f"{name.decode()}={result.decode()}" for result, name in _RESULT.findall(part)] for part in parts]


@dataclass
class Mailauth:
    """A running mailauth."""

    process: subprocess.Popen[bytes]

    def verify(self, message: bytes) -> list[str]:
        """Verify with mailauth."""
        return _ask(self.process, message)

    @classmethod
    @contextmanager
    def running(cls, records: Mapping[str, str], folder: Path) -> Iterator[Self]:
        """Run it with these records."""
        node = shutil.which("node")
        assert node, "node is missing: sh tests/install_peers.sh"
        assert (PEERS / "node_modules/mailauth").is_dir(), "mailauth is missing: sh tests/install_peers.sh"
        (folder / "mailauth-records").write_text(_format_records(records))
        command = [node, str(_PROGRAM.with_name("mailauth.mjs")), str(PEERS), str(folder / "mailauth-records")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            yield cls(process)


@dataclass
class MailDkim:
    """A running Mail::DKIM."""

    process: subprocess.Popen[bytes]

    def verify(self, message: bytes) -> list[str]:
        """Verify with Mail::DKIM."""
        return _ask(self.process, message)

    @classmethod
    @contextmanager
    def running(cls, records: Mapping[str, str], folder: Path) -> Iterator[Self]:
        """Run it with these records."""
        perl = shutil.which("perl")
        assert perl, "perl is missing: apt-get install perl libmail-dkim-perl"
        (folder / "mail-dkim-records").write_text(_format_records(records))
        command = [perl, str(_PROGRAM), str(folder / "mail-dkim-records")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            yield cls(process)


def _ask(process: subprocess.Popen[bytes], message: bytes) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(struct.pack("!I", len(message)) + message)
    process.stdin.flush()
    return process.stdout.readline().decode(errors="replace").split()


def _format_records(records: Mapping[str, str]) -> str:
    return "".join(f"{name} {text}\n" for name, text in records.items())
