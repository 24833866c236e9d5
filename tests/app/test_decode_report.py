"""What decoded pictures are made of reaches whoever decodes: by command, in JSON, and as a warning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.system import catalogue_settings
from discover_stream.app.decode_report import DecodeReport, frame_facts
from discover_stream.codec.packet import packet_bytes, route, task_key
from discover_stream.config import load_config
from discover_stream.decoding import DecodedFrame
from discover_stream.sdk import LocalPictures, TaskFrame, subscribe
from discover_stream.types import Image, LabelSet, Provenance, Task
from topics.catalogue import ARCHIVE, LABELS, catalogue, task_topic
from topics.messages import LabelSetMessage, encode
from topics.partitioner import partition_for
from topics.sqlite import SqliteLog


def psnr(one: Image, other: Image) -> float:
    error = np.square(one.astype(np.float64) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def frame(seq: int, invention: float | None, changed: float) -> DecodedFrame:
    provenance = np.full((2, 2), Provenance.GENERATED, np.uint8)
    provenance[0] = Provenance.SENT
    image = np.zeros((32, 32, 3), np.uint8)
    changes = {"sent": changed, "generated": 2 * changed}
    return DecodedFrame("gate", seq, 5, image, provenance, {}, changed=changes, invention=invention)


def test_a_report_adds_up_and_warns_of_the_frames_from_the_threshold_on() -> None:
    report = DecodeReport(0.4)
    assert (report.lines(), report.summary()["frames"]) == ([], 0)
    for one in (frame(3, 0.1, 0.02), frame(4, 0.4, 0.04), frame(5, 0.9, 0.03), frame(6, None, 0.03)):
        report.add(one)
    summary = report.summary()
    assert summary["provenance"] == {"sent": 0.5, "generated": 0.5}
    assert summary["changed"] == {"sent": 0.03, "generated": 0.06}
    assert summary["invention"] == {"scored": 3, "highest": 0.9, "warn_at": 0.4, "doubtful": [4, 5]}
    *_, warning = report.lines()
    assert warning.startswith("warning: 2 frames may show things that were made up")
    assert "seq 5 has 0.90" in warning
    calm = DecodeReport(0.95)
    calm.add(frame(3, 0.9, 0.1))
    assert not any(line.startswith("warning") for line in calm.lines())
    assert frame_facts(frame(6, None, 0.25))["invention"] is None


def test_decode_tells_it_frame_by_frame_and_in_all(stream: Any, discover: Any, tmp_path: Path) -> None:
    out = discover("decode", stream.path, "--task", "vehicles", "-o", tmp_path / "v.mkv", "--json")
    *frames, last = (json.loads(line) for line in out.splitlines())
    assert [one["seq"] for one in frames] == [0, 1, 2]
    for one in frames:
        assert set(one["provenance"]) == {"sent", "generated"}
        assert sum(one["provenance"].values()) == pytest.approx(1, abs=1e-3)
        assert 0 <= one["invention"] <= 1
        assert set(one["changed"]) == {"sent", "generated"}
        assert one["changed"]["sent"] == 0 < one["changed"]["generated"]
    assert last["summary"]["frames"] == 3
    assert last["summary"]["invention"]["scored"] == 3
    assert last["summary"]["provenance"]["sent"] == pytest.approx(
        np.mean([f["provenance"]["sent"] for f in frames]), abs=1e-3
    )
    told = discover("decode", stream.path, "--task", "vehicles", "-o", tmp_path / "n.mkv", "--no-generate")
    assert "3 frames" in told
    assert "missing" in told
    assert "changed" not in told
    assert "at most 0.00" in told  # nothing is generated, so nothing is made up
    config = tmp_path / "quiet.yaml"
    config.write_text("cameras: [{name: a, source: b.mkv}]\ndecoding: {inventions: false}\n")
    out = discover("decode", stream.path, "--task", "vehicles", "-o", tmp_path / "q.mkv", "--json", "-c", config)
    assert json.loads(out.splitlines()[0])["invention"] is None


def test_the_same_packets_give_the_same_bytes_in_another_process_and_nearly_so_with_other_threads(
    stream: Any, discover: Any, read_pictures: Any, tmp_path: Path
) -> None:
    command = ["decode", str(stream.path), "--task", "vehicles", "--steps", "2", "-o"]
    torch.set_num_threads(1)
    discover(*command, tmp_path / "own")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "discover_stream.app.cli", *command, str(tmp_path / "other")]
    subprocess.run(program, check=True, env=environment, capture_output=True, timeout=300)
    torch.set_num_threads(2)
    discover(*command, tmp_path / "two")
    own, other, two = (read_pictures(tmp_path / name) for name in ("own", "other", "two"))
    assert len(own) == 3
    for one, same, near in zip(own, other, two, strict=True):
        assert (one == same).all()
        assert psnr(one, near) >= 60


CONFIG = """
log: {{path: {folder}/log.db}}
tasks: [vehicles, pedestrians]
cameras: [{{name: mast, source: {folder}/clip.mkv}}]
"""


@pytest.fixture(scope="module")
def recorded(stream: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose log holds the stream's frames in still mode: archive, and what the router sent."""
    folder = tmp_path_factory.mktemp("still")
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder))
    config = load_config(path)
    names = ("vehicles", "pedestrians")
    with SqliteLog(config.log.path) as log:
        log.create_topics(catalogue(names, catalogue_settings(config.log)))
        for name in names:
            labels = LabelSet(name, 1, tuple(f"{name} {number}" for number in range(100)))
            for key in (f"{name}/1", name):
                log.append(LABELS, key, encode(LabelSetMessage.of(Task(name, "", labels))))
        for packet in stream.packets:
            log.append(ARCHIVE, "mast", packet_bytes(packet), partition=partition_for("mast", 4))
            part = packet_bytes(route(packet, {task_key("vehicles", 1)}))
            log.append(task_topic("vehicles"), "mast", part, partition=partition_for("mast", 4))
    return path


