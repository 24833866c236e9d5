"""From a capture time to a place in the archive, whatever the cameras' clocks do."""

# A transaction is a block, and its end is what raises:

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discover_stream.codec.packet import Packet, packet_bytes
from discover_stream.types import InputError
from topics.archive import ArchiveOf, Span, archive_span, read_archive, task_offset
from topics.catalogue import ARCHIVE, INDEX, CatalogueSettings, catalogue, task_topic
from topics.log import Log, Stage
from topics.messages import IndexMessage, encode
from topics.sqlite import SqliteLog
from topics.time_index import COVERS_NS, IndexWriter, TimeIndex

SECOND_NS = 10**9
CAMERA = "gate"


def packet(seq: int, capture_ns: int, incarnation: int = 0) -> Packet:
    return Packet(b"abc", 4, seq, incarnation, capture_ns, 64, 48, (), (), b"coarse", ())


def archive(log: Log, stage: Stage, writer: IndexWriter, seq: int, capture_ns: int, *, camera: str = CAMERA) -> None:
    """One packet as the encode stage commits it."""
    entries = writer.records(camera, 0, seq, capture_ns, lambda: log.bounds(ARCHIVE, 0).end)
    with stage.transaction() as transaction:
        transaction.send(ARCHIVE, camera, packet_bytes(packet(seq, capture_ns)), partition=0)
        for entry in entries:
            transaction.send(INDEX, camera, encode(entry), partition=0)
    writer.committed(entries)


@pytest.fixture
def packets(log: Log) -> Log:
    """A log, of any backend, with an archive of one partition."""
    topics = catalogue(["trams"], CatalogueSettings(partitions=1))
    log.create_topics(spec for spec in topics if spec.name != "state")
    return log


def shown(log: Log, at_ns: int) -> int | None:
    with ArchiveOf(log, CAMERA) as reading:
        found = reading.shown_at(at_ns)
    return None if found is None else found[1].packet.seq


# --- what is written ----------------------------------------------------------------------------------------


def written(writer: IndexWriter, seq: int, capture_ns: int, incarnation: int = 0, camera: str = CAMERA) -> bool:
    entries = writer.records(camera, incarnation, seq, capture_ns, lambda: 7)
    writer.committed(entries)
    assert all(
        entry
        == IndexMessage(
            camera=camera,
            incarnation=incarnation,
            seq=seq,
            capture_ns=capture_ns,
            archive_offset=7,
            covers_ns=COVERS_NS,
        )
        for entry in entries
    )
    return bool(entries)


def test_an_entry_every_ten_seconds_per_camera() -> None:
    writer = IndexWriter()
    seconds = [seq for seq in range(35) if written(writer, seq, seq * SECOND_NS)]
    assert seconds == [0, 10, 20, 30]
    assert written(writer, 0, 34 * SECOND_NS, camera="yard")
    assert not written(writer, 35, 35 * SECOND_NS)


def test_an_entry_when_the_clock_is_set_back_or_jumps() -> None:
    writer = IndexWriter()
    times = [0, 1, 2, 1, 2, 100, 101, 3, 4]
    assert [i for i, at in enumerate(times) if written(writer, i, at * SECOND_NS)] == [0, 3, 5, 7]


def test_an_entry_for_every_incarnation_and_every_process() -> None:
    writer = IndexWriter()
    assert written(writer, 0, 0)
    assert written(writer, 1, 1, incarnation=1)
    assert not written(writer, 2, 2, incarnation=1)
    assert written(IndexWriter(), 3, 3, incarnation=1)


def test_an_entry_that_was_not_committed_is_written_again() -> None:
    writer = IndexWriter()
    for _ in range(2):
        assert len(writer.records(CAMERA, 0, 0, 5, lambda: 0)) == 1
    assert written(writer, 1, 6)
    assert not written(writer, 2, 7)


def test_a_frame_that_was_tried_again_late_has_no_entry_and_does_no_harm() -> None:
    writer = IndexWriter()
    assert [written(writer, seq, seq * SECOND_NS) for seq in (5, 6, 2, 7)] == [True, False, False, False]


def test_the_end_of_the_archive_is_asked_for_only_where_it_is_written() -> None:
    writer = IndexWriter()
    asked: list[int] = []
    for seq in range(25):
        writer.committed(writer.records(CAMERA, 0, seq, seq * SECOND_NS, lambda: asked.append(1) or 0))
    assert len(asked) == 3


# --- what is found ------------------------------------------------------------------------------------------


def test_the_frame_at_or_before_an_instant_by_a_clock_that_is_hours_off(packets: Log) -> None:
    stage, writer = packets.stage("encode", 0, "a"), IndexWriter()
    for seq in range(60):
        archive(packets, stage, writer, seq, 5 * SECOND_NS + seq * SECOND_NS)  # a camera that believes it is 1970
        archive(packets, stage, writer, seq, 10**18 + seq, camera="yard")
    for at_s, seq in ((4, None), (5, 0), (5.9, 0), (6, 1), (35.5, 30), (64, 59), (9999, 59)):
        assert shown(packets, int(at_s * SECOND_NS)) == seq
    found = [item.packet.seq for item in read_archive(packets, CAMERA, int(25.5 * SECOND_NS), 28 * SECOND_NS)]
    assert found == [20, 21, 22]
    assert [item.packet.seq for item in read_archive(packets, CAMERA, 0, 7 * SECOND_NS)] == [0, 1]
    assert list(read_archive(packets, CAMERA, 7 * SECOND_NS, 7 * SECOND_NS)) == []


