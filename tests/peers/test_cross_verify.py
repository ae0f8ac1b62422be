"""Four verifiers agree on what we sign: a part of what ``python -m tests.cross_verify`` does with 10,000 messages."""

from tests.cross_verify import count_verdicts, expect

MESSAGES = 400


def test_four_verifiers_pass_every_signature_of_random_messages() -> None:
    """Both algorithms, the four canonicalisations by turns, odd headers and bodies: all pass everywhere (RFC 6376)."""
    assert count_verdicts(MESSAGES, seed=63_76) == expect(MESSAGES)
