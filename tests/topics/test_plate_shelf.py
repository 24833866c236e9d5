"""Plates and earlier packets, looked up by readers that come later."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from stream_film import FIRST_PLATE, FRAMES, capture_ns, film, seen

from discover_stream.codec.any_packet import any_packet_bytes, route_any
from discover_stream.codec.follow import Reading, read_packet
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import StreamState
from discover_stream.types import BitstreamError
from topics.catalogue import PLATES, CatalogueSettings, catalogue, task_topic
from topics.immutable import ImmutableTable
from topics.log import Record
from topics.messages import PlateMessage, encode
from topics.partitioner import partition_for
from topics.plates import PlateShelf, plate_message
from topics.rewind import packets_before
from topics.sqlite import SqliteLog

TOPIC = task_topic("trams")
PACKETS = film()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(catalogue(["trams"], CatalogueSettings(partitions=2)))
        yield opened


def publish(log: SqliteLog) -> None:
    """The film's plates, in one transaction each, as an encoder does."""
    partition = partition_for("gate", 2)
    table = ImmutableTable(log, PLATES, partition)
    stage = log.stage("encode", partition, "test")
    for packet in PACKETS:
        for plate in packet.plates:
            with stage.transaction() as transaction:
                table.publish(transaction, plate_message("gate", packet, plate, capture_ns(packet.seq)))
    table.close()
    stage.close()


def test_a_plate_comes_with_those_it_changes(log: SqliteLog) -> None:
    publish(log)
    shelf = PlateShelf(log)
    first, second = shelf.fetch("gate", 2)
    assert first.plates == (dataclasses.replace(FIRST_PLATE, members=()),)
    assert [plate.parent for plate in second.plates] == [1]
    assert shelf.fetch("gate", 1) == (first,)
    assert shelf.fetch("gate", 3) == shelf.fetch("yard", 1) == shelf.fetch("gate", 0) == ()
    assert len(shelf.fetch("gate", 2)) == 2
    shelf.close()


def test_a_shelf_without_plates_is_empty_and_looks_once(log: SqliteLog, tmp_path: Path, monkeypatch) -> None:
    shelf = PlateShelf(log)
    asked: list[int] = []
    read = ImmutableTable.read
    monkeypatch.setattr(ImmutableTable, "read", lambda *given: asked.append(1) or read(*given))
    assert [shelf.fetch("gate", 1) for _ in range(3)] == [(), (), ()]
    assert len(asked) == 1
    shelf.close()
    with SqliteLog(tmp_path / "bare.db") as bare:
        assert PlateShelf(bare).fetch("gate", 1) == ()


def test_a_record_that_holds_another_plate_is_refused(log: SqliteLog) -> None:
    message = plate_message("gate", PACKETS[0], FIRST_PLATE, 0)
    forged = {key: getattr(message, key) for key in PlateMessage.__struct_fields__} | {"plate_id": 5}
    log.append(PLATES, "gate/5", encode(PlateMessage(**forged)), partition=partition_for("gate", 2))
    with pytest.raises(BitstreamError, match="plate 5"):
        PlateShelf(log).fetch("gate", 5)


def fill(log: SqliteLog, packets: Sequence[StreamPacket], others: int) -> list[Record]:
    """The packets of a task for one camera, among others of the same partition; the camera's records."""
    partition = partition_for("gate", 2)
    for packet in packets:
        data = any_packet_bytes(route_any(packet, {11}))
        log.append(TOPIC, "gate", data, partition=partition)
        for _ in range(others):
            log.append(TOPIC, "yard", data, partition=partition)
    reader, found = log.reader(TOPIC, [partition]), []
    while items := reader.poll(500, timeout_s=0):
        found += [item for item in items if isinstance(item, Record) and item.key == "gate"]
    reader.close()
    return found


def read_back(log: SqliteLog, record: Record, packet: StreamPacket) -> Reading:
    """What a reader makes of a packet that begins with it."""
    shelf, state = PlateShelf(log), StreamState()
    for earlier in [*packets_before(log, record, packet), packet]:
        reading = read_packet(state, earlier, lambda number: shelf.fetch("gate", number))
        state = reading.state
    shelf.close()
    return reading


@pytest.mark.parametrize("others", [0, 3, 150])
def test_reading_back_gives_the_state_that_a_packet_continues(log: SqliteLog, others: int) -> None:
    publish(log)
    records = fill(log, PACKETS, others)
    for seq in range(FRAMES):
        reading = read_back(log, records[seq], route_any(PACKETS[seq], {11}))
        assert reading.absent == ()
        assert set(reading.regions) == seen(seq, 0)
        assert reading.capture_ns == capture_ns(seq)


def test_nothing_is_read_again_for_a_packet_that_needs_nothing(log: SqliteLog) -> None:
    (*_, last) = fill(log, PACKETS, 0)
    assert packets_before(log, last, dataclasses.replace(PACKETS[0], seq=8, oldest_ref=8)) == []
    some = dataclasses.replace(route_any(PACKETS[8], {11}), oldest_ref=6)
    assert [packet.seq for packet in packets_before(log, last, some)] == [6, 7]


def test_what_is_damaged_or_of_another_life_is_left_out(log: SqliteLog) -> None:
    earlier = [dataclasses.replace(packet, incarnation=0) for packet in PACKETS[:3]]
    later = [dataclasses.replace(packet, incarnation=1) for packet in PACKETS[:5]]
    # The first of them was tried again after the others.
    fill(log, [*earlier, *later, later[1]], 0)
    log.append(TOPIC, "gate", b"damaged", partition=partition_for("gate", 2))
    packet = dataclasses.replace(PACKETS[5], incarnation=1)
    last = fill(log, [packet], 0)[-1]
    assert [one.seq for one in packets_before(log, last, packet)] == [0, 1, 2, 3, 4]
    reading = read_back(log, last, route_any(packet, {11}))
    assert reading.absent == ()
    assert set(reading.regions) == seen(5, 0)


def test_what_retention_took_is_missed(log: SqliteLog) -> None:
    publish(log)
    records = fill(log, PACKETS, 0)
    log.trim(TOPIC, records[4].partition, records[3].offset)
    reading = read_back(log, records[4], route_any(PACKETS[4], {11}))
    assert reading.absent
    assert reading.rewind == 0
    assert reading.capture_ns == capture_ns(4)