def test_the_index_leads_near_the_frame_and_grows_with_the_archive(packets: Log) -> None:
    stage, writer = packets.stage("encode", 0, "a"), IndexWriter()
    index = TimeIndex(packets, 0)
    assert index.start_for(CAMERA, 0) is None
    for seq in range(40):
        archive(packets, stage, writer, seq, seq * SECOND_NS)
    with ArchiveOf(packets, CAMERA) as reading:
        for at_s in range(40):
            start = index.start_for(CAMERA, at_s * SECOND_NS)
            assert start is not None
            near = reading.next_from(start)
            assert near is not None
            # A broker may not show the transaction before yet when the next one asks where the archive ends.
            assert at_s - 11 <= near[1].packet.seq <= at_s
    assert index.start_for(CAMERA, -1) is None
    assert index.start_for("yard", 5) is None


def test_aborted_packets_leave_no_entries(packets: Log) -> None:
    stage, writer = packets.stage("encode", 0, "a"), IndexWriter()
    entries = writer.records(CAMERA, 0, 0, 5, lambda: 0)
    with suppress(ZeroDivisionError), stage.transaction() as transaction:
        transaction.send(ARCHIVE, CAMERA, packet_bytes(packet(0, 5)), partition=0)
        transaction.send(INDEX, CAMERA, encode(entries[0]), partition=0)
        raise ZeroDivisionError
    assert TimeIndex(packets, 0).start_for(CAMERA, 9) is None
    archive(packets, stage, writer, 0, 5)
    assert shown(packets, 9) == 0


def test_a_task_is_followed_from_the_frame_that_shows_an_instant(packets: Log) -> None:
    stage, writer = packets.stage("encode", 0, "a"), IndexWriter()
    route = packets.stage("route", 0, "a")
    offsets = {}
    for seq in range(30):
        archive(packets, stage, writer, seq, seq * SECOND_NS)
        if seq < 10:
            continue  # the task was not on yet
        with route.transaction() as transaction:
            transaction.send(task_topic("trams"), "yard", packet_bytes(packet(99, seq)), partition=0)
            transaction.send(task_topic("trams"), CAMERA, packet_bytes(packet(seq, seq * SECOND_NS)), partition=0)
    reader = packets.reader(task_topic("trams"))
    while len(offsets) < 20:
        for item in reader.poll(timeout_s=5):
            if item.key == CAMERA:
                offsets[10 + len(offsets)] = item.offset
    for at_s, seq in ((22.5, 22), (10, 10), (3, 10), (99, 29)):
        assert task_offset(packets, task_topic("trams"), CAMERA, int(at_s * SECOND_NS)) == offsets[seq]


steps = st.lists(
    st.tuples(
        st.sampled_from(["go", "go", "go", "other", "jump", "back", "restart", "abort", "late"]), st.integers(1, 40)
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, instants=st.lists(st.integers(98_000, 103_000), min_size=1, max_size=8), trimmed=st.integers(0, 20))
def test_any_clock(tmp_path: Path, steps, instants: list[int], trimmed: int) -> None:
    """Against a search of everything: clocks jump and go back, encoders restart, commits fail, frames come late."""
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"log.db{suffix}").unlink(missing_ok=True)
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(catalogue((), CatalogueSettings(partitions=1)))
        stage, writer = log.stage("encode", 0, "a"), IndexWriter(covers_ns=50)
        kept: list[tuple[int, int, int]] = []  # offset, number, capture time
        retried: list[tuple[int, tuple[int, int, int]]] = []  # where, and what it was at first
        seq, now = 0, 100_000  # far enough from 1970 to go back
        for kind, amount in steps:
            if kind == "restart":
                writer = IndexWriter(covers_ns=50)
            if kind == "other":
                archive(log, stage, writer, seq, now * 7, camera="yard")
            if kind == "abort":
                writer.records(CAMERA, 0, seq, now, lambda: log.bounds(ARCHIVE, 0).end)
            if kind == "late" and kept:
                again = kept[-min(amount, len(kept))]
                retried.append((log.bounds(ARCHIVE, 0).end, again))
                archive(log, stage, writer, again[1], again[2])
            if kind in ("go", "jump", "back"):
                now += {"go": amount, "jump": 20 * amount, "back": -10 * amount}[kind]
                kept.append((log.bounds(ARCHIVE, 0).end, seq, now))
                archive(log, stage, writer, seq, now)
                seq += 1
        log.trim(ARCHIVE, 0, trimmed)
        kept = [item for item in kept if item[0] >= trimmed]
        # Of a frame whose first packet is gone, the one that was tried again may stand for it.
        left = {first[2] for where, first in retried if first[0] < trimmed <= where}
        for at in instants:
            before = [capture for _, _, capture in kept if capture <= at]
            expected = {max(before) if before else None, *(capture for capture in left if capture <= at)}
            with ArchiveOf(log, CAMERA) as reading:
                found = reading.shown_at(at)
            assert (None if found is None else found[1].packet.capture_ns) in expected


def test_a_frame_that_was_tried_again_is_not_the_last_one(packets: Log) -> None:
    stage, writer = packets.stage("encode", 0, "a"), IndexWriter()
    for seq in (*range(25), 4):
        archive(packets, stage, writer, seq, seq * SECOND_NS)
    archive(packets, stage, writer, 0, 10**18, camera="yard")
    assert archive_span(packets, CAMERA) == Span(0, 24 * SECOND_NS)
    packets.trim(ARCHIVE, 0, packets.bounds(ARCHIVE, 0).end)
    with pytest.raises(InputError, match="not in the archive"):
        archive_span(packets, CAMERA)
