"""What every backend of the log must do with topics, readers, groups, retention and compaction."""

# A transaction is a block, and its end is what raises:
# ruff: noqa: PT012

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from log_backends import FILLER, SPECS, Backend, eventually, records, values

from topics import open_log
from topics.catalogue import catalogue
from topics.log import (
    MAX_MESSAGE_BYTES,
    AtOffset,
    AtTime,
    Bounds,
    Gap,
    Log,
    LogError,
    MessageTooLarge,
    OffsetOutOfRange,
    Record,
    Retention,
    TopicSpec,
    UnknownTopic,
    lag,
    latest_by_key,
)
from topics.partitioner import partition_for

# --- topics ---------------------------------------------------------------------------------------------


def test_topics_are_listed_and_recreated_without_loss(log: Log) -> None:
    log.append("in", "a", b"1")
    log.create_topics(SPECS)
    assert {spec.name: spec for spec in log.topics()} == {spec.name: spec for spec in SPECS}
    assert values(log, "in") == [b"1"]


def test_retention_of_a_topic_can_change_but_not_its_partitions(log: Log) -> None:
    kept = Retention(age_ns=5, max_bytes=7)
    log.create_topics([TopicSpec("in", 2, retention=kept)])
    assert next(spec for spec in log.topics() if spec.name == "in").retention == kept
    for changed in (TopicSpec("in", 3), TopicSpec("in", 2, compacted=True), TopicSpec("in", 2, keyed=False)):
        with pytest.raises(LogError, match="topic in"):
            log.create_topics([TopicSpec("fresh", 1), changed])
    assert "fresh" not in {spec.name for spec in log.topics()}


@pytest.mark.parametrize(
    "spec",
    [
        TopicSpec("Upper", 1),
        TopicSpec("", 1),
        TopicSpec("a/b", 1),
        TopicSpec("x", 0),
        TopicSpec("x", 10**6),
        TopicSpec("x", 1, keyed=False, compacted=True),
        TopicSpec("x", 1, retention=Retention(age_ns=-1)),
    ],
)
def test_impossible_topics_are_refused(log: Log, spec: TopicSpec) -> None:
    with pytest.raises(LogError):
        log.create_topics([spec])


def test_the_catalogue_can_be_created(log: Log) -> None:
    log.create_topics(spec for spec in catalogue(["vehicles"]) if spec.name != "state")
    assert {"frames", "archive", "plates", "labels", "tasks", "dead", "task.vehicles"} <= {
        spec.name for spec in log.topics()
    }


def test_unknown_topics_and_partitions_are_named(log: Log) -> None:
    with pytest.raises(UnknownTopic, match="nowhere"):
        log.append("nowhere", "k", b"")
    with pytest.raises(UnknownTopic, match="nowhere"):
        log.reader("nowhere")
    with pytest.raises(UnknownTopic, match="partition 2"):
        log.append("in", "k", b"", partition=2)
    with pytest.raises(UnknownTopic, match="partition -1"):
        log.bounds("in", -1)


# --- appending and reading -------------------------------------------------------------------------------


def test_late_reader_gets_everything_in_order(log: Log) -> None:
    before = time.time_ns()
    for number in range(30):
        log.append("in", f"camera-{number % 5}", b"%d" % number)
    for partition in range(2):
        found = records(log, "in", partition)
        offsets = [record.offset for record in found]
        assert offsets == sorted(set(offsets))
        times = [record.timestamp_ns for record in found]
        assert times == sorted(times)
        assert before - 10**6 <= times[0] <= times[-1] <= time.time_ns() + 10**6
        assert all(partition_for(record.key or "", 2) == partition for record in found)
        assert [int(record.value or b"") for record in found] == sorted(int(r.value or b"") for r in found)
    assert sorted(int(value or b"") for value in values(log, "in")) == list(range(30))


