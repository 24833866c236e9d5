"""What every backend of the log must do with guarded topics, deletion, and the list of groups."""

from __future__ import annotations

import time

import pytest
from log_backends import records, values

from topics import open_log
from topics.log import Bounds, Gap, Log, Maintained, Retention, TopicSpec, UnknownTopic

HOUR_NS = 3600 * 10**9
GUARDED = TopicSpec("frames", 2, guarded=True, retention=Retention(age_ns=HOUR_NS), purpose="waits for somebody")


def spec(log: Log, name: str) -> TopicSpec:
    return next(found for found in log.topics() if found.name == name)


def later() -> int:
    """A moment at which everything written so far is older than an hour."""
    return time.time_ns() + 2 * HOUR_NS


# --- guarded topics ---------------------------------------------------------------------------------------


def test_a_topic_comes_back_as_it_was_made(log: Log, url: str) -> None:
    log.create_topics([GUARDED])
    assert spec(log, "frames") == GUARDED
    with open_log(url) as other:
        assert spec(other, "frames") == GUARDED


def test_a_topic_can_become_guarded_and_stop_being_it(log: Log) -> None:
    log.append("in", "k", b"1", partition=0)
    log.create_topics([TopicSpec("in", 2, guarded=True)])
    assert spec(log, "in").guarded
    log.create_topics([TopicSpec("in", 2)])
    assert not spec(log, "in").guarded
    assert values(log, "in") == [b"1"]


def test_age_takes_only_what_nobody_waits_for(log: Log) -> None:
    log.create_topics([GUARDED])
    offsets = [log.append("frames", "k", b"%d" % number, partition=0) for number in range(6)]
    log.append("frames", "k", b"other", partition=1)
    assert log.maintain(later(), {("frames", 0): offsets[4]}).expired == 4
    assert values(log, "frames", 0) == [b"4", b"5"]
    assert values(log, "frames", 1) == [b"other"], "a partition without a floor loses nothing"
    assert log.bounds("frames", 0).start == offsets[4]


def test_a_floor_beyond_the_end_takes_all_and_no_more(log: Log) -> None:
    log.create_topics([GUARDED])
    last = [log.append("frames", "k", b"%d" % number, partition=0) for number in range(3)][-1]
    assert log.maintain(later(), {("frames", 0): last + 1}).expired == 3
    assert values(log, "frames", 0) == []
    held = log.bounds("frames", 0)
    assert held.start == held.end > last
    log.append("frames", "k", b"next", partition=0)
    assert values(log, "frames", 0) == [b"next"]


def test_what_is_young_stays_whatever_the_floor(log: Log) -> None:
    log.create_topics([GUARDED])
    end = log.append("frames", "k", b"1", partition=0) + 1
    assert log.maintain(time.time_ns(), {("frames", 0): end}) == Maintained()
    assert values(log, "frames", 0) == [b"1"]


def test_without_an_age_a_guarded_topic_keeps_everything(log: Log) -> None:
    log.create_topics([TopicSpec("frames", 1, guarded=True)])
    end = log.append("frames", "k", b"1") + 1
    assert log.maintain(later(), {("frames", 0): end}).expired == 0
    assert values(log, "frames") == [b"1"]


def test_a_reader_behind_the_floor_is_told_what_it_missed(log: Log) -> None:
    log.create_topics([GUARDED])
    offsets = [log.append("frames", "k", b"%d" % number, partition=0) for number in range(4)]
    reader = log.reader("frames", [0])
    log.maintain(later(), {("frames", 0): offsets[2]})
    items = []
    while len(items) < 3:
        items += reader.poll(timeout_s=5)
    assert items[0] == Gap("frames", 0, offsets[0], offsets[2])
    assert [item.value for item in items[1:]] == [b"2", b"3"]


# --- deleting topics ----------------------------------------------------------------------------------------


def test_a_deleted_topic_is_gone_with_all_that_was_in_it(log: Log) -> None:
    log.append("in", "k", b"1", partition=0)
    log.append("out", "k", b"stays", partition=0)
    reader = log.reader("in", [0], group="viewer")
    reader.poll(timeout_s=1)
    reader.commit()
    log.delete_topic("in")
    assert "in" not in {found.name for found in log.topics()}
    for broken in (lambda: log.append("in", "k", b"2"), lambda: log.reader("in"), lambda: log.bounds("in", 0)):
        with pytest.raises(UnknownTopic):
            broken()
    assert values(log, "out") == [b"stays"]


def test_a_topic_of_the_same_name_starts_empty(log: Log) -> None:
    for number in range(5):
        log.append("in", "k", b"%d" % number, partition=0)
    reader = log.reader("in", [0], group="viewer")
    reader.poll(timeout_s=1)
    reader.commit()
    log.delete_topic("in")
    log.create_topics([TopicSpec("in", 3)])
    assert log.bounds("in", 0) == Bounds(0, 0)
    assert log.committed("viewer", "in", 0) is None
    log.append("in", "k", b"new", partition=2)
    assert [(r.partition, r.value) for r in records(log, "in")] == [(2, b"new")]


def test_unknown_topics_cannot_be_deleted(log: Log) -> None:
    with pytest.raises(UnknownTopic, match="nowhere"):
        log.delete_topic("nowhere")


def test_what_other_processes_know_of_a_deleted_topic_leads_nowhere(log: Log, url: str) -> None:
    with open_log(url) as other:
        other.append("loose", "k", b"1", partition=0)
        log.delete_topic("loose")
        log.create_topics([TopicSpec("fresh", 2)])
        with pytest.raises(UnknownTopic):
            other.append("loose", "k", b"2", partition=0)
        assert values(log, "fresh") == []


# --- groups -------------------------------------------------------------------------------------------------


def test_groups_are_those_that_committed(log: Log) -> None:
    assert log.groups() == ()
    log.append("in", "k", b"1", partition=0)
    log.reader("in", [0], group="idle")
    reader = log.reader("in", [0], group="viewer")
    reader.poll(timeout_s=1)
    reader.commit()
    stage = log.stage("encode", 0, "a")
    with stage.transaction() as transaction:
        transaction.commit_offset("in", 0, 1)
    assert set(log.groups()) == {"viewer", stage.group}
    assert list(log.groups()) == sorted(log.groups())
