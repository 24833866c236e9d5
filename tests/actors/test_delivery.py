"""How tasks are delivered, through stages that run: regions alone, tags, and every n-th frame grounded."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from chat_server import GOOD_LABELS

from actors.encode import EncodeSettings, EncodeStage
from actors.registry import load_tasks, register
from actors.route import RouteStage, split, was_without_pixels
from actors.system import all_task_progress
from actors.task_switch import added_tasks, give_labels, switch_off, switch_on, task_facts
from discover_stream.app.replay import lacks_pixels
from discover_stream.codec.any_packet import parse_any
from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.packet import Packet, PacketAtom, PacketRegion, task_key
from discover_stream.config import TaskConfig
from discover_stream.sdk import TaskFrame, subscribe
from discover_stream.types import Box, Image, InputError, LabelSet, Region, Task, TaskOptions
from discover_stream.video.jpeg import encode_jpeg
from discover_stream.video.simulate import SimulatedCamera
from topics.catalogue import ARCHIVE, FRAMES, CatalogueSettings
from topics.log import lag
from topics.messages import FrameMessage, encode
from topics.sqlite import SqliteLog

SETTINGS = CatalogueSettings(partitions=2)
VANS = Task("vans", "delivery vans", LabelSet("vans", 1, GOOD_LABELS))
REGIONS, TAGS = TaskOptions("regions"), TaskOptions("pixels", tags=True)
WHOLE = Region(5, 1.0, Box(0.0, 0.0, 64.0, 48.0))


@pytest.fixture(scope="module")
def codec() -> CodecModel:
    torch.set_num_threads(1)
    return load_codec()


def picture(seq: int) -> Image:
    image = np.full((48, 64, 3), 90, np.uint8)
    image[16:32, 2 * seq : 2 * seq + 16] = 220
    return image


class Site:
    """Encode and route of one partition, in threads that are never restarted, and a camera that shows a square."""

    def __init__(self, log: SqliteLog, codec: CodecModel, every: int = 1) -> None:
        self.log, self.seq = log, 0
        self.asked: list[int] = []
        self.route = RouteStage(log, 1, "test")
        self.stages = [EncodeStage(log, 1, codec, self.ground, EncodeSettings(3, 2, every), "test"), self.route]
        self.threads = [threading.Thread(target=stage.run) for stage in self.stages]

    def ground(self, images: Sequence[Image], label_sets: Sequence[LabelSet]):
        answer = []
        for image in images:
            columns = np.flatnonzero((image > 200).all(axis=2).any(axis=0))
            self.asked.append(round(columns[0] / 2))
            square = Region(2, 0.9, Box(float(columns[0]), 16.0, float(columns[-1] + 1), 32.0))
            answer.append({labels.task: (WHOLE, square) for labels in label_sets})
        return lambda: answer

    def frame(self) -> None:
        """Send a frame, and wait until it was routed."""
        jpeg = encode_jpeg(picture(self.seq))
        message = FrameMessage(camera="gate", seq=self.seq, capture_ns=self.seq * 10**8, jpeg=jpeg)
        self.log.append(FRAMES, "gate", encode(message), partition=1)
        self.seq += 1
        while lag(self.log, "stage:encode-1", FRAMES, [1])[1] or lag(self.log, "stage:route-1", ARCHIVE, [1])[1]:
            assert all(thread.is_alive() for thread in self.threads)
            threading.Event().wait(0.01)


@contextmanager
def running(log: SqliteLog, codec: CodecModel, every: int = 1) -> Iterator[Site]:
    site = Site(log, codec, every)
    for thread in site.threads:
        thread.start()
    try:
        yield site
    finally:
        for stage in site.stages:
            stage.stop()
        for thread in site.threads:
            thread.join()


def frames(log: SqliteLog, task: str) -> list[TaskFrame]:
    with subscribe(task, log=log, timeout_s=0) as subscription:
        return [item for item in subscription if isinstance(item, TaskFrame)]


def deliver(log: SqliteLog, options: TaskOptions) -> None:
    assert switch_on(log, "vans", SETTINGS, "test", lambda before: options) == 2


def test_a_running_task_changes_what_it_is_sent(log: SqliteLog, codec: CodecModel, records) -> None:
    give_labels(log, VANS, "test")
    with running(log, codec) as site:
        for options in (REGIONS, TaskOptions(), TAGS, TaskOptions("regions", tags=True)):
            deliver(log, options)
            site.frame()
    alone, plain, tagged, both = frames(log, "vans")
    assert [item.regions_only for item in (alone, plain, tagged, both)] == [True, False, False, True]
    assert [item.tags for item in (alone, plain, tagged, both)] == [(), (), (2, 5), (2, 5)]
    assert both.condition == f"{GOOD_LABELS[2]}, {GOOD_LABELS[5]}"
    assert plain.condition == ""
    assert all([region.label for region in item.regions] == [5, 2] for item in (alone, plain, tagged, both))
    assert {item.regions[1].track for item in (alone, plain, tagged, both)} == {1}
    assert alone.size < plain.size / 1.5  # what is left of a picture of 64x48 pixels are a few bytes itself
    assert plain.image(generate=False).shape == (48, 64, 3)
    with pytest.raises(InputError, match="task vans, camera gate, seq 0: it is delivered as regions only"):
        alone.image()
    others = frames(log, "vehicles")
    assert [(item.regions_only, item.tags) for item in others] == [(False, ())] * 4
    vans = task_key("vans", 1)
    for record, with_atoms in zip(records(log, ARCHIVE), (False, True, True, False), strict=True):
        packet = parse_any(record.value)
        assert isinstance(packet, Packet)
        mine = packet.tasks.index(vans)
        assert any(mine in atom.tasks for atom in packet.atoms) == with_atoms
    (tally,) = [tally for tally in site.route.report.tallies if tally.task == "vans"]
    assert tally.bytes == sum(item.size for item in (alone, plain, tagged, both))


def test_where_nobody_wants_pixels_nothing_of_the_picture_is_coded(log: SqliteLog, codec: CodecModel, records) -> None:
    listed = load_tasks(
        [TaskConfig(task="vehicles", deliver="regions"), TaskConfig(task="pedestrians", deliver="regions")]
    )
    register(log, listed, 2, "a system")
    with running(log, codec) as site:
        site.frame()
    (record,) = records(log, ARCHIVE)
    packet = parse_any(record.value)
    assert isinstance(packet, Packet)
    assert packet.regions_only
    assert len(packet.regions) == 2
    assert len(record.value) < 70
    assert [item.regions_only for item in frames(log, "pedestrians")] == [True]


def test_options_outlive_systems_and_other_orders(log: SqliteLog) -> None:
    give_labels(log, VANS, "test")
    deliver(log, TaskOptions("regions", tags=True))
    assert switch_on(log, "vans", SETTINGS, "test") == 0  # as it was
    register(log, load_tasks(["vehicles"]), 2, "the next system")
    facts = {item.name: item for item in task_facts(log)}
    assert (facts["vans"].options, facts["vehicles"].options) == (TaskOptions("regions", tags=True), TaskOptions())
    switch_off(log, "vans", "test")
    switch_on(log, "vans", SETTINGS, "test")
    (task,) = added_tasks(log)
    assert task.options == TaskOptions("regions", tags=True)
    listed = dataclasses.replace(task, options=TAGS)
    register(log, (listed,), 2, "a system that lists it")
    assert {item.name: item.options for item in task_facts(log)}["vans"] == TAGS


def test_packets_from_before_a_change_are_not_taken_for_empty_streets() -> None:
    one, other = sorted((task_key("vans", 1), task_key("vehicles", 1)))
    names = {one: "one", other: "other"}
    found = PacketRegion(Box(1, 2, 30, 40), 63, 7, ((0, 0), (1, 3)))
    atom = PacketAtom((1,), b"atom")
    packet = Packet(b"abc", 4, 1, 0, 0, 64, 48, (one, other), (found,), b"coarse", (atom,))
    assert was_without_pixels(packet, one)
    assert not was_without_pixels(packet, other)
    parts = {name: parse_any(data) for name, data in split(packet, names)}
    assert (parts["one"].regions_only, parts["other"].regions_only) == (True, False)
    empty = dataclasses.replace(packet, regions=(), atoms=())
    assert not was_without_pixels(empty, one)  # nothing was there
    parts = {name: parse_any(data) for name, data in split(empty, names, {other})}
    assert (parts["one"].regions_only, parts["other"].regions_only) == (False, True)
    assert lacks_pixels(packet, frozenset({one}))
    assert not lacks_pixels(packet, frozenset({one, other}))
    assert not lacks_pixels(packet, None)
    nothing = dataclasses.replace(packet, coarse=b"", atoms=(), regions_only=True)
    assert lacks_pixels(nothing, None)
    assert all(parse_any(data).regions_only for _, data in split(nothing, names))


def test_every_nth_frame_is_grounded_and_the_rest_is_carried_on(log: SqliteLog, codec: CodecModel) -> None:
    give_labels(log, VANS, "test")
    with running(log, codec, every=3) as site:
        for _ in range(14):
            site.frame()
        assert site.asked == [0, 3, 6, 9, 12]
        switch_on(log, "vans", SETTINGS, "test")  # whose first frame is grounded at once
        for _ in range(4):
            site.frame()
        assert site.asked == [0, 3, 6, 9, 12, 14, 17]
    seen = frames(log, "vehicles")
    assert len(seen) == 18
    assert {(region.label, region.track) for item in seen for region in item.regions} == {(5, 0), (2, 1)}
    for item in seen[7:]:  # the motion is known by now: two pixels a frame
        assert item.regions[1].box.x0 == pytest.approx(2 * item.seq, abs=1.5)
    assert [item.seq for item in frames(log, "vans")] == [14, 15, 16, 17]
    assert all(len(item.regions) == 2 for item in frames(log, "vans"))


def test_progress_knows_tasks_that_were_added_and_removed(log: SqliteLog, codec: CodecModel) -> None:
    from actors.log_view import LogView

    configured = load_tasks(["vehicles", "pedestrians"])
    view = LogView(log, log.topics(), [1], lambda line: None)

    def shown() -> dict[str, tuple[bool, TaskOptions, int]]:
        view.tasks.refresh()
        found = all_task_progress(configured, view.tasks.now, view.tasks.known, site.route.report.tallies)
        return {task.name: (task.on, task.options, task.packets) for task in found}

    with running(log, codec) as site:
        assert list(shown()) == ["vehicles", "pedestrians"]
        give_labels(log, VANS, "test")
        deliver(log, REGIONS)
        assert shown()["vans"] == (True, REGIONS, 0)
        site.frame()
        assert shown()["vans"] == (True, REGIONS, 1)
        switch_off(log, "vans", "test")
        assert shown()["vans"] == (False, REGIONS, 1)
    assert all_task_progress(configured, {}, {}, ())[0].on  # what is listed is about to be turned on
    view.tasks.close()


def test_another_task_leaves_boxes_unchanged_to_the_bit(log: SqliteLog, codec: CodecModel, records) -> None:
    """With the shipped grounder: what the archive says of vehicles while they are alone, and with two tasks more."""
    from discover_stream.semantics.grounder import NanoGrounder

    grounder = NanoGrounder.load()
    camera = SimulatedCamera("gate", width=320, height=192, fps=5, seed=3)
    jpegs = [encode_jpeg(camera.render(seq)[0].image) for seq in range(20, 26)]
    raw: list[dict[str, tuple[Region, ...]]] = []

    def ground(images, label_sets):
        answer = grounder.ground(images, label_sets)
        raw.extend(answer)
        return lambda: answer

    seen = []
    for partition, tasks in enumerate((["vehicles"], ["vehicles", "pedestrians", "everything"])):
        register(log, load_tasks(tasks), 2, "test")
        for seq, jpeg in enumerate(jpegs):
            message = FrameMessage(camera="gate", seq=seq, capture_ns=seq, jpeg=jpeg)
            log.append(FRAMES, "gate", encode(message), partition=partition)
        stage = EncodeStage(log, partition, codec, ground, EncodeSettings(3, 4), "test")
        thread = threading.Thread(target=stage.run)
        thread.start()
        while lag(log, f"stage:encode-{partition}", FRAMES, [partition])[partition]:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        stage.stop()
        thread.join()
        found = [parse_any(r.value) for r in records(log, ARCHIVE) if r.partition == partition]
        # Packets list regions by track, and people have track numbers too: here they are by box.
        seen.append([sorted(vehicles(packet), key=lambda region: str(region[:3])) for packet in found])
    for alone, among in zip(*seen, strict=True):
        assert [region[:3] for region in alone] == [region[:3] for region in among]
    # People get ids too, so those of vehicles have other numbers; but with few exceptions (a person before a car) each
    # object has one.
    pairs = {(a[3], b[3]) for alone, among in zip(*seen, strict=True) for a, b in zip(alone, among, strict=True)}
    assert len(pairs) - len({a for a, _ in pairs}) <= 2
    assert len(pairs) - len({b for _, b in pairs}) <= 2
    assert sum(len(regions) for regions in seen[0]) >= 6
    assert [found["vehicles"] for found in raw[:6]] == [found["vehicles"] for found in raw[6:]]  # floats, bit for bit


def vehicles(packet) -> list[tuple[Box, int, int, int]]:
    """Box, score, label, track of each vehicle."""
    mine = packet.tasks.index(task_key("vehicles", 1))
    return [
        (region.box, region.score, label, region.track)
        for region in packet.regions
        for task, label in region.labels
        if task == mine
    ]
