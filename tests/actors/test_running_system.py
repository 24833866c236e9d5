"""`discover run` as a user runs it, with processes killed under it, against a sequential run without Ray.

One camera is coded in stream mode, which is what a fixed one gets by itself, the other in still mode.

One long story, told once: a run that is killed as a whole, a run in which every kind of stage dies, while
subscribers come, die, and come back, and a last run that finds nothing to do and is interrupted. The tests look at
what is in the log afterwards.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from actors.tracing import root_id, trace_id
from discover_stream.codec.any_packet import AnyPacket, any_packet_bytes, parse_any, route_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.packet import Packet, task_key
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.evaluation.pictures import psnr
from discover_stream.sdk import TaskFrame, subscribe
from discover_stream.types import Frame
from discover_stream.video.sink import open_sink
from discover_stream.video.source import open_source
from topics import open_log
from topics.catalogue import ARCHIVE, DEAD, FRAMES, PLATES, task_topic
from topics.log import Log, Record
from topics.partitioner import partition_for
from topics.plates import PlateShelf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FRAMES_EACH = 36
CAMERAS = ("road-east", "road-west")  # they lie in different partitions
TASKS = ("vehicles", "pedestrians", "everything")
START_NS = 1_767_225_600 * 10**9
QUALITY = 3
CONFIG = """
log: {{path: {folder}/log.db}}
tasks: [vehicles, pedestrians, everything]
tracing: {{exporter: file, path: {folder}/spans.jsonl}}
quality: 3
max_lag: 4
cameras:
- {{name: road-east, source: {folder}/road-east.mkv, realtime: true, starts_at: 2026-01-01T00:00:00Z}}
- {{name: road-west, source: {folder}/road-west.mkv, realtime: true, starts_at: 2026-01-01T00:00:00Z, mode: still}}
"""
STREAMED, STILL = CAMERAS


class Program:
    """A `discover` command in a process of its own; what it says goes to a file."""

    def __init__(self, out: Path, *arguments: str) -> None:
        self.out = out
        command = [sys.executable, "-m", "discover_stream.app.cli", *arguments]
        with out.open("wb") as stream:
            self.process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, cwd=out.parent, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self.out.read_text(errors="replace")

    def pid_of(self, stage: str) -> int | None:
        """The newest process that the stage was reported in."""
        found = re.findall(rf"^{stage} started(?: again)?: process (\d+)$", self.said, re.MULTILINE)
        return int(found[-1]) if found else None

    def until(self, condition: Callable[[], object], what: str) -> None:
        while not condition():
            assert self.process.poll() is None, f"ended before {what}:\n{self.said}"
            time.sleep(0.05)

    def kill_stages(self, *stages: str) -> None:
        """Kill them all, then wait until each is reported in another process."""
        self.until(lambda: all(self.pid_of(stage) for stage in stages), f"{stages} started")
        pids = {stage: self.pid_of(stage) for stage in stages}
        for pid in pids.values():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        self.until(lambda: all(self.pid_of(stage) != pid for stage, pid in pids.items()), f"{stages} came back")

    def end(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            if number == signal.SIGINT:
                os.killpg(self.process.pid, number)  # as a terminal does
            else:
                self.process.send_signal(number)
        return self.process.wait()


@dataclass(frozen=True)
class Story:
    """What was said and what is in the log when it is over; and how many packets were there after the first run."""

    folder: Path
    said: str
    codes: tuple[int, int]
    leftovers: list[str]
    subscriber: list[list[dict[str, object]]]
    first_life: dict[str, int]


def records(log: Log, topic: str) -> list[Record]:
    found: list[Record] = []
    reader = log.reader(topic)
    while items := reader.poll():
        found += [item for item in items if isinstance(item, Record)]
    return found


def count(log: Log, topic: str, partition: int = 0) -> int:
    return log.bounds(topic, partition).end


def render(folder: Path) -> None:
    for seed, name in enumerate(CAMERAS, start=1):
        uri = f"sim://road?seed={seed}&width=128&height=96&fps=4&seconds={FRAMES_EACH / 4}"
        with open_source(uri, camera=name) as source, open_sink(folder / f"{name}.mkv", fps=4) as sink:
            for frame in source:
                sink.write(frame.image)


def stages_in(folder: Path) -> list[str]:
    """Processes of stages that run in a folder. (Ray's own agents need a minute to see that they are orphans.)"""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                title = (place / "cmdline").read_bytes().decode(errors="replace")
                if "Actor" in title and os.readlink(place / "cwd") == str(folder):
                    found.append(title)
            except OSError:
                continue
    return found


@contextmanager
def running(out: Path, *arguments: str) -> Iterator[Program]:
    program = Program(out, *arguments)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    render(folder)
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(folder=folder))
    run = ("run", "--config", str(config), "--every", "1")
    watch = ("subscribe", "vehicles", "--config", str(config), "--group", "counter", "--from", "earliest", "--json")

    with running(folder / "killed.txt", *run) as first:
        first.until(lambda: first.pid_of("route-0"), "the stages started")
        log = open_log(f"sqlite:{folder}/log.db")
        other = partition_for(CAMERAS[1], 4)
        first.until(lambda: count(log, ARCHIVE) and count(log, ARCHIVE, other), "packets of both were archived")
        assert len(stages_in(folder)) >= 7  # two of ingest, encode and route, and ground
        killed = first.end(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (leftovers := stages_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    first_life = {CAMERAS[0]: count(log, ARCHIVE), CAMERAS[1]: count(log, ARCHIVE, other)}

    with running(folder / "last.txt", *run, "--until-idle") as last:
        subscriber = Program(folder / "subscriber-0.txt", *watch)
        last.until(lambda: subscriber.said.count("\n") >= 4, "the subscriber got something")
        subscriber.end(signal.SIGKILL)
        for stages in (("encode-0", "route-0", "ingest-road-east-0", "ground-0"), ("encode-0",)):
            before = count(log, ARCHIVE)
            last.until(lambda: count(log, ARCHIVE) > before, "another packet was archived")  # noqa: B023
            last.kill_stages(*stages)
        second_life = Program(folder / "subscriber-1.txt", *watch, "--max", str(2 * FRAMES_EACH))
        ended = last.end()
        wanted = 2 * FRAMES_EACH
        while distinct(folder) < wanted and second_life.process.poll() is None:
            time.sleep(0.1)
        second_life.end(signal.SIGTERM)
    log.close()
    lives = [lines_of(folder / f"subscriber-{life}.txt") for life in range(2)]
    return Story(folder, last.said, (killed, ended), leftovers, lives, first_life)


def lines_of(path: Path) -> list[dict[str, object]]:
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            assert line == path.read_text().splitlines()[-1]  # cut off by the kill
    return found


def distinct(folder: Path) -> int:
    lines = [line for life in range(2) for line in lines_of(folder / f"subscriber-{life}.txt")]
    return len({(line["camera"], line["incarnation"], line["seq"]) for line in lines})


@pytest.fixture(scope="module")
def archive(story: Story) -> dict[str, list[AnyPacket]]:
    with open_log(f"sqlite:{story.folder}/log.db") as log:
        found: dict[str, list[AnyPacket]] = {name: [] for name in CAMERAS}
        for record in records(log, ARCHIVE):
            found[record.key or ""].append(parse_any(record.value or b"", camera=record.key or "?"))
    return found


def originals(story: Story, camera: str) -> list[Frame]:
    with open_source(story.folder / f"{camera}.mkv", camera=camera, start_ns=START_NS) as source:
        return list(source)


def test_what_killed_what(story: Story) -> None:
    assert story.codes == (-signal.SIGKILL, 0), story.said
    assert "Traceback" not in story.said
    for stage, deaths in (("encode-0", 2), ("route-0", 1), ("ingest-road-east-0", 1), ("ground-0", 1)):
        assert story.said.count(f"{stage} started again") == deaths, story.said
        if stage != "ground-0":  # nothing runs in it that could be lost: Ray asks again by itself
            told = len(re.findall(rf"^{stage} .*its process died", story.said, re.MULTILINE))
            assert deaths <= told <= deaths + 1, story.said
    assert story.leftovers == []


def test_every_frame_once_in_order_as_in_a_sequential_run(story: Story, archive: dict[str, list[AnyPacket]]) -> None:
    import torch

    from discover_stream.codec.model import load_codec
    from discover_stream.codec.still import decode_packet, encode_frame
    from discover_stream.semantics.grounder import NanoGrounder
    from discover_stream.semantics.labels import load_task
    from discover_stream.video.jpeg import decode_jpeg, encode_jpeg

    torch.set_num_threads(1)
    codec, grounder = load_codec(), NanoGrounder.load()
    tasks = [load_task(name) for name in TASKS]
    keys = {task.name: task_key(task.name, task.label_set.version) for task in tasks}
    assert all([packet.seq for packet in archive[camera]] == list(range(FRAMES_EACH)) for camera in CAMERAS)
    for frame, packet in zip(originals(story, STILL), archive[STILL], strict=True):
        image = decode_jpeg(encode_jpeg(frame.image))
        (regions,) = grounder.ground([image], [task.label_set for task in tasks])
        alone = encode_frame(codec, Frame(STILL, frame.seq, frame.capture_ns, image), regions, keys, quality=QUALITY)
        assert isinstance(packet, Packet)
        assert (packet.capture_ns, packet.tasks, packet.coarse) == (alone.capture_ns, alone.tasks, alone.coarse)
        decode_packet(codec, packet, camera=STILL)
    with open_log(f"sqlite:{story.folder}/log.db") as log:
        assert records(log, DEAD) == []


def test_a_stream_whose_encoder_was_killed_shows_every_frame(story: Story, archive: dict[str, list[AnyPacket]]) -> None:
    with open_log(f"sqlite:{story.folder}/log.db") as log, closing(PlateShelf(log)) as shelf:
        known = {record.key for record in records(log, PLATES)}
        reader = CameraReader(STREAMED, lambda number: ())  # every plate comes with the packets
        for frame, packet in zip(originals(story, STREAMED), archive[STREAMED], strict=True):
            assert isinstance(packet, StreamPacket)
            reading = reader.read(packet)
            assert reading.absent == ()
            assert reading.capture_ns == frame.capture_ns
            image = reader.pictures.picture(packet.incarnation, packet.seq).image
            assert np.abs(image.astype(float) - frame.image).mean() < 25, packet.seq
            assert f"{STREAMED}/{packet.plate_id}" in known
            assert shelf.fetch(STREAMED, packet.plate_id)
    plates = [plate.plate_id for packet in archive[STREAMED] for plate in packet.plates]  # type: ignore[union-attr]
    assert len(plates) == len(set(plates)) >= 3


def test_restarts_raise_the_incarnation_and_never_reuse_a_track(
    story: Story, archive: dict[str, list[AnyPacket]]
) -> None:
    assert archive[STREAMED][-1].incarnation >= 3
    for camera, packets in archive.items():
        incarnations = [packet.incarnation for packet in packets]
        assert incarnations == sorted(incarnations)
        assert set(incarnations[: story.first_life[camera]]) == {0}
        assert 0 not in incarnations[story.first_life[camera] :]
        lives: dict[int, set[int]] = {}
        reader = CameraReader(camera, lambda number: ())
        for packet in packets:
            lives.setdefault(packet.incarnation, set()).update(r.track for r in reader.read(packet).regions)
        tracks = [track for ids in lives.values() for track in ids if track]
        assert len(tracks) == len(set(tracks))


def test_a_frames_trace_goes_from_ingest_to_the_picture_of_a_replay(story: Story) -> None:
    config = ("--config", str(story.folder / "config.yaml"))
    replay = ("replay", STREAMED, "--to", "+1s", "--output", str(story.folder / "replay.mp4"), *config)
    with running(story.folder / "replay.txt", *replay) as program:
        assert program.end() == 0, program.said
    spans = [json.loads(line) for line in (story.folder / "spans.jsonl").read_text().splitlines()]
    named: dict[int, set[str]] = {}
    for span in spans:
        camera, seq = span["attributes"]["discover.camera"], span["attributes"]["discover.seq"]
        assert int(span["context"]["trace_id"], 16) == trace_id(camera, seq)
        if span["name"] == "frame":
            assert span["parent_id"] is None
            assert int(span["context"]["span_id"], 16) == root_id(camera, seq)
        else:
            assert int(span["parent_id"], 16) == root_id(camera, seq)
        if camera == STREAMED:
            named.setdefault(seq, set()).add(span["name"])
    way = {"frame", "ingest", "queue", "read", "ground", "encode", "commit", "frame to packet", "route", "deliver"}
    replayed = {seq for seq, names in named.items() if "picture" in names}
    with open_source(story.folder / "replay.mp4", camera="replay") as source:
        assert replayed == set(range(len(list(source))))
    # Processes were killed, some between a commit and the word about it; such a frame lacks a span or two.
    assert sum(way | {"picture"} <= names for names in named.values()) >= len(replayed) // 2 > 0
    assert sum(way <= names for names in named.values()) >= FRAMES_EACH // 2


@pytest.mark.parametrize("task", TASKS)
def test_a_late_subscriber_gets_each_packet_once_byte_for_byte(
    story: Story, archive: dict[str, list[AnyPacket]], task: str
) -> None:
    with subscribe(task, log=f"sqlite:{story.folder}/log.db", timeout_s=0) as subscription:
        items = [item for item in subscription if isinstance(item, TaskFrame)]
    for camera in CAMERAS:
        mine = [any_packet_bytes(item.packet) for item in items if item.camera == camera]
        assert mine == [any_packet_bytes(route_any(packet, (task_key(task, 1),))) for packet in archive[camera]]
    assert all(item.absent == () for item in items)


def test_a_killed_subscriber_misses_nothing(story: Story) -> None:
    first, second = story.subscriber
    for camera in CAMERAS:
        lives = [[int(str(line["seq"])) for line in life if line["camera"] == camera] for life in (first, second)]
        for seqs in lives:
            assert seqs == sorted(set(seqs))
        assert sorted(set(lives[0]) | set(lives[1])) == list(range(FRAMES_EACH))
        assert len(set(lives[0]) & set(lives[1])) <= 1  # the line that was out before its commit


def test_nobody_reads_an_ended_source_again_and_ctrl_c_ends_a_run(story: Story) -> None:
    topics = (FRAMES, ARCHIVE, *map(task_topic, TASKS))
    with open_log(f"sqlite:{story.folder}/log.db") as log:
        before = [count(log, topic, partition) for topic in topics for partition in range(4)]
        with running(story.folder / "again.txt", "run", "-c", str(story.folder / "config.yaml")) as again:
            again.until(lambda: "every source has ended" in again.said, "it was idle")
            assert again.end(signal.SIGINT) == 0, again.said
        assert "stopping" in again.said
        assert "Traceback" not in again.said
        assert [count(log, topic, partition) for topic in topics for partition in range(4)] == before


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_pool_of_decoders_shows_what_one_process_shows(story: Story, camera: str) -> None:
    pictures = []
    for workers in (1, 2):
        config = story.folder / f"pool-{workers}.yaml"
        config.write_text((story.folder / "config.yaml").read_text() + f"pools: {{decode: {workers}}}\n")
        film = story.folder / f"pool-{workers}.mkv"
        with running(
            story.folder / f"pool-{workers}.txt",
            *(
                "replay",
                camera,
                "--from",
                "+2s",
                "--to",
                "+4s",
                "--steps",
                "1",
                "-c",
                str(config),
                "-o",
                str(film),
            ),
        ) as replay:
            assert replay.end() == 0, replay.said
        assert "8 frames" in replay.said
        with open_source(film, camera="x") as source:
            pictures.append([frame.image for frame in source])
    assert len(pictures[0]) == 8
    # Still mode renders only what changed since the picture before, and each process has begun with another one.
    assert all(psnr(one, other) >= 45 for one, other in zip(*pictures, strict=True))


def test_a_live_subscriber_may_be_decoded_on_the_pool(story: Story) -> None:
    saved = []
    for workers in (1, 2):
        config, folder = story.folder / f"live-{workers}.yaml", story.folder / f"live-{workers}"
        config.write_text((story.folder / "config.yaml").read_text() + f"pools: {{decode: {workers}}}\n")
        options = ("--camera", STREAMED, "--from", "earliest", "--max", "6", "--save", str(folder), "-c", str(config))
        with running(story.folder / f"live-{workers}.txt", "subscribe", "vehicles", *options) as subscriber:
            assert subscriber.end() == 0, subscriber.said
        saved.append({path.name: path.read_bytes() for path in (folder / STREAMED).iterdir()})
    assert len(saved[0]) == 6
    assert saved[0] == saved[1]
