"""What only the embedded log does at once: sizes, deletion in its file, and files of the first format."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from topics import sqlite_file
from topics.log import Log, LogError, Retention, TopicSpec, UnknownTopic
from topics.sqlite import SqliteLog
from topics.usage import Measured, Usage

HOUR_NS = 3600 * 10**9
SPECS = (TopicSpec("in", 2), TopicSpec("state", 1, compacted=True))


def values(log: Log, topic: str) -> list[bytes | None]:
    return [getattr(item, "value", None) for item in log.reader(topic).poll()]


def test_bytes_take_records_of_guarded_topics_too(tmp_path: Path) -> None:
    kept = Retention(age_ns=HOUR_NS, max_bytes=250)
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics([TopicSpec("frames", 1, guarded=True, retention=kept)])
        for number in range(5):
            log.append("frames", "k", bytes([number]) * 99)
        assert log.maintain(floors={("frames", 0): 0}).expired == 3
        assert values(log, "frames") == [bytes([3]) * 99, bytes([4]) * 99]


def test_other_topics_lose_their_old_records_whatever_the_floors(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics([TopicSpec("task.a", 1, retention=Retention(age_ns=HOUR_NS))])
        log.append("task.a", "k", b"old")
        assert log.maintain(time.time_ns() + 2 * HOUR_NS, {("task.a", 0): 0}).expired == 1


def test_usage_counts_records_and_bytes(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics((*SPECS, TopicSpec("table", 1, compacted=True)))
        for number in range(4):
            log.append("in", "kk", bytes(98), partition=number % 2)
            log.append("table", f"{number % 2}", b"123")
        log.trim("in", 0, 1)
        log.maintain()
        assert isinstance(log, Measured)
        assert log.usage() == {"in": Usage(3, 300), "state": Usage(0, 0), "table": Usage(2, 8)}


def test_a_deleted_topic_leaves_no_bytes_and_no_number_to_be_used_again(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log, SqliteLog(log.path) as other:
        log.create_topics(SPECS)
        other.append("in", "k", bytes(2000), partition=1)
        stage = other.stage("encode", 0, "a")
        with stage.transaction() as transaction:
            transaction.commit_offset("in", 1, 1)
        stage.record_attempt("in", 1, 1)
        reader = other.reader("in", [1], group="g")
        log.delete_topic("in")
        connection = log._file.connection
        for table in ("records", "offsets", "attempts"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        log.create_topics([TopicSpec("fresh", 2)])
        for broken in (
            lambda: other.append("in", "k", b"2", partition=1),
            lambda: reader.commit({1: 1}),
            reader.poll,
            lambda: other.bounds("in", 1),
        ):
            with pytest.raises(UnknownTopic, match="deleted"):
                broken()
        with pytest.raises(UnknownTopic), stage.transaction() as transaction:
            transaction.commit_offset("in", 1, 2)
        assert values(log, "fresh") == []
        assert log.groups() == ()
        log.create_topics(SPECS)
        log.append("in", "k", b"again", partition=1)
        assert values(log, "in") == [b"again"]


def first_format(path: Path) -> None:
    """A file as the first release made it, with a record in it."""
    column = ", guarded INTEGER NOT NULL DEFAULT 0"
    old = tuple(statement.replace(column, "") for statement in sqlite_file._SCHEMA)
    assert old != sqlite_file._SCHEMA
    with sqlite3.connect(path) as connection:
        for statement in old:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={sqlite_file._APPLICATION_ID}")
        connection.execute("PRAGMA user_version=1")
        connection.execute("INSERT INTO topics VALUES('in', 1, 1, 0, 5000000000000, NULL, 'old')")
        connection.execute("INSERT INTO partitions(topic, number, next, bytes) VALUES('in', 0, 1, 4)")
        connection.execute("INSERT INTO records VALUES(?, 7, 'k', x'616263')", (1 << sqlite_file.OFFSET_BITS,))
    connection.close()


def test_a_file_of_the_first_format_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    first_format(path)
    kept = Retention(age_ns=5000 * 10**9)
    for _ in range(2):  # the second time there is nothing left to do
        with SqliteLog(path) as log:
            assert log.topics() == (TopicSpec("in", 1, retention=kept, purpose="old"),)
            assert values(log, "in") == [b"abc"]
            assert log._file.connection.execute("PRAGMA user_version").fetchone() == (2,)
    with SqliteLog(path) as log:
        log.create_topics([TopicSpec("in", 1, guarded=True, retention=kept)])
        assert log.maintain(10**18).expired == 0
        assert log.maintain(10**18, {("in", 0): 1}).expired == 1


@pytest.mark.parametrize("version", [0, 3, 99])
def test_formats_of_other_releases_are_refused_untouched(tmp_path: Path, version: int) -> None:
    path = tmp_path / "log.db"
    with SqliteLog(path) as log:
        log._file.connection.execute(f"PRAGMA user_version={version}")
    before = path.read_bytes()
    with pytest.raises(LogError, match=f"format {version}, this version of discover-stream reads formats 1 to 2"):
        SqliteLog(path)
    assert path.read_bytes() == before
