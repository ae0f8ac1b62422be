"""Under which conditions the figures were taken: machine, kernel, versions, file system."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = ("ptt", "aiosmtpd", "aiosmtplib", "celery", "kombu", "redis", "cryptography", "dkimpy", "uvloop")


def describe_machine(folder: Path) -> dict[str, str]:
    """Tell where the figures come from.

    Args:
        folder: where queues and data of both sides are.
    """
    openssl = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout.split()[1]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{_read_cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "file system": _describe_file_system(folder),
        "python": platform.python_version(),
        "openssl": openssl,
        "packages": ", ".join(f"{name} {version}" for name, version in _list_versions()),
        "load average at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _read_cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _describe_file_system(folder: Path) -> str:
    best = ("", "?", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options = line.split()[:4]
        if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind, options)
    warning = "; fsync costs NOTHING here: use --dir on a disk" if best[1] in {"tmpfs", "ramfs"} else ""
    return f"{best[1]} ({best[2]}) at {best[0]}{warning}"


def _list_versions() -> list[tuple[str, str]]:
    versions = []
    for name in PACKAGES:
        try:
            versions.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return versions
