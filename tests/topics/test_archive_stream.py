"""Reading the archive of a fixed camera by capture time, which its plates' clocks tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_film import FRAMES, capture_ns, film

from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.codec.packet import Packet, packet_bytes
from discover_stream.types import BitstreamError
from topics.archive import ArchiveOf, Span, archive_lead_in, archive_span, read_archive
from topics.catalogue import ARCHIVE, INDEX, PLATES, CatalogueSettings, catalogue
from topics.immutable import ImmutableTable
from topics.messages import encode
from topics.partitioner import partition_for
from topics.plates import plate_message
from topics.sqlite import SqliteLog
from topics.time_index import IndexWriter

PACKETS = film()
PARTITION = partition_for("gate", 2)


@pytest.fixture(params=[True, False], ids=["indexed", "not indexed"])
def log(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqliteLog]:
    """The film, and a frame of still mode a second after it, among packets of another camera."""
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(catalogue([], CatalogueSettings(partitions=2)))
        table, writer = ImmutableTable(opened, PLATES, PARTITION), IndexWriter()
        stage = opened.stage("encode", PARTITION, "test")
        still = Packet(b"abc", 4, 20, 0, capture_ns(20), 64, 48, (11,), (), b"coarse", ())
        for packet in (*PACKETS, still):
            end = opened.bounds(ARCHIVE, PARTITION).end
            with stage.transaction() as transaction:
                for plate in getattr(packet, "plates", ()):
                    table.publish(transaction, plate_message("gate", packet, plate, capture_ns(packet.seq)))
                entries = writer.records("gate", 0, packet.seq, capture_ns(packet.seq), lambda end=end: end)
                for entry in entries if request.param else ():
                    transaction.send(INDEX, "gate", encode(entry), partition=PARTITION)
                transaction.send(ARCHIVE, "gate", any_packet_bytes(packet), partition=PARTITION)
                other = Packet(b"abc", 4, packet.seq, 0, 5, 64, 48, (), (), b"", ())
                transaction.send(ARCHIVE, "yard", packet_bytes(other), partition=PARTITION)
            writer.committed(entries)
        table.close()
        stage.close()
        yield opened


def test_any_span_of_time(log: SqliteLog) -> None:
    assert archive_span(log, "gate") == Span(capture_ns(0), capture_ns(20))
    seqs = [*range(FRAMES), 20]
    for first in range(-1, 22):
        for length in (1, 3, 30):
            found = list(read_archive(log, "gate", capture_ns(first), capture_ns(first + length)))
            shown = max((seq for seq in seqs if seq <= first), default=None)
            expected = [seq for seq in seqs if seq == shown or first <= seq < first + length]
            assert [item.packet.seq for item in found] == expected
            assert [item.capture_ns for item in found] == [capture_ns(seq) for seq in expected]


def test_what_a_stretch_refers_to_is_read_before_it(log: SqliteLog) -> None:
    (first, *_) = read_archive(log, "gate", capture_ns(6), capture_ns(9))
    assert tuple(archive_lead_in(log, first)) == PACKETS[:6]
    (still,) = read_archive(log, "gate", capture_ns(20), capture_ns(21))
    assert archive_lead_in(log, still) == []


def test_the_plates_tell_the_time_of_what_is_left(log: SqliteLog) -> None:
    """Retention took the packet that brought the first plate; its record is kept as long as it is needed."""
    log.trim(ARCHIVE, PARTITION, 6)
    assert archive_span(log, "gate") == Span(capture_ns(3), capture_ns(20))
    assert [packet.seq for packet in archive_lead_in(log, next(read_archive(log, "gate", capture_ns(5), 2**62)))] == [
        3,
        4,
    ]


def test_a_clock_that_is_gone_is_told(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(catalogue([], CatalogueSettings(partitions=2)))
        log.append(ARCHIVE, "gate", any_packet_bytes(PACKETS[2]), partition=PARTITION)
        with ArchiveOf(log, "gate") as archive, pytest.raises(BitstreamError, match=r"camera gate, seq 2: .*plate 1"):
            archive.next_from(0)
