"""Stages killed at each point of their work, in real processes, on every backend: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import nursery
import pytest
from nursery import Job

from actors.registry import load_tasks, register
from actors.route import MAX_PACKETS
from benchmarks.sequential import Judge, judge
from discover_stream.codec.any_packet import parse_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.packet import (
    Packet,
    PacketAtom,
    PacketRegion,
    packet_bytes,
    parse_packet,
    route,
    task_key,
)
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import Box, Frame
from discover_stream.video.jpeg import encode_jpeg
from discover_stream.video.sink import open_sink
from discover_stream.video.source import open_source
from topics import open_log
from topics.catalogue import ARCHIVE, DEAD, FRAMES, PLATES, CatalogueSettings, catalogue, task_topic
from topics.failpoints import MARKS_VARIABLE, VARIABLE
from topics.log import Log
from topics.messages import DeadMessage, EndMessage, FrameMessage, decode_as, encode
from topics.reading import read_all

TASKS = ("vehicles", "pedestrians")
KEYS = {name: task_key(name, 1) for name in TASKS}
CAMERAS = ("gate", "yard")
KILLED = -9
FRAMES_EACH = 17
START_NS = 1_767_225_600 * 10**9


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty log with one partition of cameras and two tasks on."""
    if request.param == "sqlite":
        address = f"sqlite:{tmp_path}/log.db"
    else:
        broker = request.getfixturevalue("kafka_broker")
        address = f"kafka:{broker.bootstrap}?prefix=f{os.urandom(4).hex()}."
    with open_log(address) as log:
        log.create_topics(catalogue(TASKS, CatalogueSettings(partitions=1)))
        register(log, load_tasks(TASKS), 1, "test")
    return address


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def run(job: Job, marks: Path, entries: list[str]) -> dict[str, list[int]]:
    """How the processes of each stage ended, one after the other, until there was nothing left to do."""
    environment = {**os.environ, VARIABLE: ",".join(entries), MARKS_VARIABLE: str(marks)}
    command = [sys.executable, nursery.__file__, job.to_json()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    endings: dict[str, list[int]] = json.loads(done.stdout)
    for lives in endings.values():
        assert set(lives[:-1]) <= {KILLED}, done.stderr
    return endings


def write(url: str, topic: str, values: list[tuple[str, bytes]]) -> list[int]:
    """Append (camera, value); their offsets, which a broker does not give without holes."""
    with open_log(url) as log:
        stage = log.stage(f"fill-{topic}", 0, "test")
        for begin in range(0, len(values), 7):
            with stage.transaction() as transaction:
                for camera, value in values[begin : begin + 7]:
                    transaction.send(topic, camera, value, partition=0)
        stage.close()
        return [record.offset for record in read_all(log, topic)]


def packets(count: int) -> list[tuple[str, bytes]]:
    """Archive packets of two cameras in turn, each with an atom for both tasks and one for each."""
    order = tuple(sorted(KEYS.values()))
    regions = tuple(PacketRegion(Box(m, 0, 20 + m, 30), 40, m + 1, ((m, 7 * m),)) for m in range(2))
    values = []
    for number in range(count):
        seq = number // 2
        atoms = (PacketAtom((0,), bytes([seq] * 9)), PacketAtom((1,), b"b"), PacketAtom((0, 1), b"both"))
        packet = Packet(b"abc", 4, seq, 0, seq * 10**8, 64, 48, order, regions, b"coarse", atoms)
        values.append((CAMERAS[number % 2], packet_bytes(packet)))
    return values


def assert_routed(url: str, sent: list[tuple[str, bytes]], buried: set[int]) -> None:
    """Every packet that is not buried is in each task's topic once, in order, byte for byte."""
    with open_log(url) as log:
        for task in TASKS:
            expected = [
                (camera, packet_bytes(route(parse_packet(value), (KEYS[task],))))
                for number, (camera, value) in enumerate(sent)
                if number not in buried
            ]
            assert [(record.key, record.value) for record in read_all(log, task_topic(task))] == expected


def dead(log: Log) -> list[DeadMessage]:
    return [decode_as(DeadMessage, record.value or b"") for record in read_all(log, DEAD)]


def test_routing_killed_at_each_point_one_by_one_and_in_batches(url: str, tmp_path: Path, marks: Path) -> None:
    sent = packets(6 * (MAX_PACKETS + 20))
    write(url, ARCHIVE, sent)
    # With care there is a packet to a transaction; the first one after that has a batch.
    points = ("after_read", "after_process", "after_send", "before_commit", "after_commit")
    entries = [f"route:{point}:{count}" for point in points for count in (3, MAX_PACKETS + 1)]
    endings = run(Job(url, ["route"], str(tmp_path)), marks, entries)["route"]
    assert sorted(mark.name for mark in marks.iterdir()) == sorted(entries)
    assert endings == [KILLED] * len(entries) + [0]
    assert_routed(url, sent, set())
    with open_log(url) as log:
        assert dead(log) == []


def test_packets_that_kill_routing_are_buried_at_their_third_death(url: str, tmp_path: Path, marks: Path) -> None:
    sent = packets(4 * MAX_PACKETS)
    offsets = write(url, ARCHIVE, sent)
    # The first; one that is met with care, and its neighbour; one behind and before good ones of its batch; the last.
    killers = [0, MAX_PACKETS // 2, MAX_PACKETS // 2 + 1, MAX_PACKETS + 40, len(sent) - 1]
    entries = [f"route:after_read:@{offsets[killer]}" for killer in killers]
    endings = run(Job(url, ["route"], str(tmp_path)), marks, entries)["route"]
    # Three each, and one more for the two that are met in a batch, where nobody knows who it was.
    assert len(endings) == 3 * len(killers) + 2 + 1
    assert_routed(url, sent, set(killers))
    with open_log(url) as log:
        buried = dead(log)
        assert [(message.offset, message.deaths) for message in buried] == [(offsets[k], 3) for k in killers]
        assert all("died 3 times" in message.reason for message in buried)
        assert [(message.key, message.value) for message in buried] == [sent[k] for k in killers]


def render(folder: Path) -> dict[str, list[Frame]]:
    """Clips of both cameras in a folder, and their frames as a sequential reader sees them."""
    frames: dict[str, list[Frame]] = {}
    for seed, name in enumerate(CAMERAS, start=1):
        uri = f"sim://road?seed={seed}&width=96&height=64&fps=4&seconds={FRAMES_EACH / 4}"
        with open_source(uri, camera=name) as source, open_sink(folder / f"{name}.mkv", fps=4) as sink:
            for frame in source:
                sink.write(frame.image)
        with open_source(str(folder / f"{name}.mkv"), camera=name, start_ns=START_NS) as source:
            frames[name] = list(source)
    return frames


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        ([0, 1, 2], (0, 0, 0, 0)),
        ([0, 2], (1, 0, 0, 0)),
        ([0, 1, 1, 2], (0, 1, 0, 0)),
        ([0, 2, 1], (0, 0, 1, 0)),
        ([0, 1, 2, 3], (0, 0, 0, 1)),
        ([2, 2, 9], (2, 1, 0, 1)),
    ],
)
def test_the_judge_sees_what_is_wrong(found: list[int], faults: tuple[int, ...]) -> None:
    verdict = judge("gate", "t", {seq: b"%d" % seq for seq in range(3)}, [(seq, b"%d" % seq) for seq in found])
    assert (verdict.lost, verdict.doubled, verdict.disordered, verdict.different) == faults
    assert verdict.ok == (faults == (0, 0, 0, 0))
    assert judge("gate", "t", {0: b"a"}, [(0, b"b")]).different == 1
    assert judge("gate", "t", {0: None}, [(0, b"b")]).ok


