"""Immutable records and the pointers to the latest, on every backend."""

# A transaction is a block, and its end is what raises:

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from log_backends import values

from discover_stream.types import InputError, LabelSet, Task
from topics.catalogue import ARCHIVE, LABELS, PLATES, CatalogueSettings, catalogue
from topics.immutable import ImmutableTable
from topics.log import Fenced, Log, LogError
from topics.messages import LabelSetMessage, PlateMessage, decode, encode

LABELS_1 = LabelSetMessage.of(Task("trams", "all trams", LabelSet("trams", 1, ("tram", "tramway"))))


def plate(plate_id: int, data: bytes = b"coded", camera: str = "gate") -> PlateMessage:
    return PlateMessage(
        camera=camera,
        plate_id=plate_id,
        parent=None,
        capture_ns=7,
        first_seq=10 * plate_id,
        codec="av1",
        width=64,
        height=48,
        data=data,
    )


@pytest.fixture
def log(log: Log) -> Log:
    topics = catalogue((), CatalogueSettings(partitions=2))
    log.create_topics(spec for spec in topics if spec.name != "state")
    return log


def publish(log: Log, table: ImmutableTable, *messages: PlateMessage | LabelSetMessage) -> list[bool]:
    with log.stage("test", 0, "test").transaction() as transaction:
        return [table.publish(transaction, message) for message in messages]


def test_versions_and_the_latest_come_back(log: Log) -> None:
    table = ImmutableTable(log, PLATES, 1)
    assert publish(log, table, plate(0), plate(1, b"second"), plate(5, camera="yard")) == [True, True, True]
    for reading in (table, ImmutableTable(log, PLATES, 1), ImmutableTable(log, PLATES)):
        assert set(reading.versions()) == {("gate", 0), ("gate", 1), ("yard", 5)}
        assert reading.read(PlateMessage, "gate", 0) == plate(0)
        assert reading.read_latest(PlateMessage, "gate") == plate(1, b"second")
        assert reading.latest("yard") == 5
        assert reading.read(PlateMessage, "gate", 9) is None
        assert reading.latest("alley") is None
        assert reading.read_latest(PlateMessage, "alley") is None
    assert ImmutableTable(log, PLATES, 0).versions() == {}


def test_the_same_value_is_not_written_twice(log: Log) -> None:
    table = ImmutableTable(log, LABELS, 0)
    assert publish(log, table, LABELS_1, LABELS_1) == [True, False]
    count = len(values(log, LABELS))
    assert count == 2
    assert publish(log, ImmutableTable(log, LABELS, 0), LABELS_1) == [False]
    assert len(values(log, LABELS)) == count


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"labels": ("tram",)}, "labels"), ({"description": "x"}, "description"), ({"profile": "human"}, "profile")],
)
def test_another_value_under_the_same_version_is_refused(log: Log, changed: dict[str, object], named: str) -> None:
    table = ImmutableTable(log, LABELS, 0)
    publish(log, table, LABELS_1)
    with pytest.raises(InputError, match=rf"topic labels, trams/1: .*\(other {named}\).*use a new version") as caught:
        publish(log, table, msgspec.structs.replace(LABELS_1, **changed))
    assert "\n" not in str(caught.value)
    assert table.read_latest(LabelSetMessage, "trams") == LABELS_1
    assert len(values(log, LABELS)) == 2


def test_an_older_value_may_be_coded_differently(log: Log) -> None:
    """What decides is what a record says: a release may have written fields that this one leaves to defaults."""
    body = msgspec.msgpack.decode(encode(LABELS_1)[7:])
    other = msgspec.msgpack.encode(dict(reversed(body.items())))
    from crc32c import crc32c

    data = encode(LABELS_1)[:3] + crc32c(other).to_bytes(4, "little") + other
    assert decode(data) == LABELS_1
    assert data != encode(LABELS_1)
    log.append(LABELS, "trams/1", data)
    assert publish(log, ImmutableTable(log, LABELS, 0), LABELS_1) == [False]


def test_two_values_in_one_transaction_are_refused(log: Log) -> None:
    table = ImmutableTable(log, PLATES, 0)
    with pytest.raises(LogError, match="twice, differently"):
        publish(log, table, plate(0), plate(0, b"other"))
    assert table.versions() == {}
    assert publish(log, table, plate(0, b"other")) == [True], "what was aborted binds nobody"


def test_a_table_of_several_partitions_cannot_publish(log: Log) -> None:
    with pytest.raises(LogError, match="one partition"):
        publish(log, ImmutableTable(log, PLATES), plate(0))


def test_what_was_retired_is_gone_and_its_number_stays_free_to_nobody_but_the_same(log: Log) -> None:
    table = ImmutableTable(log, PLATES, 0)
    publish(log, table, plate(0), plate(1))
    log.append(PLATES, "gate/0", None, partition=0)
    assert table.read(PlateMessage, "gate", 0) is None
    assert set(table.versions()) == {("gate", 1)}
    assert table.latest("gate") == 1


def test_a_plate_and_the_first_packets_that_name_it_commit_together(log: Log) -> None:
    table = ImmutableTable(log, PLATES, 0)
    stage = log.stage("encode", 0, "a")

    def commit(name: bytes, message: PlateMessage) -> None:
        with stage.transaction() as transaction:
            table.publish(transaction, message)
            for number in range(2):
                transaction.send(ARCHIVE, "gate", name + b"%d" % number, partition=0)
            if name == b"aborted":
                raise ZeroDivisionError

    with suppress(ZeroDivisionError):
        commit(b"aborted", plate(0))
    assert (table.versions(), values(log, ARCHIVE)) == ({}, [])
    commit(b"first", plate(0, b"kept"))
    assert values(log, ARCHIVE) == [b"first0", b"first1"]
    assert table.read_latest(PlateMessage, "gate") == plate(0, b"kept")
    log.stage("encode", 0, "heir")
    with pytest.raises(Fenced):
        commit(b"zombie", plate(1))
    assert values(log, ARCHIVE) == [b"first0", b"first1"]
    fresh = ImmutableTable(log, PLATES, 0)
    assert set(fresh.versions()) == {("gate", 0)}
    assert fresh.latest("gate") == 0


def test_damaged_pointers_are_named(log: Log) -> None:
    log.append(PLATES, "gate", encode(plate(0)), partition=0)
    with pytest.raises(LogError, match="PlateMessage stands where a pointer"):
        ImmutableTable(log, PLATES, 0).latest("gate")
