"""What both sides share: one temporary folder, one certificate, one sink."""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accounting import ProcessGroup, open_ledger
from side import Place

BENCH = Path(__file__).parent
LOGIN = "bench@sender.example"
PASSWORD = "correct horse battery staple"


class BenchError(Exception):
    """The benchmark cannot go on; the text says why."""


@dataclass(slots=True)
class Sink:
    """The sink process, spoken to in JSON lines."""

    process: subprocess.Popen[bytes]
    port: int = 0

    def ask(self, **command: str) -> dict[str, Any]:
        """Give a command and read the answer."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """Read one answer."""
        assert self.process.stdout
        if not (line := self.process.stdout.readline()):
            raise BenchError("the sink ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(slots=True)
class Rig:
    """The folder and the tools of one benchmark."""

    folder: Path
    tools: ProcessGroup
    domains: tuple[str, ...]
    sink: Sink

    @classmethod
    def build(cls, parent: Path | None, domains: int, sample: int) -> "Rig":
        """Make the folder and the certificate and start the sink."""
        folder = Path(tempfile.mkdtemp(prefix="ptt-bench-", dir=parent))
        folder.chmod(0o755)  # the peer's servers drop root and must reach their files
        make_certificate(folder)
        tools = ProcessGroup("tools", open_ledger("tools"))
        argv: list[str | Path] = [
            sys.executable,
            BENCH / "sink.py",
            "--cert",
            folder / "cert.pem",
            "--key",
            folder / "key.pem",
        ]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = tools.start([*argv, "--sample", str(sample)], folder / "sink.log", **streams)
        sink = Sink(process)
        sink.port = sink.read()["port"]
        return cls(folder, tools, tuple(f"d{number}.example" for number in range(domains)), sink)

    def place(self, name: str) -> Place:
        """Make a folder for one side."""
        folder = self.folder / name
        folder.mkdir()
        certificate, key = self.folder / "cert.pem", self.folder / "key.pem"
        return Place(folder, certificate, key, self.sink.port, self.domains, LOGIN, PASSWORD, LOGIN)

    def close(self, *, keep: bool) -> None:
        """End the tools and remove the folder."""
        self.tools.end()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def make_certificate(folder: Path) -> None:
    """Make one self-signed ECDSA P-256 certificate for all servers."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,DNS:mx.example,IP:127.0.0.1"]
    key: list[str | Path] = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        folder / "key.pem",
    ]
    argv: list[str | Path] = ["openssl", "req", "-x509", *key, "-out", folder / "cert.pem", "-days", "2", *subject]
    subprocess.run(argv, check=True, capture_output=True)
