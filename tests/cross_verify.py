"""Random messages, signed with both algorithms and each canonicalisation, before four independent verifiers.

``python -m tests.cross_verify --messages 10000`` prints what each of them says; the suite runs a part of it.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle, islice, product
from pathlib import Path

from ptt.core.signature import Algorithm, SigningPolicy
from ptt.signing.keys import KeyRing
from ptt.signing.signer import Signer
from tests.random_messages import make_message
from tests.servers.verifiers import Mailauth, MailDkim, verify_all_by_opendkim, verify_by_dkimpy
from tests.signing_keys import DOMAIN, SIGNED_AT, make_ring

BATCH = 100
RSA, ED25519 = "rsa-sha256=pass", "ed25519-sha256=pass"
EXPECTED = {"dkimpy": [RSA, ED25519], "opendkim": [RSA, ED25519], "mailauth": [RSA, ED25519], "mail_dkim": [RSA]}
"""Debian's Mail::DKIM knows no Ed25519."""
ASKED = {"dkimpy": 4, "opendkim": 2, "mailauth": 4, "mail_dkim": 4}
"""Of four messages. OpenDKIM reads files as a milter is told of fields, without the blanks behind the colon: it cannot
judge the two whose header has the simple form."""


def count_verdicts(messages: int, seed: int) -> Counter[str]:
    """Sign and verify.

    Returns:
        How many messages passed, by verifier; and under "verifier: what it said" how many did not.
    """
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ring, records = make_ring(folder / "keys", Algorithm.ED25519_SHA256, Algorithm.RSA_SHA256)
        signed = _sign(random.Random(seed), [_make_signer(ring, *forms) for forms in product((False, True), repeat=2)])
        with MailDkim.running(records, folder) as mail_dkim, Mailauth.running(records, folder) as mailauth:
            for batch in _take(islice(signed, messages)):
                verdicts = {
                    "dkimpy": [verify_by_dkimpy(message, records) for message in batch],
                    "opendkim": verify_all_by_opendkim(
                        [one for one in batch if b"; c=relaxed/" in one], records, folder
                    ),
                    "mailauth": [mailauth.verify(message) for message in batch],
                    "mail_dkim": [mail_dkim.verify(message)[:1] for message in batch],
                }
                for verifier, said in verdicts.items():
                    counts.update(verifier if one == EXPECTED[verifier] else f"{verifier}: {one}" for one in said)
    return counts


def expect(messages: int) -> dict[str, int]:
    """Give what `count_verdicts` gives if all pass; for a multiple of four."""
    return {verifier: messages * asked // 4 for verifier, asked in ASKED.items()}


def _make_signer(ring: KeyRing, is_header_simple: bool, is_body_simple: bool) -> Signer:  # noqa: FBT001 - from a product
    policy = SigningPolicy(signing_domain=DOMAIN, is_header_simple=is_header_simple, is_body_simple=is_body_simple)
    return Signer(ring, policies={DOMAIN: policy})


def _sign(random_: random.Random, signers: Sequence[Signer]) -> Iterator[bytes]:
    for signer in cycle(signers):
        content = make_message(random_)
        yield signer.sign(content, signed_at=SIGNED_AT) + content


def _take(messages: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(messages, BATCH)):
        yield batch


def main() -> int:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    counts = count_verdicts(options.messages, options.seed)
    lines = [f"{name}: {number}" for name, number in sorted(counts.items())]
    lines.append(f"{options.messages} messages, seed {options.seed}, {time.monotonic() - began:.0f} s")
    sys.stdout.write("\n".join(lines) + "\n")
    return int(counts != expect(options.messages))


if __name__ == "__main__":
    sys.exit(main())