@pytest.fixture(scope="module")
def referee() -> Judge:
    import torch

    torch.set_num_threads(1)
    return Judge(load_tasks(TASKS), quality=3)


def test_a_running_system_killed_at_each_point_of_each_stage(
    url: str, tmp_path: Path, marks: Path, referee: Judge
) -> None:
    """Every process of a stage dies at the entry it comes to first; the next one gets farther."""
    frames = render(tmp_path)
    points = ("after_read", "after_process", "after_send", "before_commit", "after_commit")
    entries = [f"{stage}:{point}:4" for stage in ("ingest-gate", "route") for point in points]
    # Encoding does four frames with care, one by one; after those, two batches of two are in hand.
    entries += ["encode:after_read:3", "encode:after_ask:7", "encode:after_process:5", "encode:after_process:6"]
    entries += ["encode:after_send:2", "encode:before_commit:6", "encode:after_commit:5"]
    clips = {name: str(tmp_path / f"{name}.mkv") for name in CAMERAS}
    endings = run(Job(url, [*CAMERAS, "encode", "route"], str(tmp_path), clips=clips), marks, entries)
    assert sorted(mark.name for mark in marks.iterdir()) == sorted(entries)
    assert {stage: len(lives) - 1 for stage, lives in endings.items()} == {
        "gate": 5,
        "yard": 0,
        "encode": 7,
        "route": 5,
    }
    with open_log(url) as log:
        verdicts = referee.verdicts(log, frames)
        assert dead(log) == []
        archive = list(read_all(log, ARCHIVE))
    assert len(verdicts) == len(CAMERAS) * (2 + len(TASKS))
    assert all(verdict.ok and verdict.found >= FRAMES_EACH for verdict in verdicts), verdicts
    for camera in CAMERAS:
        lives = [parse_packet(record.value or b"").incarnation for record in archive if record.key == camera]
        assert lives == sorted(lives)
        assert len(set(lives)) > 3