def test_offsets_are_dense_where_promised(log: Log, backend: Backend) -> None:
    stage = log.stage("s", 0, "a")
    for number in range(6):
        with suppress(ZeroDivisionError), stage.transaction() as tx:
            tx.send("out", "k", b"%d" % number, partition=0)
            if number % 2:
                raise ZeroDivisionError
    found = records(log, "out", 0)
    assert [record.value for record in found] == [b"0", b"2", b"4"]
    if backend.dense:
        assert [record.offset for record in found] == [0, 1, 2]
        assert log.bounds("out", 0) == Bounds(0, 3)


def test_keys_values_and_partitions_come_back_as_sent(log: Log) -> None:
    sent = [("ключ/1", b""), ("k", bytes(range(256))), ("k" * 300, b"\0" * 100_000)]
    for key, value in sent:
        log.append("other", key, value, partition=2)
    assert [(r.key, r.value, r.partition, r.topic) for r in records(log, "other")] == [
        (key, value, 2, "other") for key, value in sent
    ]
    log.append("loose", None, b"x")
    assert [(record.key, record.value) for record in records(log, "loose")] == [(None, b"x")]


def test_records_a_topic_cannot_take(log: Log) -> None:
    with pytest.raises(LogError, match="keyed"):
        log.append("in", None, b"x")
    with pytest.raises(LogError, match="compacted"):
        log.append("in", "k", None)
    log.append("in", "k", bytes(MAX_MESSAGE_BYTES - 1), partition=0)
    with pytest.raises(MessageTooLarge, match=str(MAX_MESSAGE_BYTES)):
        log.append("in", "k", bytes(MAX_MESSAGE_BYTES), partition=0)
    stage = log.stage("s", 0, "a")
    with pytest.raises(MessageTooLarge), stage.transaction() as tx:
        tx.send("out", "k", b"fits", partition=0)
        tx.send("out", "k", bytes(MAX_MESSAGE_BYTES), partition=0)
    assert values(log, "out") == []
    assert [len(value or b"") for value in values(log, "in")] == [MAX_MESSAGE_BYTES - 1]


def test_polls_are_bounded_in_records_and_bytes_and_miss_nothing(log: Log) -> None:
    for number in range(20):
        log.append("in", "k", bytes([number]) * 100, partition=number % 2)
    reader = log.reader("in")
    got: list[Record] = []
    while batch := reader.poll(max_records=3, max_bytes=200):
        assert len(batch) <= 2
        got += batch
    assert sorted(record.value for record in got) == [bytes([number]) * 100 for number in range(20)]
    assert reader.poll(timeout_s=0.02) == []


def test_a_busy_partition_does_not_starve_the_others(log: Log) -> None:
    for number in range(10):
        log.append("in", "k", b"busy%d" % number, partition=0)
    log.append("in", "k", b"rare", partition=1)
    reader = log.reader("in")
    seen = [item.value for _ in range(3) for item in reader.poll(max_records=2)]
    assert b"rare" in seen


def test_start_positions(log: Log) -> None:
    offsets = [log.append("in", "k", b"%d" % number, partition=0) for number in range(4)]
    latest = log.reader("in", [0], start="latest")
    assert values(log, "in", 0, AtOffset(offsets[2])) == [b"2", b"3"]
    log.append("in", "k", b"new", partition=0)
    assert [item.value for item in latest.poll()] == [b"new"]
    latest.seek(0, offsets[3])
    assert [item.value for item in latest.poll()] == [b"3", b"new"]
    assert latest.positions[0] > offsets[3]
    with pytest.raises(LogError):
        latest.seek(1, 0)
    with pytest.raises(LogError):
        latest.seek(0, -1)


def test_a_position_beyond_the_end_is_an_error_not_silence(log: Log) -> None:
    log.append("in", "k", b"1", partition=1)
    reader = log.reader("in", start=AtOffset(0))
    reader.seek(0, 99)
    with pytest.raises(OffsetOutOfRange, match="99"):
        reader.poll()
    reader.seek(0, 0)
    assert [item.value for item in reader.poll()] == [b"1"], "a failed poll must not pass over records"


