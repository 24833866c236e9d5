from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from actors.encode import EncodeSettings, EncodeStage
from actors.ingest import IngestStage
from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.packet import Packet, parse_packet, task_key
from discover_stream.codec.still import decode_packet, encode_frame
from discover_stream.config import CameraConfig
from discover_stream.types import Box, Frame, Image, LabelSet, Region
from discover_stream.video.jpeg import decode_jpeg, encode_jpeg
from topics.catalogue import ARCHIVE, DEAD, FRAMES, INDEX
from topics.log import Fenced, lag
from topics.messages import DeadMessage, EncodeState, FrameMessage, GapMessage, IndexMessage, decode, decode_as, encode
from topics.sqlite_stage import SqliteStage

KEYS = {name: task_key(name, 1) for name in ("vehicles", "pedestrians")}
SETTINGS = EncodeSettings(quality=3, batch=4)


@pytest.fixture(scope="module")
def codec() -> CodecModel:
    torch.set_num_threads(1)
    return load_codec()


def squares(images: Sequence[Image], label_sets: Sequence[LabelSet]) -> list[dict[str, tuple[Region, ...]]]:
    """Grounds the bright square of `picture` for every task but pedestrians."""
    found = []
    for image in images:
        rows, columns = np.nonzero((image > 235).all(axis=2))
        box = Box(float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        found.append({s.task: (Region(0, 0.9, box),) if s.task != "pedestrians" else () for s in label_sets})
    return found


def asked(images: list[Image], label_sets: tuple[LabelSet, ...]):
    answer = squares(images, label_sets)
    return lambda: answer


@pytest.fixture
def filled(log, clip: Path):
    """A log whose partition 1 holds 20 frames and an end."""
    IngestStage(log, CameraConfig(name="gate", source=str(clip)), 1, max_lag=100, owner="test").run()
    return log


def stage(log, codec: CodecModel, ground=asked) -> EncodeStage:
    return EncodeStage(log, 1, codec, ground, SETTINGS, "test")


def done(log):
    return lambda: lag(log, "stage:encode-1", FRAMES, [1])[1] == 0


def packets(records, log) -> list[Packet]:
    return [parse_packet(record.value, camera=record.key) for record in records(log, ARCHIVE)]


def test_every_frame_once_in_order_and_as_coded_without_the_log(filled, codec, records, run_until) -> None:
    run_until(stage(filled, codec), done(filled))
    found = packets(records, filled)
    assert [packet.seq for packet in found] == list(range(20))
    assert {packet.incarnation for packet in found} == {0}
    assert {(record.key, record.partition) for record in records(filled, ARCHIVE)} == {("gate", 1)}
    messages = [decode_as(FrameMessage, record.value) for record in records(filled, FRAMES)[:20]]
    for packet, message in zip(found[::6], messages[::6], strict=True):
        image = decode_jpeg(message.jpeg)
        (regions,) = squares([image], [LabelSet(name, 1, ()) for name in KEYS])
        frame = Frame("gate", message.seq, message.capture_ns, image)
        alone = encode_frame(codec, frame, regions, KEYS, quality=3)
        assert (packet.coarse, [atom.payload for atom in packet.atoms]) == (
            alone.coarse,
            [atom.payload for atom in alone.atoms],
        )
        assert packet.capture_ns == message.capture_ns
        assert packet.tasks == tuple(sorted(KEYS.values()))
        assert decode_packet(codec, packet, camera="gate").sent.any()
    assert len({region.track for packet in found for region in packet.regions}) == 1


def test_a_run_that_goes_well_counts_attempts_at_its_start_only(filled, codec, run_until, monkeypatch) -> None:
    counted = []
    count = SqliteStage.record_attempt
    monkeypatch.setattr(
        SqliteStage, "record_attempt", lambda self, *place: counted.append(place[2]) or count(self, *place)
    )
    run_until(stage(filled, codec), done(filled))
    assert counted == list(range(2 * SETTINGS.batch))


def test_the_time_index_tells_where_packets_are(filled, codec, records, run_until) -> None:
    run_until(stage(filled, codec), lambda: lag(filled, "stage:encode-1", FRAMES, [1])[1] <= 12)
    run_until(stage(filled, codec), done(filled))
    entries = [decode_as(IndexMessage, record.value) for record in records(filled, INDEX)]
    found = packets(records, filled)
    assert [(entry.incarnation, entry.seq) for entry in entries] == [
        (life, next(packet.seq for packet in found if packet.incarnation == life)) for life in (0, 1)
    ]
    for entry in entries:  # frames lie at the offset of their number here
        assert (entry.camera, entry.archive_offset) == ("gate", entry.seq)
        assert entry.capture_ns == found[entry.seq].capture_ns


def test_what_is_missing_from_the_archive_is_told_beside_it(filled, codec, records, run_until) -> None:
    run_until(stage(filled, codec), lambda: lag(filled, "stage:encode-1", FRAMES, [1])[1] <= 14)
    before = packets(records, filled)[-1]
    filled.trim(FRAMES, 1, before.seq + 4)  # three frames are gone before they were encoded
    away = GapMessage(camera="gate", from_ns=1, to_ns=2, reason="the cable", next_seq=20)
    filled.append(FRAMES, "gate", encode(away), partition=1)
    run_until(stage(filled, codec), done(filled))
    found = packets(records, filled)
    after = next(packet for packet in found if packet.seq > before.seq)
    lost, passed_on = (m for r in records(filled, INDEX) if isinstance(m := decode(r.value), GapMessage))
    assert (lost.camera, lost.frames, lost.next_seq) == ("gate", 3, after.seq)
    assert (lost.from_ns, lost.to_ns) == (before.capture_ns, after.capture_ns)
    assert passed_on == away


@pytest.mark.parametrize("restarted", [False, True])
def test_what_a_gap_has_counted_is_not_lost_again(filled, codec, records, run_until, restarted: bool) -> None:
    dropped = GapMessage(camera="gate", from_ns=1, to_ns=2, reason="encoding fell behind", next_seq=22, frames=2)
    filled.append(FRAMES, "gate", encode(dropped), partition=1)
    if restarted:
        run_until(stage(filled, codec), done(filled))
    last = decode_as(FrameMessage, records(filled, FRAMES)[19].value)
    for seq in (22, 25):  # two before the first are told of, two before the second are not
        message = msgspec.structs.replace(last, seq=seq, capture_ns=last.capture_ns + seq)
        filled.append(FRAMES, "gate", encode(message), partition=1)
    run_until(stage(filled, codec), done(filled))
    gaps = [m for r in records(filled, INDEX) if isinstance(m := decode(r.value), GapMessage)]
    assert gaps[0] == dropped
    assert [(gap.frames, gap.next_seq) for gap in gaps[1:]] == [(2, 25)]


def test_a_frame_that_was_tried_again_has_no_entry_after_a_restart_either(filled, codec, records, run_until) -> None:
    run_until(stage(filled, codec), done(filled))
    before = records(filled, INDEX)
    filled.append(FRAMES, "gate", records(filled, FRAMES)[3].value, partition=1)
    run_until(stage(filled, codec), done(filled))
    assert packets(records, filled)[-1].seq == 3
    assert records(filled, INDEX) == before


def test_a_run_leaves_no_reader_open(filled, codec, run_until, open_readers) -> None:
    run_until(stage(filled, codec), done(filled))
    assert open_readers == []


def test_deaths_repeat_nothing_lose_nothing_and_reuse_no_id(filled, codec, records, run_until) -> None:
    class Killed(BaseException):
        """As sudden as a signal."""

    deaths = 0
    for survives in (1, 2, 5, 3):
        count = 0

        def dying(images, label_sets, most: int = survives):
            nonlocal count
            count += 1
            if count > most:
                raise Killed
            return asked(images, label_sets)

        with pytest.raises(Killed):
            run_until(stage(filled, codec, dying), done(filled))
        deaths += 1
    run_until(stage(filled, codec), done(filled))
    found = packets(records, filled)
    assert [packet.seq for packet in found] == list(range(20))
    incarnations = [packet.incarnation for packet in found]
    assert incarnations == sorted(incarnations)
    assert incarnations[-1] == deaths
    tracks: dict[int, set[int]] = {}
    for packet in found:
        tracks.setdefault(packet.incarnation, set()).update(region.track for region in packet.regions)
    everyone = [track for ids in tracks.values() for track in ids]
    assert len(everyone) == len(set(everyone))
    assert 0 not in everyone
    assert records(filled, DEAD) == []


@pytest.mark.parametrize("poison", [0, 6, 19])
def test_the_third_death_buries_the_frame_that_kills_and_no_other(
    filled, codec, records, run_until, poison: int
) -> None:
    target = decode_jpeg(decode_as(FrameMessage, records(filled, FRAMES)[poison].value).jpeg)

    def deadly(images, label_sets):
        if any(np.array_equal(image, target) for image in images):
            raise RuntimeError("grounding failed: out of memory")
        return asked(images, label_sets)

    deaths = 0
    while True:
        try:
            run_until(stage(filled, codec, deadly), done(filled))
            break
        except RuntimeError:
            deaths += 1
    assert deaths <= 4  # in a batch, then three times alone
    assert [packet.seq for packet in packets(records, filled)] == [s for s in range(20) if s != poison]
    (record,) = records(filled, DEAD)
    dead = decode_as(DeadMessage, record.value)
    assert (dead.topic, dead.partition, dead.offset, dead.deaths, dead.key) == (FRAMES, 1, poison, 3, "gate")
    assert "died 3 times" in dead.reason
    assert dead.value == records(filled, FRAMES)[poison].value


def test_damaged_records_are_buried_at_once_with_the_reason(log, codec, records, run_until) -> None:
    good = encode_jpeg(np.full((48, 64, 3), 255, np.uint8))
    log.append(FRAMES, "gate", b"not a message", partition=1)
    for seq, jpeg in enumerate([good, good[:100], good]):
        message = FrameMessage(camera="gate", seq=seq, capture_ns=seq, jpeg=jpeg)
        log.append(FRAMES, "gate", encode(message), partition=1)
    gap = GapMessage(camera="gate", from_ns=2, to_ns=9, reason="away", next_seq=3)
    log.append(FRAMES, "gate", encode(gap), partition=1)
    run_until(stage(log, codec), done(log))
    assert [packet.seq for packet in packets(records, log)] == [0, 2]
    dead = [decode_as(DeadMessage, record.value) for record in records(log, DEAD)]
    assert [(message.offset, message.deaths) for message in dead] == [(0, 0), (2, 0)]
    assert "foreign" in dead[0].reason
    assert "JPEG" in dead[1].reason


def test_a_replaced_encoder_writes_nothing_more(filled, codec, records, run_until) -> None:
    taken: list[int] = []

    def slow(images, label_sets):
        answer = squares(images, label_sets)

        def wait():
            if not taken:
                filled.stage("encode", 1, "somebody else")
                taken.append(1)
            return answer

        return wait

    with pytest.raises(Fenced, match="somebody else"):
        run_until(stage(filled, codec, slow), done(filled))
    assert records(filled, ARCHIVE) == []


def test_cameras_of_one_partition_have_states_of_their_own(log, codec, clip, records, run_until) -> None:
    for name in ("gate", "yard"):
        IngestStage(log, CameraConfig(name=name, source=str(clip)), 1, max_lag=100, owner="test").run()
    run_until(stage(log, codec), done(log))
    for name in ("gate", "yard"):
        mine = [parse_packet(r.value) for r in records(log, ARCHIVE) if r.key == name]
        assert [packet.seq for packet in mine] == list(range(20))
        assert {region.track for packet in mine for region in packet.regions} == {1}
    state = decode_as(EncodeState, log.stage("encode", 1, "test").state)
    assert {name: s.next_track for name, s in state.cameras.items()} == {"gate": 2, "yard": 2}


def test_frames_that_retention_took_are_counted(filled, codec, records, run_until) -> None:
    filled.trim(FRAMES, 1, 5)
    encoder = stage(filled, codec)
    run_until(encoder, done(filled))
    assert [packet.seq for packet in packets(records, filled)] == list(range(5, 20))
    assert (encoder.report.frames, encoder.report.lost) == (15, 5)
