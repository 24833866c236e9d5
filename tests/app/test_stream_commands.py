"""subscribe and replay of a camera whose archive is in stream mode."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from stream_film import FRAMES, capture_ns, painted_film, seen

from actors.system import catalogue_settings
from discover_stream.codec.any_packet import any_packet_bytes, regions_only, route_any
from discover_stream.codec.packet import task_key
from discover_stream.config import load_config
from discover_stream.types import LabelSet, Task
from topics.catalogue import ARCHIVE, LABELS, PLATES, catalogue, task_topic
from topics.messages import LabelSetMessage, encode
from topics.partitioner import partition_for
from topics.plates import plate_message
from topics.sqlite import SqliteLog

NAMES = ("vehicles", "pedestrians")
KEYS = sorted(task_key(name, 1) for name in NAMES)
FIRST, SECOND = sorted(NAMES, key=lambda name: task_key(name, 1))
FILM = painted_film((KEYS[0], KEYS[1]))
CONFIG = """
log: {{path: {folder}/log.db}}
tasks: [vehicles, pedestrians]
cameras:
- {{name: gate, source: {folder}/clip.mkv}}
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("film"))


def record(folder: Path) -> Path:
    """A configuration whose log holds the film: its archive, its plates, and what the router sent."""
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder))
    config = load_config(path)
    partition = partition_for("gate", 4)
    with SqliteLog(config.log.path) as log:
        log.create_topics(catalogue(NAMES, catalogue_settings(config.log)))
        for name in NAMES:
            labels = LabelSet(name, 1, tuple(f"{name} {number}" for number in range(100)))
            for key in (f"{name}/1", name):
                log.append(LABELS, key, encode(LabelSetMessage.of(Task(name, "", labels))))
        for packet in FILM:
            for plate in packet.plates:
                message = plate_message("gate", packet, plate, capture_ns(packet.seq))
                log.append(PLATES, f"gate/{plate.plate_id}", encode(message), partition=partition)
            log.append(ARCHIVE, "gate", any_packet_bytes(packet), partition=partition)
            for name in NAMES:
                part = any_packet_bytes(route_any(packet, {task_key(name, 1)}))
                log.append(task_topic(name), "gate", part, partition=partition)
    return path


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        ((), range(FRAMES)),
        (("--from", "+0.4s", "--to", "+0.7s"), range(4, 7)),
        (("--task", FIRST, "--from", "+0.6s"), range(6, FRAMES)),
    ],
)
def test_replay_composes_any_stretch(
    recorded: Path, discover: Any, read_pictures: Any, tmp_path: Path, options: tuple[str, ...], seqs: range
) -> None:
    discover("replay", "gate", "-c", recorded, "-o", tmp_path / "whole.mkv")
    whole = read_pictures(tmp_path / "whole.mkv")
    out = discover("replay", "gate", "-c", recorded, "-o", tmp_path / "r.mkv", *options)
    assert f"{len(seqs)} frames" in out
    pictures = read_pictures(tmp_path / "r.mkv")
    for seq, picture in zip(seqs, pictures, strict=True):
        # The car, drawn from an atom that came before the stretch.
        assert picture[16, 22].mean() == pytest.approx(whole[seq][16, 22].mean(), abs=5)
        assert picture[16, 22].mean() == pytest.approx(150 if seq < 3 else 200, abs=8)
    if FIRST in options:
        assert pictures[-1][27, 40].mean() < 70


def test_subscribe_prints_regions_and_saves_pictures(recorded: Path, discover: Any, tmp_path: Path) -> None:
    begin = ("subscribe", FIRST, "-c", recorded, "--from", "earliest", "--max", FRAMES)
    lines = [json.loads(line) for line in discover(*begin, "--json", "--save", tmp_path / "p").splitlines()]
    for seq, line in enumerate(lines):
        assert (line["seq"], line["capture_ns"], line["absent"]) == (seq, capture_ns(seq), [])
        boxes = {tuple(region["box"]) for region in line["regions"]}
        assert boxes == {(r.box.x0, r.box.y0, r.box.x1, r.box.y1) for r in seen(seq, 0)}
    assert len(list((tmp_path / "p").rglob("*.png"))) == FRAMES
    assert f"1 {FIRST} 1" in discover(*begin)


def test_subscribe_tells_what_is_missing(tmp_path: Path, discover: Any) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    config = load_config(path)
    with SqliteLog(config.log.path) as log:
        log.create_topics(catalogue(NAMES, catalogue_settings(config.log)))
        for seq in (1, 3):
            log.append(task_topic(SECOND), "gate", any_packet_bytes(route_any(FILM[seq], {KEYS[1]})))
    begin = ("subscribe", SECOND, "-c", path, "--from", "earliest", "--max", 2)
    first, second = discover(*begin).splitlines()
    assert first.startswith("at an unknown time gate seq 1")
    assert "not whole: earlier packets, the plate, keys of tracks" in first
    lack = {"what": "plate", "name": 1}
    assert all(lack in json.loads(line)["absent"] for line in discover(*begin, "--json").splitlines())
    assert "earlier packets" in second


def test_replay_tells_what_the_archive_has_lost(tmp_path: Path, discover: Any, read_pictures: Any) -> None:
    path = record(tmp_path)
    assert "note" not in discover("replay", "gate", "-c", path, "-o", tmp_path / "whole.mkv")
    with SqliteLog(load_config(path).log.path) as log:
        log.trim(ARCHIVE, partition_for("gate", 4), 2)  # the keys of car and bus
    out = discover("replay", "gate", "-c", path, "-o", tmp_path / "cut.mkv")
    lost = FRAMES - 2
    assert f"{lost} frames" in out
    assert re.search(rf"note: {lost} frames from \S+ on are not whole: the archive has not all", out)
    pictures = read_pictures(tmp_path / "cut.mkv")
    assert len(pictures) == lost
    assert pictures[0][2, 60].mean() == pytest.approx(60, abs=8)  # the plate is in its own topic


@pytest.mark.parametrize("task", ["all", FIRST])
def test_replay_leaves_out_frames_of_regions_only(tmp_path: Path, discover: Any, task: str) -> None:
    path = record(tmp_path)
    with SqliteLog(load_config(path).log.path) as log:
        for seq in (9, 10):
            bare = regions_only(dataclasses.replace(FILM[8], seq=seq, base=seq - 1, drift=0))
            log.append(ARCHIVE, "gate", any_packet_bytes(bare), partition=partition_for("gate", 4))
    out = discover("replay", "gate", "-c", path, "-o", tmp_path / "r.mkv", "--task", task)
    assert f"{FRAMES} frames" in out
    assert f"2 frames are left out, task {task} was delivered as regions only then" in out