def test_reading_by_time(log: Log) -> None:
    times: list[int] = []
    for number in range(12):
        offset = log.append("in", "k", b"%d" % number, partition=0)
        times.append(records(log, "in", 0, AtOffset(offset))[0].timestamp_ns)
        time.sleep(0.003)  # times are only promised to a millisecond
    between = times[5] + 1_500_000
    assert values(log, "in", 0, AtTime(between))[0] == b"6"
    assert values(log, "in", 0, AtTime(between, "at_or_before"))[0] == b"5"
    for number, at_ns in enumerate(times):
        assert values(log, "in", 0, AtTime(at_ns))[0] == b"%d" % number
        assert values(log, "in", 0, AtTime(at_ns, "at_or_before"))[0] == b"%d" % number
    assert values(log, "in", 0, AtTime(times[-1] + 10**9)) == []
    assert values(log, "in", 0, AtTime(times[-1] + 10**9, "at_or_before")) == [b"11"]
    assert len(values(log, "in", 0, AtTime(times[0] - 10**9, "at_or_before"))) == 12
    log.trim("in", 0, log.offset_at("in", 0, times[4]))
    assert values(log, "in", 0, AtTime(0))[0] == b"4"
    reader = log.reader("in", [0])
    reader.poll()
    reader.seek_to_time(times[8], "at_or_before")
    assert reader.poll()[0].value == b"8"
    assert log.offset_at("in", 1, times[0]) == log.bounds("in", 1).end


# --- groups ------------------------------------------------------------------------------------------------


def test_a_group_continues_where_it_committed(log: Log) -> None:
    for number in range(6):
        log.append("in", "k", b"%d" % number, partition=0)
    reader = log.reader("in", [0], group="viewer")
    assert log.committed("viewer", "in", 0) is None
    assert lag(log, "viewer", "in", [0, 1]) == {0: 6, 1: 0}
    first = reader.poll(max_records=2)
    reader.commit()
    reader.poll(max_records=3)  # not committed: delivered again
    again = log.reader("in", [0], group="viewer")
    assert [item.value for item in first + again.poll()] == [b"%d" % number for number in range(6)]
    again.commit({0: first[1].offset + 3})
    assert lag(log, "viewer", "in", [0]) == {0: 2}
    assert log.committed("viewer", "in", 0) == first[1].offset + 3
    assert log.committed("another", "in", 0) is None
    namesake = log.reader("in", [0], group="encode-0")
    namesake.commit({0: first[1].offset})
    assert dict(log.stage("encode", 0, "a").offsets) == {}, "subscribers cannot move a stage"
    with pytest.raises(LogError, match="group"):
        log.reader("in").commit()
    for name in ("", "stage:encode-0"):
        with pytest.raises(LogError):
            log.reader("in", group=name)


# --- retention and compaction -----------------------------------------------------------------------------


def test_compacted_topics_are_not_trimmed(log: Log) -> None:
    offset = log.append("table", "car", b"red")
    with pytest.raises(LogError, match="tombstones"):
        log.trim("table", 0, offset + 1)
    assert values(log, "table") == [b"red"]


def test_a_reader_behind_retention_is_told_what_it_missed(log: Log) -> None:
    offsets = [log.append("in", "k", b"%d" % number, partition=0) for number in range(8)]
    reader = log.reader("in", [0], group="viewer")
    reader.poll(max_records=2)
    reader.commit()
    assert log.trim("in", 0, offsets[5]) == 5
    behind = log.reader("in", [0], group="viewer")
    gap, *rest = behind.poll()
    assert gap == Gap("in", 0, offsets[2], offsets[5])
    assert [item.value for item in rest] == [b"5", b"6", b"7"]
    assert behind.poll() == []
    seen = list(range(2))  # a reader that has fetched ahead may know records that are gone: it misses fewer
    while batch := reader.poll():
        for item in batch:
            seen += range(item.from_offset, item.to_offset) if isinstance(item, Gap) else [item.offset]
    assert seen == offsets, "nothing is passed over in silence"
    assert log.bounds("in", 0).start == offsets[5]
    assert lag(log, "viewer", "in", [0]) == {0: 3}
    assert values(log, "in", 0) == [b"5", b"6", b"7"], "from the earliest there is no gap"
    assert log.trim("in", 0, offsets[3]) == 0
    assert log.trim("in", 0, offsets[7] + 100) == 3
    assert records(log, "in", 0) == []
    after = log.append("in", "k", b"next", partition=0)
    assert after > offsets[7], "offsets are never used twice"
    assert next(item for item in reader.poll() if isinstance(item, Record)).offset == after


