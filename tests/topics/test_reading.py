"""Reading to the end, whatever lies in between."""

# A transaction is a block, and its end is what raises:
# ruff: noqa: PT012

from __future__ import annotations

from collections.abc import Mapping

import pytest

from topics.log import Gap, Log, LogError, Record
from topics.reading import read_all, read_to_end, record_at


def test_everything_up_to_the_end_and_then_only_what_is_new(log: Log) -> None:
    for number in range(7):
        log.append("in", "k", b"%d" % number, partition=number % 2)
    assert sorted(record.value or b"" for record in read_all(log, "in")) == [b"%d" % number for number in range(7)]
    assert [record.value for record in read_all(log, "in", [1])] == [b"1", b"3", b"5"]
    reader = log.reader("in")
    assert len(list(read_to_end(log, "in", reader))) == 7
    assert list(read_to_end(log, "in", reader)) == []
    log.append("in", "k", b"new", partition=1)
    assert [record.value for record in read_to_end(log, "in", reader)] == [b"new"]


def test_aborted_transactions_at_the_end_are_passed_over(log: Log) -> None:
    log.append("out", "k", b"1", partition=0)
    stage = log.stage("s", 0, "a")
    with pytest.raises(ZeroDivisionError), stage.transaction() as transaction:
        transaction.send("out", "k", b"lost", partition=0)
        raise ZeroDivisionError
    assert [record.value for record in read_all(log, "out")] == [b"1"]


def test_one_record_by_its_place(log: Log) -> None:
    offsets = [log.append("in", "k", b"%d" % number, partition=0) for number in range(3)]
    for number, offset in enumerate(offsets):
        found = record_at(log, "in", 0, offset)
        assert found is not None
        assert (found.offset, found.value) == (offset, b"%d" % number)
    log.trim("in", 0, offsets[1])
    assert record_at(log, "in", 0, offsets[0]) is None
    assert record_at(log, "in", 0, offsets[2] + 1) is None
    assert record_at(log, "in", 1, 0) is None


def test_a_place_between_records_holds_none(log: Log) -> None:
    stage = log.stage("s", 0, "a")
    for number in range(2):
        with stage.transaction() as transaction:
            transaction.send("out", "k", b"%d" % number, partition=0)
    (first, second) = [record.offset for record in read_all(log, "out")]
    if second > first + 1:  # a broker's marker lies there
        assert record_at(log, "out", 0, first + 1) is None
    found = record_at(log, "out", 0, second)
    assert found is not None
    assert found.value == b"1"


class Silent:
    """A reader of a broker that hands nothing out."""

    positions: Mapping[int, int] = {0: 0}

    def poll(self, *_: object, **__: object) -> list[Record | Gap]:
        return []


def test_a_log_that_hands_nothing_out_is_an_error_not_silence(log: Log) -> None:
    log.append("in", "k", b"1", partition=0)
    with pytest.raises(LogError, match=r"topic in, partition 0: hands out nothing from offset 0 on") as caught:
        list(read_to_end(log, "in", Silent()))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
