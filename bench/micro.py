"""Two small measurements on one core, as ratios within the same run.

Signing a 10 KB message by ptt.signing, with RSA-2048 alone and with Ed25519 beside it, against what ``openssl speed``
says RSA-2048 alone costs; and a message of 25 MB of blanks against one of 25 MB of text, for canonicalisation that
takes quadratic time would show here.
All in CPU time: ``openssl speed`` counts so, and others on the machine then change little.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from corpus import build_data, make_id

SENDER = "bench@sender.example"
KB = 1024
LARGE_OCTETS = 25_000_000


def run(seconds: float, rounds: int) -> dict[str, float]:
    """Measure both, alternating.

    Args:
        seconds: how long openssl and the signer each run in one round.
        rounds: medians are taken over so many.
    """
    # Here and not at the top, so that the peer can be measured where ptt does not run.
    from ptt.core.address import parse_domain  # noqa: PLC0415
    from ptt.core.signature import Algorithm  # noqa: PLC0415
    from ptt.signing.key_files import KeyState  # noqa: PLC0415
    from ptt.signing.keys import KeyRing  # noqa: PLC0415
    from ptt.signing.signer import Signer  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="ptt-bench-keys-") as folder:
        now, domain, ring = datetime.now(UTC), parse_domain("sender.example"), KeyRing(Path(folder))
        both = KeyRing(Path(folder, "both"))
        for keys, algorithm in ((ring, Algorithm.RSA_SHA256), *((both, one) for one in Algorithm)):
            key = keys.create_key(domain, None, algorithm, created_at=now)
            for state in (KeyState.PUBLISHED, KeyState.ACTIVE):
                keys.set_state(key, state, at=now)
        signers = {1: Signer(ring), 2: Signer(both)}

        def sign(content: bytes, keys: int = 1) -> None:
            signers[keys].sign(content, signed_at=now)

        return _measure(sign, seconds, rounds)


def _measure(sign: Callable[..., None], seconds: float, rounds: int) -> dict[str, float]:
    content = build_data(make_id("m", 0), 10 * KB, SENDER, "r@d0.example").removesuffix(b".\r\n")
    header, separator, _ = content.partition(b"\r\n\r\n")
    text = build_data(make_id("m", 0), LARGE_OCTETS, SENDER, "r@d0.example").removesuffix(b".\r\n")
    blanks = header + separator + (b" " * 998 + b"\r\n") * (LARGE_OCTETS // 1000)
    sign(content)  # the first one parses the key
    sign(content, 2)
    rates, both, openssl, text_s, blanks_s = [], [], [], [], []
    for _ in range(rounds):
        openssl.append(_openssl_signs_per_s(seconds))
        rates.append(_count_per_s(lambda: sign(content), seconds))
        both.append(_count_per_s(lambda: sign(content, 2), seconds))
        text_s.append(_time_once(lambda: sign(text)))
        blanks_s.append(_time_once(lambda: sign(blanks)))
    return {
        "openssl rsa2048 signs/s": median(openssl),
        "ptt signs 10 KB messages/s": median(rates),
        "ptt/openssl": median(rates) / median(openssl),
        "ptt signs 10 KB messages by both algorithms/s": median(both),
        "both/openssl": median(both) / median(openssl),
        "25 MB of text, s": median(text_s),
        "25 MB of blanks, s": median(blanks_s),
        "blanks/text": median(blanks_s) / median(text_s),
    }


def _openssl_signs_per_s(seconds: float) -> float:
    argv = ["openssl", "speed", "-mr", "-seconds", str(max(1, round(seconds))), "rsa2048"]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    # +F2:<index>:<bits>:<signs/s>:<verifies/s>
    line = next(line for line in output.splitlines() if line.startswith("+F2:"))
    return float(line.split(":")[3])


def _count_per_s(act: Callable[[], None], seconds: float) -> float:
    count, began = 0, time.process_time()
    while (elapsed := time.process_time() - began) < seconds:
        act()
        count += 1
    return count / elapsed


def _time_once(act: Callable[[], None]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began
