from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from actors.attempts import begin, blameless
from actors.route import RouteStage
from discover_stream.codec.packet import Packet, packet_bytes, task_key
from topics.catalogue import ARCHIVE, DEAD, FRAMES, task_topic
from topics.log import Fenced, LogError, lag
from topics.sqlite import SqliteLog
from topics.sqlite_stage import SqliteStage


@contextmanager
def full_disk(log: SqliteLog) -> Iterator[None]:
    """The file may not grow by a page: SQLite then reports a full disk, and small changes still fit."""
    connection = log._file.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA max_page_count={2**30}")


def test_a_full_disk_is_not_the_records_fault(log, records, run_until) -> None:
    packet = Packet(b"abc", 4, 0, 0, 0, 64, 48, (task_key("vehicles", 1),), (), bytes(50_000), ())
    log.append(ARCHIVE, "gate", packet_bytes(packet), partition=1)
    with full_disk(log):
        for _ in range(5):
            with pytest.raises(LogError, match="the disk is full"):
                RouteStage(log, 1, "test").run()
    run_until(RouteStage(log, 1, "test"), lambda: lag(log, "stage:route-1", ARCHIVE, [1])[1] == 0)
    assert [record.value for record in records(log, task_topic("vehicles"))] == [packet_bytes(packet)]
    assert records(log, DEAD) == []


def test_only_refusals_of_the_log_are_taken_back(log) -> None:
    stage = log.stage("encode", 1, "test")
    place = (FRAMES, 1, 0)
    for error in (ValueError("a poisonous record"), Fenced("replaced")):
        stage.record_attempt(*place)
        with pytest.raises(type(error)), blameless(stage, *place):
            raise error
    stage.record_attempt(*place)
    with pytest.raises(LogError, match="busy"), blameless(stage, *place):
        raise LogError("busy")
    assert stage.record_attempt(*place) == 3


def test_what_cannot_be_taken_back_while_the_log_is_away_is_taken_back_later(log, monkeypatch) -> None:
    stage = log.stage("encode", 1, "test")
    place = (FRAMES, 1, 0)

    def away(*_: object) -> None:
        raise LogError("no broker answers")

    for _ in range(5):
        assert begin(stage, *place) == 1  # never the record's fault
        monkeypatch.setattr(SqliteStage, "forget_attempt", away)
        with pytest.raises(LogError, match="no broker"), blameless(stage, *place):
            raise LogError("no broker takes the commit")
        monkeypatch.undo()
    count = SqliteStage.record_attempt

    def counted_and_away(self: SqliteStage, *arguments: object) -> int:
        count(self, *arguments)
        raise LogError("no broker answers")

    monkeypatch.setattr(SqliteStage, "record_attempt", counted_and_away)
    with pytest.raises(LogError, match="no broker"):
        begin(stage, *place)
    monkeypatch.undo()
    assert [begin(stage, *place) for _ in range(3)] == [1, 2, 3]  # and these are


@pytest.mark.parametrize(("topic", "other"), [((FRAMES, 1, 1), (FRAMES, 1, 2)), ((ARCHIVE, 1, 1), (ARCHIVE, 0, 1))])
def test_debts_belong_to_one_record_and_end_with_it(log, monkeypatch, topic, other) -> None:
    stage = log.stage("debts", 1, "test")
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStage, "forget_attempt", lambda *_: (_ for _ in ()).throw(LogError("away")))
        begin(stage, *topic)
        with pytest.raises(LogError), blameless(stage, *topic):
            raise LogError("away")
    assert [begin(stage, *other) for _ in range(2)] == [1, 2]
    assert begin(stage, *topic) == 1
    with blameless(stage, *topic):
        pass
    assert begin(stage, *topic) == 2
