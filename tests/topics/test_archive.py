"""The archive by capture time; what the time index adds is in test_time_index.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discover_stream.codec.packet import Packet, packet_bytes
from discover_stream.types import BitstreamError, InputError
from topics import open_log
from topics.archive import ArchiveOf, Span, archive_gaps, archive_span, read_archive
from topics.catalogue import ARCHIVE, INDEX, CatalogueSettings, catalogue
from topics.messages import CameraState, EncodeState, GapMessage, encode
from topics.sqlite import SqliteLog
from topics.time_index import encoded, lost_before, told


def packet(seq: int, capture_ns: int) -> Packet:
    return Packet(b"abc", 4, seq, 0, capture_ns, 64, 48, (), (), b"coarse", ())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(catalogue((), CatalogueSettings(partitions=1)))
        yield opened


def archive(log: SqliteLog, *frames: tuple[int, int]) -> None:
    for seq, at_ns in frames:
        log.append(ARCHIVE, "gate", packet_bytes(packet(seq, at_ns)))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.sampled_from(["gate", "gate", "yard"]), st.integers(1, 50)), min_size=1, max_size=60),
    start=st.integers(-5, 800),
    length=st.integers(0, 800),
    trimmed=st.integers(0, 10),
)
def test_an_archive_without_an_index(tmp_path: Path, steps, start: int, length: int, trimmed: int) -> None:
    """Two cameras in one partition, each with times of its own that grow."""
    (tmp_path / "log.db").unlink(missing_ok=True)
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(catalogue((), CatalogueSettings(partitions=1)))
        times: dict[str, list[int]] = {"gate": [], "yard": []}
        kept: list[int] = []
        for offset, (camera, step) in enumerate(steps):
            at = (times[camera][-1] if times[camera] else 7000 * (camera == "yard")) + step
            times[camera].append(at)
            log.append(ARCHIVE, camera, packet_bytes(packet(len(times[camera]), at)))
            if camera == "gate" and offset >= trimmed:
                kept.append(at)
        log.trim(ARCHIVE, 0, trimmed)
        found = [item.packet.capture_ns for item in read_archive(log, "gate", start, start + length)]
        shown = [at for at in kept if at <= start][-1:]  # the frame that shows the instant comes first
        assert found == (shown + [at for at in kept if start < at < start + length] if length else [])
        if kept:
            assert archive_span(log, "gate") == Span(kept[0], kept[-1])
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"log.db{suffix}").unlink(missing_ok=True)


def test_cameras_that_are_not_in_the_archive(log: SqliteLog, tmp_path: Path) -> None:
    with log.stage("encode", 0, "test").transaction() as transaction:
        transaction.set_state(encode(EncodeState(cameras={"gate": CameraState()})))
    with pytest.raises(InputError, match="'alley' is not in the archive; it has: gate"):
        archive_span(log, "alley")
    with pytest.raises(InputError, match="camera gate: nothing of it is in the archive any more"):
        archive_span(log, "gate")
    with open_log(f"sqlite:{tmp_path}/empty.db") as empty, pytest.raises(InputError, match="no archive yet"):
        archive_span(empty, "gate")


def test_a_frame_that_was_tried_again_late_is_not_among_later_ones(log: SqliteLog) -> None:
    archive(log, (0, 100), (1, 200), (3, 400), (2, 300), (4, 500))
    assert [item.packet.seq for item in read_archive(log, "gate", 150, 600)] == [0, 1, 3, 4]


def test_damaged_bytes_are_named(log: SqliteLog) -> None:
    log.append(ARCHIVE, "gate", b"not a packet")
    with pytest.raises(BitstreamError, match="camera gate"):
        list(read_archive(log, "gate", 0, 10))


def test_a_packet_is_met_from_every_place_before_it(log: SqliteLog) -> None:
    """In any order of asking: forward, backward, and over the end that was asked for before."""
    for seq in range(20):
        log.append(ARCHIVE, "yard", packet_bytes(packet(seq, seq)))
        archive(log, (seq, seq))
    with ArchiveOf(log, "gate") as reading:
        for offset in [0, 5, 5, 6, 4, 39, 38, 0, 20, 21, 30]:
            found = reading.next_from(offset)
            assert found is not None
            assert (found[0], found[1].packet.seq) == (offset | 1, offset // 2)
        assert reading.next_from(3, 3) is None
        assert reading.next_from(2, 3) is None
        assert reading.next_from(3, 4) is not None
        assert reading.next_from(40) is None


# --- gaps ---------------------------------------------------------------------------------------------------


def gap(from_ns: int, to_ns: int, camera: str = "gate") -> GapMessage:
    return GapMessage(camera=camera, from_ns=from_ns, to_ns=to_ns, reason="cable", next_seq=3)


def test_gaps_that_reach_into_a_span(log: SqliteLog) -> None:
    gaps = [gap(10, 20), gap(30, 40), gap(15, 35, "yard")]
    for item in gaps:
        log.append(INDEX, item.camera, encode(item))
    assert archive_gaps(log, "gate", 0, 100) == (gaps[0], gaps[1])
    assert archive_gaps(log, "gate", 20, 31) == (gaps[1],)
    assert archive_gaps(log, "gate", 19, 30) == (gaps[0],)
    assert archive_gaps(log, "yard", 34, 99) == (gaps[2],)
    assert archive_gaps(log, "alley", 0, 99) == ()
    single = gap(50, 50)
    log.append(INDEX, "gate", encode(single))
    assert archive_gaps(log, "gate", 50, 51) == archive_gaps(log, "gate", 45, 51) == (single,)
    assert archive_gaps(log, "gate", 45, 50) == archive_gaps(log, "gate", 51, 60) == ()


def test_the_state_goes_on_with_every_frame_but_late_ones() -> None:
    state = encoded(CameraState(incarnation=2, next_track=5), 3, 100)
    assert state == CameraState(incarnation=2, next_track=5, next_seq=4, last_ns=100)
    assert encoded(state, 2, 90) == state
    assert encoded(state, 9, 200).next_seq == 10


def test_frames_lost_before_encoding_are_a_gap() -> None:
    state = CameraState(next_seq=7, last_ns=100)
    assert lost_before("gate", state, 7, 200) is None
    assert lost_before("gate", state, 3, 200) is None, "tried again late"
    assert lost_before("gate", CameraState(), 9, 200) is None, "nothing is known of before"
    found = lost_before("gate", state, 10, 400)
    assert found is not None
    assert (found.camera, found.from_ns, found.to_ns, found.next_seq, found.frames) == ("gate", 100, 400, 10, 3)
    assert "lost before encoding" in found.reason


def test_frames_that_a_gap_counts_are_not_lost_again() -> None:
    state = CameraState(next_seq=7, last_ns=100)
    dropped = GapMessage(camera="gate", from_ns=1, to_ns=2, reason="full", next_seq=12, frames=3)
    lost = lost_before("gate", told(state, dropped), 12, 400)
    assert lost is not None
    assert lost.frames == 2
    assert told(state, gap(1, 2)) == state, "nobody knows how many"
    assert told(CameraState(), dropped) == CameraState()
    at_the_end = GapMessage(camera="gate", from_ns=1, to_ns=2, reason="full", next_seq=7, frames=3)
    assert told(state, at_the_end) == state, "their numbers were never used up"
