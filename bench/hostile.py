"""What a hostile message of 25 MB costs ingress, beside an ordinary one of that size: CPU time and peak memory.

Run it from the root of the checkout:  python -m bench.hostile [--megabytes 25]
Starts an embedded Valkey and a ptt-ingress of its own on the loopback, a new process for each message. It asserts
nothing: it prints what it measured. The figures to hold are 3 times the CPU and twice the memory.
"""

import argparse
import json
import os
import smtplib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.conditions import describe_machine
from tests.servers.ingress import LOGIN, PASSWORD, SENDER, IngressSite, make_site, running_ingress
from tests.servers.redis import running_server

HEAD = f"From: {SENDER}\r\nSubject: x\r\n".encode()
TICKS = os.sysconf("SC_CLK_TCK")


def make_messages(size: int) -> Mapping[str, bytes]:
    """Make one message of each kind, as it goes over the wire but for the dots."""
    blank = HEAD + b"\r\n"
    nested = b"".join(
        b'--b%d\r\nContent-Type: multipart/mixed; boundary="b%d"\r\n\r\n' % (n, n + 1) for n in range(9999)
    )
    return {
        "ordinary": blank + _fill(b"x" * 76 + b"\r\n", size),
        "empty lines": blank + _fill(b"\r\n", size),
        "lines of one letter": blank + _fill(b"x\r\n", size),
        "lines of one dot": blank + _fill(b"..\r\n", size),
        "lines of 998 blanks": blank + _fill(b" " * 998 + b"\r\n", size),
        "bare CR": blank + _fill(b"x\rx\r\n", size),
        "bare LF": blank + _fill(b"x\nx\r\n", size),
        "header of 50,000 fields": HEAD
        + _fill(b"X-A: b\r\n", 400_000)
        + b"\r\n"
        + _fill(b"x" * 76 + b"\r\n", size - 400_000),
        "header without an end": HEAD + _fill(b"X-A: b\r\n", size),
        "one folded field": HEAD + b"X-A:\r\n" + _fill(b" b\r\n", size),
        "From of 100,000 addresses": b"From: " + _fill(b"a@b.test,\r\n ", 1_200_000) + SENDER.encode() + b"\r\n\r\n",
        "multipart 9,999 deep": HEAD
        + b'Content-Type: multipart/mixed; boundary="b0"\r\n\r\n'
        + nested
        + _fill(b"x\r\n", size // 2),
        "octets above 127": blank + _fill(b"\xff" * 76 + b"\r\n", size),
    }


def _fill(line: bytes, size: int) -> bytes:
    return line * (size // len(line))


def read_cpu_s(pid: int) -> float:
    """Read the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def read_peak_bytes(pid: int) -> int:
    """Read the peak of the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure(site: IngressSite, content: bytes) -> tuple[str, float, int]:
    """Send one message to a new process; give the reply, and what it took."""
    with running_ingress(site) as ingress:
        pid = ingress.process.pid
        with smtplib.SMTP_SSL(
            "127.0.0.1", ingress.port("implicit"), context=site.certificate.trust(), timeout=120
        ) as client:
            client.login(LOGIN, PASSWORD)
            client.mail(SENDER)
            client.rcpt("rita@destination.test")
            client.docmd("DATA")
            cpu_s, peak = read_cpu_s(pid), read_peak_bytes(pid)
            client.send(content + b".\r\n")
            code, text = client.getreply()
            return f"{code} {text.decode()[:40]}", read_cpu_s(pid) - cpu_s, read_peak_bytes(pid) - peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ptt-hostile-") as folder, running_server() as redis:
        print(json.dumps(describe_machine(Path(folder)), indent=2))
        site = make_site(Path(folder), redis.url)
        site.write_config()
        usual: tuple[float, int] | None = None
        for name, content in make_messages(options.megabytes * 1_000_000).items():
            with redis.client() as client:
                client.flushall()
            reply, cpu_s, peak = measure(site, content)
            usual = usual or (cpu_s, peak)
            ratios = f"{cpu_s / usual[0]:5.2f} x CPU {peak / usual[1]:5.2f} x memory"
            print(f"{name:28} {len(content) / 1e6:5.1f} MB {cpu_s:5.2f} s {peak / 1e6:6.1f} MB  {ratios}  {reply}")


if __name__ == "__main__":
    main()
