"""Internationalised domains in the form that envelopes, d= (RFC 8616 section 4) and the DNS have: A-labels.

Only U-labels and A-labels are taken (RFC 6531 section 3.3, RFC 5890 section 2.3.2.1), and nothing is mapped but the
capitals of ASCII, which mean the same to all.
"""

import string

import idna

# RFC 5895 knows more mappings. Programs do not agree on them: a capital sharp s (U+1E9E) is ss to some, to others a
# small sharp s.
_LOWER_CASE = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def to_a_labels(text: str) -> str:
    """Turn U-labels into A-labels, and check the A-labels that are there.

    The threat: with a fullwidth letter, an invisible one or another dot a domain is example.org to programs that map
    (UTS 46), and nothing or somebody else's to those that do not.

    Raises:
        ValueError: the text is no internationalised domain, or not in the one form that it has.
    """
    # Strict: U+3002 and its like are no dots.
    return idna.encode(text.translate(_LOWER_CASE), strict=True).decode()
