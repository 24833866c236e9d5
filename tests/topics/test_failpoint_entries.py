from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from discover_stream.types import InputError
from topics.failpoints import MARKS_VARIABLE, VARIABLE, Failpoint, Failpoints, parse_failpoints

PROGRAM = """
from topics.failpoints import hit
for number in range(5):
    print(number, flush=True)
    hit("ingest-gate-0", "after_read", 100 + number)
    hit("ingest-gate-0", "after_commit", 100 + number)
"""


def run(entries: str | None, marks: Path | None = None) -> tuple[int, int]:
    """Exit code, and how many rounds the program began."""
    environment = {key: value for key, value in os.environ.items() if key not in (VARIABLE, MARKS_VARIABLE)}
    if entries is not None:
        environment[VARIABLE] = entries
    if marks is not None:
        environment[MARKS_VARIABLE] = str(marks)
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=False)
    return done.returncode, len(done.stdout.split())


def test_nothing_happens_unless_asked_for() -> None:
    assert run(None) == (0, 5)
    assert run("") == (0, 5)
    assert run("encode:after_read:1,ingest-yard:after_read:1,ingest-gate:after_send:1") == (0, 5)


def test_a_process_dies_at_the_count_or_at_the_record() -> None:
    assert run("ingest:after_read:3") == (-signal.SIGKILL, 3)
    assert run("ingest-gate-0:after_commit:@101") == (-signal.SIGKILL, 2)


def test_with_marks_each_entry_fires_once_and_says_who_died(tmp_path: Path) -> None:
    entries = "ingest:after_read:2,ingest-gate:after_commit:2,ingest:after_read:4"
    assert [run(entries, tmp_path) for _ in range(4)] == [(-9, 2), (-9, 2), (-9, 4), (0, 5)]
    assert sorted(mark.name for mark in tmp_path.iterdir()) == sorted(entries.split(","))
    assert "ingest-gate-0 process" in (tmp_path / "ingest:after_read:2").read_text()
    assert run("ingest:after_read:@103", tmp_path) == (-9, 4)
    assert run("ingest:after_read:@103", tmp_path) == (-9, 4)  # such a record kills everybody


def test_entries_are_read_and_refused() -> None:
    assert parse_failpoints(" encode:after_send:3, route-1:before_commit:@0 ") == (
        Failpoint("encode", "after_send", count=3),
        Failpoint("route-1", "before_commit", offset=0),
    )
    for entry in (
        "encode",
        "encode:after_send",
        "encode:after_lunch:1",
        "encode:after_send:0",
        ":after_send:1",
        "a:b:c:d",
    ):
        with pytest.raises(InputError, match="STAGE:POINT:WHEN"):
            parse_failpoints(entry)


def test_stages_are_meant_by_whole_words() -> None:
    points = Failpoints(parse_failpoints("encode:after_read:1"))
    assert points.due("encoder-0", "after_read", None) is None
    assert points.due("encode-0", "after_send", None) is None
    assert points.due("encode-0", "after_read", None) == points.armed[0]
    assert points.due("encode-0", "after_read", None) is None
