"""When and how exactly the embedded log removes records: at once, by the clock it is given, to the byte."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from log_backends import SPECS, records, values

from topics.log import AtOffset, Gap, Log, Retention, TopicSpec, latest_by_key
from topics.sqlite import SqliteLog


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(SPECS)
        yield opened


def test_retention_by_age_and_by_bytes(log: Log) -> None:
    log.create_topics(
        [
            TopicSpec("aged", 1, retention=Retention(age_ns=10**9)),
            TopicSpec("sized", 1, retention=Retention(max_bytes=1000)),
        ]
    )
    for number in range(20):
        log.append("aged", "k", b"%d" % number)
        log.append("sized", "k", bytes([number]) * 99)  # and one byte of key
        log.append("in", "k", b"", partition=0)
    time.sleep(0.01)
    middle = time.time_ns()
    time.sleep(0.01)
    log.append("aged", "k", b"young")
    assert log.maintain(now_ns=middle).expired == 10
    assert len(values(log, "aged")) == 21
    assert [value[0] for value in values(log, "sized") if value] == list(range(10, 20))
    assert log.maintain(now_ns=middle + 10**9).expired == 20
    assert values(log, "aged") == [b"young"]
    assert len(values(log, "in")) == 20
    assert log.maintain(now_ns=middle + 10**9).expired == 0


def test_compaction_keeps_the_latest_value_of_every_key(log: Log) -> None:
    for round_ in range(3):
        for key in "abc":
            log.append("table", key, f"{key}{round_}".encode())
    log.append("table", "b", None)
    log.append("table", "d/1", b"immutable")
    expected = {"a": b"a2", "c": b"c2", "d/1": b"immutable"}
    end = log.bounds("table", 0).end
    assert {key: record.value for key, record in latest_by_key(log, "table").items()} == expected
    assert log.maintain().compacted == 7
    kept = records(log, "table")
    assert [(record.key, record.value) for record in kept] == [
        ("a", b"a2"),
        ("c", b"c2"),
        ("b", None),
        ("d/1", b"immutable"),
    ], "a tombstone stays for readers that are late"
    assert {key: record.value for key, record in latest_by_key(log, "table").items()} == expected
    assert log.maintain(time.time_ns() + 25 * 3600 * 10**9).compacted == 1
    assert "b" not in [record.key for record in records(log, "table")]
    assert log.bounds("table", 0).end == end
    reader = log.reader("table", start=AtOffset(0))
    assert not any(isinstance(item, Gap) for item in reader.poll()), "holes of compaction are no gaps"
    later = time.time_ns() + 10**12
    log.append("table", "e", None)
    log.maintain(later + 25 * 3600 * 10**9)
    end = log.bounds("table", 0).end
    assert log.offset_at("table", 0, later) == end, "a time after everything, with a hole at the end"
    assert log.offset_at("table", 0, later, "at_or_before") == kept[-1].offset
    assert reader.poll() == []
    assert reader.positions == {0: end}
    log.append("table", "b", b"back")
    assert [item.value for item in reader.poll()] == [b"back"]
    assert latest_by_key(log, "table")["b"].value == b"back"


def test_state_does_not_pile_up(log: Log) -> None:
    stage = log.stage("encode", 0, "a")
    for number in range(50):
        with stage.transaction() as tx:
            tx.set_state(b"%d" % number)
    log.maintain()
    assert [(record.key, record.value) for record in records(log, "state")] == [("encode-0", b"49")]
