"""The log lines of a child process."""

import json
from datetime import UTC, datetime

import pytest

from ptt.workers.childlog import MAX_LINE_BYTES, LineSplitter, format_line, label_event, parse_line

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_line_splitter_any_pieces_gives_same_lines(step: int) -> None:
    """Where the pieces are cut does not matter; empty lines are left out, the last line needs no end."""
    printed = b"one\n\n  \ntwo three\r\nfour"
    splitter = LineSplitter()
    lines = [line for at in range(0, len(printed), step) for line in splitter.feed(printed[at : at + step])]
    assert lines + splitter.finish() == [b"one", b"two three\r", b"four"]


def test_line_splitter_endless_line_is_bounded() -> None:
    """What is beyond the bound is dropped up to the end of that line, and the next line is whole."""
    splitter = LineSplitter()
    for _ in range(40):
        assert splitter.feed(b"x" * 10_000) == []
    assert splitter.feed(b"y\nnext\n") == [b"x" * MAX_LINE_BYTES, b"next"]


def test_parse_line_event_gets_process_name() -> None:
    """A JSON line keeps its fields and gets the name of its process."""
    line = b'{"ts": "2026-01-01T00:00:00Z", "event": "message.signed", "queue_id": "1"}'
    assert parse_line("sign", line, NOW) == {
        "ts": "2026-01-01T00:00:00Z",
        "event": "message.signed",
        "queue_id": "1",
        "process": "sign",
    }


@pytest.mark.parametrize(
    "line",
    [
        b"Traceback (most recent call last):",
        b'{"event": "cut off',
        b'["event"]',
        b'{"no": "event"}',
        b"[" * 60_000,
        b"\xff\xfe",
        b"12",
    ],
)
def test_parse_line_other_output_becomes_text(line: bytes) -> None:
    """Whatever is no event of ours is the text of a process.output event, and the log stays JSON."""
    fields = parse_line("relay-1", line, NOW)
    assert fields == {
        "ts": "2026-11-23T12:00:00.000+00:00",
        "level": "info",
        "event": "process.output",
        "process": "relay-1",
        "text": line.decode(errors="replace"),
    }
    assert json.loads(format_line(fields)) == fields


@pytest.mark.parametrize("name", ["relay-1", 'odd "name"'])
def test_own_event_is_labelled_without_parsing_as_with_it(name: str) -> None:
    """The quick way gives the very fields of the slow one."""
    line = b'{"ts": "2026-11-23T10:00:00.000+00:00", "level": "info", "event": "x.y", "text": "a } b"}'
    labelled = label_event(name, line)
    assert labelled is not None
    assert labelled.endswith(b"\n")
    assert json.loads(labelled) == parse_line(name, line, datetime(2026, 11, 23, tzinfo=UTC))


@pytest.mark.parametrize(
    "line", [b"", b"Traceback", b'{"event": "x.y"}', b'{"ts": "2026', b'{"ts": "' + b"x" * 70_000 + b"}"]
)
def test_line_that_is_no_own_event_is_left_to_the_parser(line: bytes) -> None:
    """What only might be JSON is not passed on as such."""
    assert label_event("relay-1", line) is None
