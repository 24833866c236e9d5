"""Events of a running system as JSON."""

from __future__ import annotations

import json
import logging

import pytest

from discover_stream.app.events import LOGGER, JsonFormatter, teller


def test_events_are_json_lines_on_the_error_output(capsys: pytest.CaptureFixture[str]) -> None:
    tell = teller("json", as_json=False)
    tell("encode-0 started: process 7")
    tell('encode-0 (process 7): its process died; starting again in 0.2 s "so"')
    shown = capsys.readouterr()
    assert shown.out == ""
    first, second = map(json.loads, shown.err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", LOGGER, "encode-0 started: process 7")
    assert (second["level"], second["subject"]) == ("warning", "encode-0 (process 7)")
    assert first["time"].endswith("+00:00")
    assert isinstance(first["process"], int)


def test_text_goes_where_no_figures_go(capsys: pytest.CaptureFixture[str]) -> None:
    teller("text", as_json=False)("one")
    teller("text", as_json=True)("two")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("one\n", "two\n")


def test_an_exception_stays_one_line() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        import sys

        record = logging.LogRecord("x", logging.ERROR, "f", 1, "went %s", ("wrong",), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "went wrong"
    assert "ValueError" in json.loads(line)["exception"]
