"""Stream mode through the stages: what dies, comes late, is lost or changes, and what readers make of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from time import sleep

import msgspec
import numpy as np
import pytest
import torch
from crc32c import crc32c
from hand_held import hand_held

from actors.encode import EncodeSettings, EncodeStage
from actors.ingest import IngestStage
from actors.registry import load_tasks, register
from actors.route import RouteStage, still_bare
from actors.supervisor import mode_line
from discover_stream.codec.any_packet import AnyPacket, parse_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.packet import Packet
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.config import CameraConfig, TaskConfig
from discover_stream.sdk import Gap, Lack, TaskFrame, subscribe
from discover_stream.types import Box, Image, LabelSet, Region
from discover_stream.video.jpeg import encode_jpeg
from topics.archive import archive_lead_in, archive_span, read_archive
from topics.catalogue import ARCHIVE, DEAD, FRAMES, PLATES, CatalogueSettings, catalogue, task_topic
from topics.log import lag
from topics.low_water import retire
from topics.messages import CameraState, DeadMessage, EncodeState, FrameMessage, PlateMessage, decode, decode_as, encode
from topics.plates import PlateShelf
from topics.sqlite import SqliteLog

SETTINGS = EncodeSettings(quality=4, batch=4, mode="auto")
COUNT = 40
WIDTH, HEIGHT = 128, 80


@pytest.fixture(scope="module")
def codec() -> CodecModel:
    torch.set_num_threads(1)
    return load_codec()


def street(seq: int) -> Image:
    """A red car that drives over a textured road, after frame 0."""
    noise = np.random.default_rng(7).normal(0, 14, (HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1)
    image = np.clip(np.linspace(80, 140, WIDTH)[None, :, None] + noise[..., None].repeat(3, 2), 0, 255).astype(np.uint8)
    if seq:
        left = 2 * seq
        image[30:54, left : left + 32] = (210, 40, 30)
        image[34:40, left + 6 : left + 14] = 20
    return image


def found_in(images: Sequence[Image], label_sets: Sequence[LabelSet]) -> list[dict[str, tuple[Region, ...]]]:
    """Grounds the car for `vehicles` and `everything`."""
    answer = []
    for image in images:
        red = (image[..., 0] > 150) & (image[..., 1] < 90)
        columns, rows = np.flatnonzero(red.any(axis=0)), np.flatnonzero(red.any(axis=1))
        regions: tuple[Region, ...] = ()
        if columns.size:
            box = Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            regions = (Region(2, 0.9, box),)
        answer.append({labels.task: () if labels.task == "pedestrians" else regions for labels in label_sets})
    return answer


def asked(images: list[Image], label_sets: tuple[LabelSet, ...]):
    answer = found_in(images, label_sets)
    return lambda: answer


def send(log: SqliteLog, seqs: Sequence[int], fps: float = 10.0) -> None:
    for seq in seqs:
        message = FrameMessage(
            camera="yard", seq=seq, capture_ns=round(seq * 1e9 / fps), jpeg=encode_jpeg(street(seq % COUNT)), fps=fps
        )
        log.append(FRAMES, "yard", encode(message), partition=1)


def stage(log: SqliteLog, codec: CodecModel, ground=asked) -> EncodeStage:
    return EncodeStage(log, 1, codec, ground, SETTINGS, "test")


def done(log: SqliteLog, left: int = 0):
    return lambda: lag(log, "stage:encode-1", FRAMES, [1])[1] <= left


def packets(records, log: SqliteLog) -> list[AnyPacket]:
    return [parse_any(record.value, camera=record.key) for record in records(log, ARCHIVE)]


def route_all(log: SqliteLog, run_until) -> None:
    run_until(RouteStage(log, 1, "test"), lambda: lag(log, "stage:route-1", ARCHIVE, [1])[1] == 0)


def error(image: Image, seq: int) -> float:
    return float(np.abs(image.astype(float) - street(seq % COUNT)).mean())


def reader_of(log: SqliteLog) -> CameraReader:
    return CameraReader("yard", partial(PlateShelf(log, 1).fetch, "yard"))


class Killed(BaseException):
    """As sudden as a signal."""


def dying(log: SqliteLog, most: int):
    """A grounder with which the process dies after so many calls."""
    calls = 0

    def ground(images, label_sets):
        nonlocal calls
        calls += 1
        if calls > most:
            raise Killed
        return asked(images, label_sets)

    return ground


def test_deaths_in_the_middle_of_a_stream_lose_nothing_and_double_nothing(log, codec, records, run_until) -> None:
    send(log, range(COUNT))
    for calls in (9, 3, 12):
        with pytest.raises(Killed):
            run_until(stage(log, codec, dying(log, calls)), done(log))
    run_until(stage(log, codec), done(log))
    found = packets(records, log)
    assert [packet.seq for packet in found] == list(range(COUNT))
    assert all(isinstance(packet, StreamPacket) for packet in found)
    assert {packet.incarnation for packet in found} == {0, 1, 2, 3}
    reader, tracks = reader_of(log), set()
    for life, packet in [(packet.incarnation, packet) for packet in found]:
        reading = reader.read(packet)
        assert reading.absent == ()
        assert reading.capture_ns == packet.seq * 10**8
        assert error(reader.pictures.picture(life, packet.seq).image, packet.seq) < 16, packet.seq
        tracks |= {(life, region.track) for region in reading.regions}
    ids = [track for _, track in tracks]
    assert len(ids) == len(set(ids))  # none is used in two lives
    plates = [plate.plate_id for packet in found for plate in packet.plates]
    assert len(plates) == len(set(plates)) >= 4
    state = decode_as(EncodeState, log.stage("encode", 1, "test").state).cameras["yard"]
    assert state.next_plate == max(plates) + 1


def test_a_plate_is_there_before_any_packet_that_names_it(log, codec, records, run_until) -> None:
    send(log, range(COUNT))
    run_until(stage(log, codec, asked), done(log, COUNT // 2))
    for _ in range(2):
        known = {
            message.plate_id
            for record in records(log, PLATES)
            if record.value and isinstance(message := decode(record.value), PlateMessage)
        }
        named = {packet.plate_id for packet in packets(records, log) if isinstance(packet, StreamPacket)}
        assert named
        assert named <= known
        run_until(stage(log, codec), done(log))
    shelf = PlateShelf(log, 1)
    assert all(shelf.fetch("yard", plate) for plate in named)
    assert retire(log, 2) == 0  # the archive names them all


def test_late_subscribers_and_any_stretch_show_what_reading_from_the_start_shows(
    log, codec, records, run_until
) -> None:
    send(log, range(COUNT))
    run_until(stage(log, codec), done(log))
    route_all(log, run_until)
    whole: dict[int, Image] = {}
    with subscribe("vehicles", log=log, timeout_s=0) as subscription:
        for item in subscription:
            assert isinstance(item, TaskFrame)
            assert item.absent == ()
            whole[item.seq] = item.image()
    assert len(whole) == COUNT
    held = records(log, task_topic("vehicles"))
    for first in (7, 23, COUNT - 1):
        reader = log.reader(task_topic("vehicles"), [1], group=f"late-{first}")
        reader.commit({1: held[first].offset})
        reader.close()
        with subscribe("vehicles", log=log, group=f"late-{first}", timeout_s=0) as subscription:
            items = [(item.seq, item.absent, item.image()) for item in subscription if isinstance(item, TaskFrame)]
        assert [seq for seq, _, _ in items] == list(range(first, COUNT))
        assert all(absent == () and np.array_equal(image, whole[seq]) for seq, absent, image in items)
    span = archive_span(log, "yard")
    archived = list(read_archive(log, "yard", span.first_ns + 17 * 10**8, span.last_ns + 1))
    assert archived[0].packet.seq == 17
    reader = reader_of(log)
    for earlier in archive_lead_in(log, archived[0]):
        reader.read(earlier)
    for item in archived:
        assert reader.read(item.packet).absent == ()
        assert np.array_equal(reader.pictures.picture(0, item.packet.seq).image, whole[item.packet.seq])


def test_what_is_lost_is_told_and_mended_by_the_next_list(log, codec, records, run_until) -> None:
    send(log, range(COUNT), fps=5.0)  # a list every 5 frames, a key every 20
    run_until(stage(log, codec), done(log))
    route_all(log, run_until)
    held = records(log, task_topic("vehicles"))
    seqs = [parse_any(record.value).seq for record in held]
    lost = next(seq for seq in range(14, 30) if not parse_any(held[seq].value).quiet)
    found: dict[int, tuple[tuple[object, ...], Image]] = {}
    reader = reader_of(log)
    for seq, record in zip(seqs, held, strict=True):
        if seq != lost:
            packet = parse_any(record.value)
            found[seq] = reader.read(packet).absent, reader.pictures.picture(0, seq).image
    broken = [seq for seq, (absent, _) in found.items() if absent]
    assert broken
    assert broken[0] == lost + 1
    assert {lack.what for lack in found[lost + 1][0]} >= {Lack.STATE}
    assert broken[-1] - lost <= 20
    assert error(found[COUNT - 1][1], COUNT - 1) < 16
    log.trim(task_topic("vehicles"), 1, held[12].offset)  # as retention does
    with subscribe("vehicles", log=log, timeout_s=0) as subscription:
        items = [item for item in subscription if isinstance(item, TaskFrame)]
        gaps = [item for item in items if isinstance(item, Gap)]
    assert gaps == []
    assert [item.seq for item in items] == list(range(12, COUNT))
    broken = [item.seq for item in items if item.absent]
    assert broken == list(range(12, broken[-1] + 1))
    assert 12 < broken[-1] < 12 + 20


def options(log: SqliteLog, **deliver: str) -> None:
    """Have tasks on, delivered as said, and no others."""
    tasks = load_tasks([TaskConfig(task=name, deliver=how) for name, how in deliver.items()])
    register(log, tasks, 2, "test")


def test_a_running_stream_follows_tasks_and_how_they_are_delivered(log, codec, records, run_until) -> None:
    log.create_topics(catalogue(["everything"], CatalogueSettings(partitions=2)))
    steps = [
        {"vehicles": "pixels", "everything": "regions"},
        {"vehicles": "pixels", "everything": "pixels"},
        {"everything": "pixels"},
        {"everything": "regions"},
        {"everything": "pixels", "vehicles": "pixels"},
    ]
    encoding, routing = stage(log, codec), RouteStage(log, 1, "test")
    threads = [Thread(target=encoding.run), Thread(target=routing.run)]
    for thread in threads:
        thread.start()
    for step, tasks in enumerate(steps):
        options(log, **tasks)
        send(log, range(6 * step, 6 * step + 6))
        while lag(log, "stage:encode-1", FRAMES, [1])[1] or lag(log, "stage:route-1", ARCHIVE, [1])[1]:
            assert all(thread.is_alive() for thread in threads)
            sleep(0.01)
    for running in (encoding, routing):
        running.stop()
    for thread in threads:
        thread.join()
    found = packets(records, log)
    assert [packet.seq for packet in found] == list(range(30))
    assert {packet.incarnation for packet in found} == {0}
    assert all(isinstance(packet, StreamPacket) for packet in found)
    assert [packet.seq for packet in found if packet.regions_only] == list(range(18, 24))
    for name in ("vehicles", "everything"):
        wanted = [6 * step + more for step, tasks in enumerate(steps) for more in range(6) if name in tasks]
        with subscribe(name, log=log, timeout_s=0) as subscription:
            seqs = []
            for item in subscription:
                assert isinstance(item, TaskFrame)
                seqs.append(item.seq)
                assert item.absent == ()
                if name not in steps[item.seq // 6]:  # the last thing that a task hears
                    assert item.packet.stopped == (0,)
                    continue
                bare = steps[item.seq // 6][name] == "regions"
                assert item.regions_only == bare
                assert len(item.regions) == min(item.seq, 1)
                if not bare:
                    assert error(item.image(), item.seq) < 16, item.seq
        assert seqs == sorted([*wanted, *([12] if name == "vehicles" else [])])


def test_who_gets_pixels_again_gets_them_from_a_packet_that_needs_nothing_earlier() -> None:
    def packet(oldest: int, started: tuple[int, ...] = ()) -> StreamPacket:
        return StreamPacket(
            b"abc", 9, 0, 0, oldest, (1, 2), base=8 if oldest < 9 else None, started=started, capture_us=0,
            size=(64, 48) if started or oldest == 9 else None,
        )  # fmt: skip

    assert still_bare(packet(8), {1}, ()) == {1}
    assert still_bare(packet(8), (), {1}) == {1}
    assert still_bare(packet(9), (), {1}) == set()
    assert still_bare(packet(8, (0,)), (), {1}) == set()
    assert still_bare(packet(9), {1}, {1}) == {1}
    assert still_bare(packet(8), (), {7}) == {7}  # a task that this packet does not have


def test_a_hand_held_camera_is_coded_in_still_mode_and_that_is_told(log, codec, records, run_until) -> None:
    for seq in range(32):
        message = FrameMessage(
            camera="yard", seq=seq, capture_ns=seq * 10**8, jpeg=encode_jpeg(hand_held(seq, WIDTH, HEIGHT)), fps=10.0
        )
        log.append(FRAMES, "yard", encode(message), partition=1)
    encoding = stage(log, codec)
    run_until(encoding, done(log))
    found = packets(records, log)
    assert isinstance(found[0], StreamPacket)
    assert isinstance(found[-1], Packet)
    ((camera, status),) = encoding.report.modes
    assert (camera, status.mode) == ("yard", "still")
    assert re.search("the camera is hand-held|new scenes", status.reason)
    assert f"camera yard: still mode: {status.reason}" in mode_line(camera, status)
    state = decode_as(EncodeState, log.stage("encode", 1, "test").state).cameras["yard"]
    assert state.still_reason == status.reason
    again = stage(log, codec)
    send(log, [32])
    run_until(again, done(log))
    assert isinstance(packets(records, log)[-1], Packet)  # a restart does not try at once


def test_a_state_of_before_there_was_stream_mode_is_read(log, codec, records, run_until) -> None:
    send(log, range(2))
    run_until(EncodeStage(log, 1, codec, asked, EncodeSettings(4, 4), "before"), done(log))
    fields = {"incarnation": 4, "next_track": 7, "next_seq": 2, "last_ns": 10**8}
    old = msgspec.msgpack.encode({"type": "encode-state", "cameras": {"yard": fields}})
    with log.stage("encode", 1, "before").transaction() as transaction:
        transaction.set_state(b"DM\x01" + crc32c(old).to_bytes(4, "little") + old)
    assert CameraState(**fields).next_plate == 1
    send(log, range(2, 5))
    run_until(stage(log, codec), done(log))
    last = packets(records, log)[-1]
    assert isinstance(last, StreamPacket)
    assert last.incarnation == 5
    assert {key.track for packet in packets(records, log)[2:] for key in packet.keys} <= {7, 8}


def test_a_frame_that_cannot_be_coded_is_put_aside_and_the_stream_goes_on(log, codec, records, run_until) -> None:
    send(log, range(4))
    jpeg = encode_jpeg(np.zeros((8, 9000, 3), np.uint8))
    log.append(FRAMES, "yard", encode(FrameMessage(camera="yard", seq=4, capture_ns=4 * 10**8, jpeg=jpeg)), partition=1)
    send(log, range(5, 9))
    send(log, [2])  # tried again late
    run_until(stage(log, codec), done(log))
    found = packets(records, log)
    assert [packet.seq for packet in found] == [0, 1, 2, 3, 5, 6, 7, 8, 2]
    (dead,) = records(log, DEAD)
    assert "seq 4" in decode_as(DeadMessage, dead.value).reason
    assert isinstance(found[-1], Packet)
    reader = reader_of(log)
    for packet in found:
        assert reader.read(packet).absent == ()
        if isinstance(packet, StreamPacket):
            assert error(reader.pictures.picture(0, packet.seq).image, packet.seq) < 16
    assert found[4].gap is not None
    assert found[4].gap.frames == 1


@pytest.mark.parametrize("fps", [None, 5.0])
def test_a_stream_has_the_rate_that_the_source_says(log, codec, records, run_until, clip: Path, fps: float) -> None:
    IngestStage(log, CameraConfig(name="yard", source=str(clip), fps=fps), 1, max_lag=100, owner="test").run()
    run_until(stage(log, codec), done(log))
    found = packets(records, log)
    assert isinstance(found[0], StreamPacket)
    assert found[0].plates[0].clock is not None
    assert found[0].plates[0].clock.interval_us == (100_000 if fps is None else 200_000)
    assert {packet.drift for packet in found if isinstance(packet, StreamPacket)} == {0}
