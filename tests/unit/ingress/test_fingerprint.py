"""What tells a submission that is made again from a new one."""

import subprocess
import sys
from dataclasses import replace

import pytest

from ptt.core.address import Address, Domain
from ptt.core.notify import NO_REQUEST, Notify, RecipientRequest
from ptt.core.path import MailCommand
from ptt.core.wishes import Wishes
from ptt.ingress.fingerprint import compute_fingerprint
from ptt.ingress.steps import Transaction
from tests.servers.submission import ALICE

CONTENT = b"From: alice@example.test\r\nMessage-ID: <1@x.test>\r\n\r\nbody\r\n"
ANN, BOB = Address("ann", Domain("one.test")), Address("bob", Domain("two.test"))
ASKED = RecipientRequest(notify=frozenset(Notify))
MAIL = MailCommand(reverse_path=ANN)


def make(*recipients: Address, user: str = "alice", mail: MailCommand = MAIL) -> Transaction:
    """Make a transaction; who is named twice counts once."""
    return Transaction(replace(ALICE, login=user), mail, dict.fromkeys(recipients, NO_REQUEST))


def test_same_submission_has_the_same_fingerprint_whatever_the_order_of_its_recipients() -> None:
    """A client that makes it again may have sorted them."""
    assert compute_fingerprint(CONTENT, make(ANN, BOB)) == compute_fingerprint(CONTENT, make(BOB, ANN))
    assert len(compute_fingerprint(CONTENT, make(ANN))) == 32


@pytest.mark.parametrize(
    ("content", "transaction"),
    [
        (CONTENT, make(ANN)),
        (CONTENT, make(ANN, BOB, user="bob")),
        (CONTENT, make(ANN, BOB, mail=replace(MAIL, reverse_path=BOB))),
        (CONTENT, make(ANN, BOB, mail=replace(MAIL, wishes=Wishes(hold_for_s=60)))),
        (CONTENT, Transaction(ALICE, MAIL, {ANN: NO_REQUEST, BOB: ASKED})),
        (CONTENT + b"\r\n", make(ANN, BOB)),
        (CONTENT.replace(b"<1@", b"<2@"), make(ANN, BOB)),
    ],
)
def test_other_submission_has_another_fingerprint(content: bytes, transaction: Transaction) -> None:
    """User, envelope with what was asked, and each octet count."""
    assert compute_fingerprint(content, transaction) != compute_fingerprint(CONTENT, make(ANN, BOB))


@pytest.mark.parametrize(
    "content",
    [
        CONTENT.replace(b"Message-ID", b"X-Message-ID"),
        CONTENT.replace(b"<1@x.test>", b" "),
        b"From: alice@example.test\r\n\r\nMessage-ID: <1@x.test>\r\n",
    ],
)
def test_submission_without_message_id_has_no_fingerprint(content: bytes) -> None:
    """Two equal messages may be meant: each gets a Message-ID of its own."""
    assert compute_fingerprint(content, make(ANN)) == b""
    assert compute_fingerprint(CONTENT.lower(), make(ANN)) != b""


def test_fingerprint_is_the_same_in_each_process() -> None:
    """Sets have another order in each: what is asked for a recipient is written down sorted."""
    code = (
        "from tests.unit.ingress.test_fingerprint import *;"
        "print(compute_fingerprint(CONTENT, Transaction(ALICE, MAIL, {ANN: ASKED})).hex())"
    )
    seeds = ("1", "2", "3")
    found = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, timeout=60, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in seeds
    }
    assert len(found) == 1