def test_replay_and_subscribe_tell_it_and_show_what_decode_shows(
    recorded: Path, stream: Any, discover: Any, read_pictures: Any, tmp_path: Path
) -> None:
    discover("decode", stream.path, "--task", "vehicles", "-o", tmp_path / "d")
    out = discover("replay", "mast", "-c", recorded, "-t", "vehicles", "-o", tmp_path / "r", "--json")
    *frames, last = (json.loads(line) for line in out.splitlines())
    assert last["summary"]["frames"] == len(frames) == 3
    begin = ("subscribe", "vehicles", "-c", recorded, "--from", "earliest", "--max", 3, "--json")
    lines = [json.loads(line) for line in discover(*begin, "--save", tmp_path / "s").splitlines()]
    for replayed, line in zip(frames, lines, strict=True):
        assert {key: line[key] for key in replayed} == replayed
        assert len(line["regions"]) == 3
    assert "invention" not in json.loads(discover(*begin).splitlines()[0])  # nothing was decoded
    pictures = [read_pictures(tmp_path / name) for name in ("d", "r", "s/mast")]
    for decoded, replayed, saved in zip(*pictures, strict=True):
        assert (decoded == replayed).all()
        assert int(np.abs(decoded.astype(int) - saved).max()) <= 1  # decoded one by one


def test_subscribers_get_it_with_every_picture(recorded: Path) -> None:
    url = load_config(recorded).log.url
    with subscribe("vehicles", log=url, timeout_s=0, pictures=LocalPictures()) as subscription:
        items = [(item, item.decoded()) for item in subscription if isinstance(item, TaskFrame)]
    assert len(items) == 3
    for item, decoded in items:
        assert decoded.provenance.shape == (6, 10)
        assert (decoded.camera, decoded.seq) == (item.camera, item.seq)
        assert decoded.invention is not None
        assert 0 <= decoded.invention <= 1
        assert set(decoded.changed) == {"sent", "generated"}
        assert sum(decoded.shares().values()) == pytest.approx(1)
    last, picture = items[-1]
    assert (last.image() == picture.image).all()  # nothing changed since
