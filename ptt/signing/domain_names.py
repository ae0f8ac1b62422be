"""Internationalised domains in the form that d=, key folders and the DNS have them. RFC 5890, RFC 8616 section 4."""

import idna


def to_a_labels(text: str) -> str:
    """Turn U-labels into A-labels.

    Raises:
        ValueError: the text is no internationalised domain.
    """
    return idna.encode(text, uts46=True).decode()
