"""Internationalised domains: what is in its one form is taken, what a program could map to it is refused."""

import pytest

from ptt.domain_names import to_a_labels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("Bücher.EXAMPLE", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example", "xn--mgba3gch31f060k.example"),
    ],
)
def test_u_label_becomes_its_a_label(text: str, expected: str) -> None:
    """RFC 5890 section 2.3.2.1; the joiner of the last one is where RFC 5892 appendix A.1 allows it."""
    assert to_a_labels(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "\uff45xample.test",  # fullwidth e
        "\u212fxample.test",  # script e
        "\u24d4xample.test",  # e in a circle
        "e\u017fample.test",  # long s
        "exam\u00adple.test",  # soft hyphen
        "exa\u200bmple.test",  # zero-width space
        "exa\u200dmple.test",  # zero-width joiner
        "example\u3002test",  # ideographic full stop
        "example\uff0etest",
        "example\uff61test",
        "ko\u0308ln.example",  # not in normalisation form C
        "BÜCHER.example",
        "STRA\u1e9eE.example",
        "\u212aelvin.example",  # the sign of kelvin, whose small letter is k
        "xn--xample-hy68a.test",  # an A-label of the fullwidth e
        "xn--bcher-kv.example",
        "♥.example",
        "bücher..example",
        "",
    ],
)
def test_what_programs_map_or_do_not_is_refused(text: str) -> None:
    """RFC 6531 section 3.3: a domain has U-labels and A-labels; to map something to one of them is guessing."""
    with pytest.raises(ValueError, match=r"."):
        to_a_labels(text)
