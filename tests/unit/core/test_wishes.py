"""What MAIL may ask of the way, and what it comes to. RFC 4865, RFC 2852, RFC 6710, RFC 8689."""

import pytest

from ptt.core.errors import Refused
from ptt.core.options import NO_OPTIONS, ByMode, Deadline, Options, TlsDemand
from ptt.core.path import parse_mail
from ptt.core.wishes import NO_WISHES, USUAL_LIMITS, Wishes, check_wishes, decide_options
from ptt.domain_names import to_a_labels

NOW = 1_795_000_000  # 2026-11-18T11:06:40Z


def parse(parameters: str) -> Wishes:
    """Parse the parameters of a MAIL."""
    return parse_mail(f"FROM:<alice@example.test> {parameters}", to_a_labels).wishes


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", NO_OPTIONS),
        ("SIZE=1 BODY=8BITMIME", NO_OPTIONS),
        ("HOLDFOR=60", Options(release_at=NOW + 60)),
        ("holdfor=604800", Options(release_at=NOW + 604_800)),
        ("HOLDUNTIL=2026-11-18T12:00:00Z", Options(release_at=1_795_003_200)),
        ("HOLDUNTIL=2026-11-18t12:00:00.5z", Options(release_at=1_795_003_201)),
        ("HOLDUNTIL=2026-11-18T12:00:00.000000000Z", Options(release_at=1_795_003_200)),
        ("MT-PRIORITY=-9", Options(priority=-9)),
        ("MT-PRIORITY=0", NO_OPTIONS),
        ("mt-priority=9", Options(priority=9)),
        ("REQUIRETLS", Options(tls=TlsDemand.REQUIRED)),
        ("BY=60;R", Options(deadline=Deadline(at=NOW + 60, mode=ByMode.RETURN))),
        ("by=120;rt", Options(deadline=Deadline(at=NOW + 120, mode=ByMode.RETURN, is_traced=True))),
        ("BY=-5;N", Options(deadline=Deadline(at=NOW - 5, mode=ByMode.NOTIFY))),
        ("BY=1;NT", Options(deadline=Deadline(at=NOW + 1, mode=ByMode.NOTIFY, is_traced=True))),
        (
            "HOLDFOR=60 BY=120;R",
            Options(release_at=NOW + 60, deadline=Deadline(at=NOW + 120, mode=ByMode.RETURN)),
        ),
        ("HOLDFOR=5 MT-PRIORITY=3", Options(release_at=NOW + 5, priority=3)),
    ],
)
def test_what_is_asked_becomes_instants(parameters: str, expected: Options) -> None:
    """A hold counts from acceptance; what asks for nothing is nothing."""
    wishes = parse(parameters)
    check_wishes(wishes, USUAL_LIMITS, NOW)
    assert decide_options(wishes, NOW, asks_no_tls=False) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("HOLDFOR", "501 5.5.4"),
        ("HOLDFOR=", "501 5.5.4"),
        ("HOLDFOR=-1", "501 5.5.4"),
        ("HOLDFOR=²", "501 5.5.4"),
        ("HOLDFOR=1234567890", "501 5.5.4"),
        ("HOLDFOR=0", "501 5.5.4"),
        ("HOLDFOR=060", "501 5.5.4"),
        ("HOLDFOR=000000060", "501 5.5.4"),
        ("HOLDFOR=604801", "501 5.5.4"),
        ("HOLDFOR=1 HOLDFOR=1", "501 5.5.4"),
        ("HOLDUNTIL=2026-11-18", "501 5.5.4"),
        ("HOLDUNTIL=2026-11-18T12:00:00", "501 5.5.4"),
        ("HOLDUNTIL=2026-11-18T12:00:00+01:00", "501 5.5.4"),
        ("HOLDUNTIL=2026-13-18T12:00:00Z", "501 5.5.4"),
        ("HOLDUNTIL=2026-11-18T07:00:00Z", "501 5.5.4"),
        ("HOLDUNTIL=1970-01-01T00:00:00Z", "501 5.5.4"),
        ("HOLDUNTIL=2026-12-18T07:00:00Z", "501 5.5.4"),
        ("HOLDFOR=60 HOLDUNTIL=2026-11-18T12:00:00Z", "501 5.5.4"),
        ("REQUIRETLS=1", "501 5.5.4"),
        ("BY", "501 5.5.4"),
        ("BY=", "501 5.5.4"),
        ("BY=60", "501 5.5.4"),
        ("BY=60;", "501 5.5.4"),
        ("BY=60;X", "501 5.5.4"),
        ("BY=60;RTT", "501 5.5.4"),
        ("BY=1234567890;R", "501 5.5.4"),
        ("BY=0;R", "501 5.5.4"),
        ("BY=-1;R", "501 5.5.4"),
        ("BY=59;R", "555 5.5.4"),
        ("HOLDFOR=600 BY=600;R", "501 5.5.4"),
        ("MT-PRIORITY", "501 5.5.4"),
        ("MT-PRIORITY=10", "501 5.5.4"),
        ("MT-PRIORITY=+1", "501 5.5.4"),
        ("MT-PRIORITY=-0", "501 5.5.4"),
        ("MT-PRIORITY=-10", "501 5.5.4"),
    ],
)
def test_what_cannot_be_promised_is_refused(parameters: str, expected: str) -> None:
    """RFC 4865 section 5 and RFC 6710 section 4.1: 501 for a value that is none, or beyond what EHLO offered."""
    with pytest.raises(Refused) as caught:
        check_wishes(parse(parameters), USUAL_LIMITS, NOW)
    assert str(caught.value.reply).startswith(expected)


def test_field_that_asks_for_no_tls_counts_unless_the_parameter_says_otherwise() -> None:
    """RFC 8689 section 5."""
    assert decide_options(NO_WISHES, NOW, asks_no_tls=True) == Options(tls=TlsDemand.OPTIONAL)
    assert decide_options(Wishes(requires_tls=True), NOW, asks_no_tls=True) == Options(tls=TlsDemand.REQUIRED)
