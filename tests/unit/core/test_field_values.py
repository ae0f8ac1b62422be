"""What is a Date and what a Message-ID."""

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.field_values import MAX_VALUE, is_date, is_message_id
from tests.cpu import measure_cpu_s

_ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    "value",
    [
        b" Mon, 23 Nov 2026 10:00:05 +0000",
        b" Mon, 23 Nov 2026 10:00:05 +0000 (UTC)",
        b"23 Nov 2026 10:00 GMT",
        b" mon,23 nov 26 10:00:05 -0330",
        b" 1 Jan 2026 10:00:00 Z",
        b" Mon, 23 Nov\r\n 2026 23:59:60 EST",
        b"Mon (x(y)) , 23(\\))Nov 2026 10 : 00 : 05 +0000",
        b"01 Feb 101 00:00 +0000",
        b"29 Feb 00 00:00 +0000",
        b" Sat, 31 Dec 1949 10:00:00 +0000",
    ],
)
def test_date_of_rfc_5322_is_one(value: bytes) -> None:
    """RFC 5322 section 3.3, and the obsolete forms of section 4.3."""
    assert is_date(value)


@pytest.mark.parametrize(
    "value",
    [
        b" garbage",
        b"",
        b" 2026-11-23T10:00:00Z",
        b" Mon Nov 23 10:00:00 2026",
        b" Mon, 23 Nov 2026 10:00:05",
        b" Mo, 23 Nov 2026 10:00:05 +0000",
        b" Tue, 23 Nov 2026 10:00:05 +0000",
        b" 31 Feb 2026 10:00:05 +0000",
        b" 29 Feb 01 10:00:05 +0000",
        b" 0 Nov 2026 10:00:05 +0000",
        b" 23 Nov 2026 24:00 GMT",
        b" 23 Nov 2026 10:60 GMT",
        b" 23 Nov 2026 10:00:61 GMT",
        b" 23 Nov 2026 10:00:05 +0060",
        b" 23 Nov 2026 10:00:05+0000",
        b" 23 Nov 2026 10:00:05 +01:00",
        b" 23 Nov 1899 10:00 GMT",
        b" 23 Nov 2026 10:00 GMT " + b" " * MAX_VALUE,
    ],
)
def test_date_that_no_calendar_or_clock_has_is_none(value: bytes) -> None:
    """RFC 5322 section 3.3: it must also be right, with the day of the week that it was."""
    assert not is_date(value)


@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=_ZONES))  # noqa: DTZ001 - hypothesis adds the zone
def test_date_as_the_library_writes_it_is_one(instant: datetime) -> None:
    """In every zone and year."""
    assert is_date(format_datetime(instant).encode())


@pytest.mark.parametrize(
    "value",
    [
        b" <a@b>",
        b"\r\n <a.b.c@d_e.test> (x (y))",
        b"(x)<a@[192.0.2.1]>",
        b' <"a b"@c.test>',
        b" <!&!AAA$=@x>",
        " <é@ü.test>".encode(),
    ],
)
def test_message_id_of_rfc_5322_is_one(value: bytes) -> None:
    """RFC 5322 section 3.6.4, RFC 6532 section 3.2."""
    assert is_message_id(value)


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            b" garbage",
            b" <garbage>",
            b" a@b",
            b" <a@b@c>",
            b" <a b@c>",
            b" <a@b> <c@d>",
            b" <a..b@c>",
            b" <a:b@c>",
        ),
        *(b" <@b>", b" <a@>", b" <<a@b>>", b' <"a@b>', b" <a@b", b" <a@b> x", b" <a\x07@b>"),
    ],
)
def test_anything_else_is_no_message_id(value: bytes) -> None:
    """Exactly one, in angle brackets, with both sides."""
    assert not is_message_id(value)


@pytest.mark.parametrize("junk", [b"(", b"()", b"(()", b"(\\", b"\\", b" ", b"a.", b'"', b'\\"', b"<a", b"1 Jan("])
def test_hostile_value_is_read_in_linear_time(junk: bytes) -> None:
    """No quantifier may take back what it took."""
    value = (junk * MAX_VALUE)[: MAX_VALUE - 6]

    def read_all() -> None:
        for start in (b"", b"1 Jan", b"<", b'<"'):
            assert not is_date(start + value)
            assert not is_message_id(start + value)

    assert measure_cpu_s(read_all) < 0.1  # a hundred times what it takes