def test_retention_by_age(log: Log) -> None:
    log.create_topics([TopicSpec("aged", 1, retention=Retention(age_ns=10**9))])
    offsets = [log.append("aged", "k", b"%d" % number) for number in range(20)]
    reader = log.reader("aged", start=AtOffset(offsets[1]))
    log.append("in", "k", b"kept", partition=0)
    assert len(values(log, "aged")) == 20, "nothing goes before its time"

    def old_are_gone() -> bool:
        log.maintain()
        return log.bounds("aged", 0).start > offsets[-1]

    eventually(old_are_gone)
    young = log.append("aged", "k", b"young")
    log.maintain()
    assert reader.poll() == [Gap("aged", 0, offsets[1], offsets[-1] + 1), *records(log, "aged")]
    assert [record.offset for record in records(log, "aged")] == [young]
    assert values(log, "in") == [b"kept"]


def test_retention_by_bytes(log: Log) -> None:
    mib = 1024 * 1024
    log.create_topics([TopicSpec("sized", 1, retention=Retention(max_bytes=mib))])
    offsets = [log.append("sized", "k", bytes([number]) * (mib // 4)) for number in range(16)]

    def most_is_gone() -> bool:
        log.maintain()
        return log.bounds("sized", 0).start >= offsets[8]

    eventually(most_is_gone)
    left = records(log, "sized")
    assert [record.offset for record in left] == offsets[-len(left) :]
    assert len(left) >= 3, "what fits stays"


def test_compaction_keeps_the_latest_value_of_every_key(log: Log, backend: Backend) -> None:
    for round_ in range(3):
        for key in "abc":
            log.append("table", key, f"{key}{round_}".encode())
    log.append("table", "b", None)
    log.append("table", "d/1", b"immutable")
    expected = {"a": b"a2", "c": b"c2", "d/1": b"immutable"}

    def latest() -> dict[str, bytes | None]:
        return {key: record.value for key, record in latest_by_key(log, "table").items() if key != FILLER}

    def kept() -> list[str | None]:
        return [record.key for record in records(log, "table") if record.key != FILLER]

    assert latest() == expected
    end = log.bounds("table", 0).end
    backend.compact(log, "table", 0)
    eventually(lambda: sorted(set(kept())) == sorted(kept()))
    assert [key for key in kept() if key != "b"] == ["a", "c", "d/1"]
    assert latest() == expected
    assert log.bounds("table", 0).end >= end
    reader = log.reader("table", start=AtOffset(0))
    while batch := reader.poll():
        assert not any(isinstance(item, Gap) for item in batch), "holes of compaction are no gaps"
    assert reader.positions[0] >= log.bounds("table", 0).end
    log.append("table", "b", b"back")
    assert [item.value for item in reader.poll()] == [b"back"]
    assert latest()["b"] == b"back"


def test_state_does_not_pile_up(log: Log, backend: Backend) -> None:
    stage = log.stage("encode", 0, "a")
    for number in range(20):
        with stage.transaction() as tx:
            tx.set_state(b"%d" % number)
    backend.compact(log, "state", 0)
    eventually(lambda: len([r for r in records(log, "state") if r.key == "encode-0"]) == 1)
    assert latest_by_key(log, "state")["encode-0"].value == b"19"
    assert log.stage("encode", 0, "b").state == b"19", "compaction leaves holes, not lies"


def test_a_closed_log_says_so(url: str) -> None:
    log = open_log(url)
    log.create_topics(SPECS)
    log.close()
    with pytest.raises(LogError, match="closed"):
        log.append("in", "k", b"")