def film(frames: dict[str, list[Frame]]) -> list[tuple[str, bytes]]:
    """The frames of all cameras in turn, as ingest would write them, and the end of each."""
    values = []
    for together in zip(*frames.values(), strict=True):
        for frame in together:
            jpeg = encode_jpeg(frame.image)
            message = FrameMessage(camera=frame.camera, seq=frame.seq, capture_ns=frame.capture_ns, jpeg=jpeg)
            values.append((frame.camera, encode(message)))
    ends = [(name, EndMessage(camera=name, next_seq=len(mine), at_ns=0)) for name, mine in frames.items()]
    return values + [(name, encode(end)) for name, end in ends]


def test_frames_that_kill_encoding_are_buried_at_their_third_death(
    url: str, tmp_path: Path, marks: Path, referee: Judge
) -> None:
    frames = {name: mine[:8] for name, mine in render(tmp_path).items()}
    offsets = write(url, FRAMES, film(frames))
    # With care for four frames: the second, met alone; one that is met among others, with good ones before and after.
    killers = [1, 10]
    entries = [f"encode:after_process:@{offsets[killer]}" for killer in killers]
    endings = run(Job(url, ["encode"], str(tmp_path)), marks, entries)["encode"]
    assert len(endings) == 3 * len(killers) + 1 + 1
    with open_log(url) as log:
        buried = dead(log)
        assert [(message.offset, message.deaths) for message in buried] == [(offsets[k], 3) for k in killers]
        assert all("died 3 times" in message.reason for message in buried)
        without = {camera: {k // 2 for k in killers if k % 2 == index} for index, camera in enumerate(CAMERAS)}
        archive = [verdict for verdict in referee.verdicts(log, frames, without) if verdict.topic == ARCHIVE]
    assert len(archive) == len(CAMERAS)
    assert all(verdict.ok for verdict in archive), archive


def test_encoding_killed_at_each_point_of_a_stream(url: str, tmp_path: Path, marks: Path) -> None:
    frames = render(tmp_path)
    values = []
    for seq in range(FRAMES_EACH):
        for name in CAMERAS:
            frame = frames[name][seq]
            message = FrameMessage(
                camera=name, seq=seq, capture_ns=frame.capture_ns, jpeg=encode_jpeg(frame.image), fps=4.0
            )
            values.append((name, encode(message)))
    write(url, FRAMES, values)
    # The first packets of a life bring plates; the fourth one of a camera refers to earlier ones.
    points = ("after_process", "after_send", "before_commit", "after_commit")
    entries = ["encode:after_process:1", "encode:before_commit:1", "encode:after_send:2", "encode:after_commit:1"]
    entries += [f"encode:{point}:8" for point in points]
    job = Job(url, ["encode"], str(tmp_path), mode="stream")
    assert run(job, marks, entries)["encode"] == [KILLED] * len(entries) + [0]
    with open_log(url) as log:
        assert dead(log) == []
        plates = [record.key for record in read_all(log, PLATES) if "/" in (record.key or "")]
        archive = [(record.key or "", parse_any(record.value or b"")) for record in read_all(log, ARCHIVE)]
    brought = []
    for name in CAMERAS:
        packets_of = [packet for camera, packet in archive if camera == name]
        assert [packet.seq for packet in packets_of] == list(range(FRAMES_EACH))
        assert len({packet.incarnation for packet in packets_of}) >= 4
        reader = CameraReader(name, lambda number: ())
        for packet, frame in zip(packets_of, frames[name], strict=True):
            assert isinstance(packet, StreamPacket)
            reading = reader.read(packet)
            assert reading.absent == ()
            assert reading.capture_ns == frame.capture_ns
            shown = reader.pictures.picture(packet.incarnation, packet.seq).image
            assert np.abs(shown.astype(float) - frame.image).mean() < 30
            brought += [f"{name}/{plate.plate_id}" for plate in packet.plates]
    assert sorted(brought) == sorted(plates)  # those that were committed with packets, each once
    assert len(set(plates)) == len(plates)
