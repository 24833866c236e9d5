from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from actors.attempts import blameless
from actors.route import RouteStage
from discover_stream.codec.packet import Packet, packet_bytes, task_key
from topics.catalogue import ARCHIVE, DEAD, FRAMES, task_topic
from topics.log import Fenced, LogError, lag
from topics.sqlite import SqliteLog


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
