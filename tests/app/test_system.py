"""run, subscribe and replay as commands; what processes do under them is in tests/actors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from actors.encode import EncodeSettings, EncodeStage
from actors.ingest import IngestStage
from actors.registry import load_tasks, register
from actors.route import RouteStage
from actors.system import catalogue_settings
from discover_stream.app.decode_report import DecodeReport
from discover_stream.app.moments import iso, parse_moment
from discover_stream.app.replay import Replayed, frame_rate, with_gaps
from discover_stream.codec.model import load_codec
from discover_stream.config import load_config
from discover_stream.types import Box, InputError, Region
from discover_stream.video.simulate import SimulatedCamera
from discover_stream.video.sink import open_sink
from topics.catalogue import ARCHIVE, FRAMES, catalogue
from topics.log import lag
from topics.messages import GapMessage
from topics.partitioner import partition_for
from topics.sqlite import SqliteLog

BEGIN_NS = 1_767_225_600 * 10**9
CONFIG = """
log: {{path: {folder}/log.db}}
tasks: [vehicles, pedestrians]
cameras:
- {{name: gate, source: {folder}/clip.mkv, starts_at: 2026-01-01T00:00:00Z}}
"""


def ground(images, label_sets):
    """A box for vehicles from the third frame on; pedestrians have none."""
    found = [{s.task: (Region(0, 0.9, Box(8, 8, 40, 30)),) if s.task == "vehicles" else () for s in label_sets}]
    return lambda: found * len(images)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose log has 8 frames at 5 frames a second, made by the stages themselves."""
    folder = tmp_path_factory.mktemp("recorded")
    with open_sink(folder / "clip.mkv", fps=5) as sink:
        for seq in range(8):
            sink.write(SimulatedCamera("gate", width=64, height=48, fps=5, seed=3).render(seq)[0].image)
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder))
    config = load_config(path)
    partition = partition_for("gate", 4)
    with SqliteLog(config.log.path) as log:
        log.create_topics(catalogue(["vehicles", "pedestrians"], catalogue_settings(config.log)))
        # Only pedestrians at first: vehicles are not grounded in the first half.
        for tasks, most in ((["pedestrians"], 4), (["pedestrians", "vehicles"], 8)):
            register(log, load_tasks(tasks), 4, "test")
            work(log, config.cameras[0], partition, most)
    return path


def work(log: SqliteLog, camera, partition: int, most: int) -> None:
    """Run the three stages in turn until `most` frames are routed."""
    import threading
    import time

    settings = EncodeSettings(quality=4, batch=1)
    stages = (
        (IngestStage(log, camera, partition, max_lag=most, owner="test"), lambda: True),
        (EncodeStage(log, partition, load_codec(), ground, settings, "test"), lambda: not behind("encode", FRAMES)),
        (RouteStage(log, partition, "test"), lambda: not behind("route", ARCHIVE)),
    )

    def behind(stage: str, topic: str) -> int:
        return lag(log, f"stage:{stage}-{partition}", topic, [partition])[partition]

    ingest = stages[0][0]
    wanted = log.bounds(FRAMES, partition).end
    for stage, idle in stages:
        thread = threading.Thread(target=stage.run)
        thread.start()
        if stage is ingest:
            wanted = min(most, 9)
            while log.bounds(FRAMES, partition).end < wanted:
                time.sleep(0.01)
        while not idle():
            time.sleep(0.01)
        stage.stop()
        thread.join()


def test_subscribe_prints_a_line_per_packet(recorded: Path, discover) -> None:
    out = discover("subscribe", "pedestrians", "-c", recorded, "--from", "earliest", "--max", 8)
    assert [re.findall(r"gate seq (\d+) incarnation", line) for line in out.splitlines()] == [
        [str(s)] for s in range(8)
    ]
    assert out.startswith("2026-01-01T00:00:00.000Z gate seq 0")
    assert "nothing" in out


def test_subscribe_goes_on_with_its_group(recorded: Path, discover) -> None:
    arguments = ("subscribe", "pedestrians", "-c", recorded, "--from", "earliest", "--group", "g", "--json")
    first = [json.loads(line) for line in discover(*arguments, "--max", 3).splitlines()]
    second = [json.loads(line) for line in discover(*arguments, "--max", 5).splitlines()]
    assert [line["seq"] for line in first + second] == list(range(8))


def test_subscribe_tells_what_was_found(recorded: Path, discover) -> None:
    out = discover("subscribe", "vehicles", "-c", recorded, "--from", "earliest", "--json", "--max", 1)
    line = json.loads(out)
    (region,) = line["regions"]
    assert (region["label"], region["box"]) == ("car", [8, 8, 40, 30])
    assert line["seq"] >= 4
    assert line["bytes"] > 0
    assert line["capture_ns"] == BEGIN_NS + line["seq"] * 200_000_000


def test_subscribe_saves_pictures(recorded: Path, discover, tmp_path: Path, read_pictures) -> None:
    discover("subscribe", "pedestrians", "-c", recorded, "--from", "earliest", "--max", 2, "--save", tmp_path / "p")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names == ["p/gate/000000.png", "p/gate/000001.png"]
    assert read_pictures(tmp_path / "p" / "gate")[0].shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("span", "frames"),
    [
        ((), 8),
        (("--from", "+0.4s", "--to", "+1s"), 3),
        (("--from", "2026-01-01T00:00:00.3Z"), 7),  # with the one at 0.2 s, which shows this instant
        (("--from", str(BEGIN_NS // 10**9), "--to", "2026-01-01T00:00:00.200"), 1),
    ],
)
def test_replay_takes_times_as_people_write_them(
    recorded: Path, discover, tmp_path: Path, read_pictures, span, frames: int
) -> None:
    out = discover("replay", "gate", "-c", recorded, "-o", tmp_path / "r.mkv", "--no-generate", *span)
    assert f"{frames} frames" in out
    pictures = read_pictures(tmp_path / "r.mkv")
    assert len(pictures) == frames
    assert pictures[0].shape == (48, 64, 3)


def test_replay_of_a_task_starts_where_it_was_grounded(recorded: Path, discover, refused, tmp_path: Path) -> None:
    replay = ("replay", "gate", "-c", recorded, "--no-generate", "--task", "vehicles", "-o")
    out = discover(*replay, tmp_path / "later.mp4")
    assert "4 frames" in out
    assert "note: 4 frames are left out, task vehicles was not grounded then" in out
    line = refused(*replay, tmp_path / "before.mp4", "--to", "+0.5s")
    assert "task vehicles was not grounded before 2026-01-01T00:00:00.400Z" in line
    assert not (tmp_path / "before.mp4").exists()


def test_replay_tells_what_is_missing() -> None:
    report = DecodeReport(0.5)
    done = Replayed("a", "b", None, report)
    away = GapMessage(camera="gate", from_ns=BEGIN_NS, to_ns=BEGIN_NS + 10**9, reason="the cable", next_seq=3)
    assert with_gaps(done, ()) == done
    told = "from 2026-01-01T00:00:00.000Z to 2026-01-01T00:00:01.000Z frames are missing: the cable"
    assert with_gaps(done, (away,)) == Replayed("a", "b", told, report)
    assert with_gaps(Replayed("a", "b", "so", report), (away, away)).note == f"so; {told}, and 1 more gaps"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay", "alley", "-o", "x.mp4"), ["'alley' is not in the archive", "gate"]),
        (("replay", "gate", "-o", "x.mp4", "--from", "+99s"), ["no frames from", "+0s to +1.4s"]),
        (("replay", "gate", "-o", "x.mp4", "--from", "soon"), ["'soon'", "ISO 8601"]),
        (("replay", "gate", "-o", "x.mp4", "--task", "buses"), ["'buses'", "pedestrians, vehicles"]),
        (("replay", "gate", "-o", "x.xyz"), ["x.xyz"]),
        (("subscribe", "buses"), ["'buses' is not in this log"]),
        (("subscribe", "vehicles", "--from", "yesterday"), ["'yesterday'"]),
    ],
)
def test_mistakes_are_one_line(recorded: Path, refused, tmp_path: Path, monkeypatch, arguments, words) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(*arguments, "-c", recorded)
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("run",), ("subscribe", "vehicles"), ("replay", "gate", "-o", "x.mp4")])
def test_configurations_are_checked_first(refused, tmp_path: Path, monkeypatch, command) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("cameras: [{name: a, source: x}]\nqualty: 3\n")
    line = refused(*command, "--config", "c.yaml")
    assert "c.yaml" in line
    assert "unknown key 'qualty'; did you mean 'quality'" in line
    assert "cannot be read" in refused(*command, "--config", "none.yaml")


@pytest.mark.parametrize("command", [("subscribe", "vehicles"), ("replay", "gate", "-o", "x.mp4")])
def test_reading_never_makes_a_log(refused, tmp_path: Path, monkeypatch, command) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is none yet" in refused(*command)
    assert list(tmp_path.iterdir()) == []


def test_run_refuses_what_it_cannot_run(refused, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("cameras: [{name: a, source: x}]\ntasks: [bicycles]\n")
    assert "unknown task 'bicycles'" in refused("run", "-c", "c.yaml")
    (tmp_path / "d.yaml").write_text("cameras: [{name: a, source: x}]\nlog: {path: d.yaml}\n")
    assert "d.yaml" in refused("run", "-c", "d.yaml")
    assert (tmp_path / "d.yaml").read_text().startswith("cameras")


@pytest.mark.slow
def test_a_camera_that_cannot_be_read_is_the_last_word_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("cameras: [{name: a, source: missing.mp4}]\ntasks: [vehicles]\n")
    command = [sys.executable, "-m", "discover_stream.app.cli", "run", "-c", "c.yaml", "--until-idle"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "ingest-a-0: gave up" in ran.stdout
    assert ran.stderr.strip().splitlines()[-1].startswith("error: camera a: ")
    assert "missing.mp4" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("+0s", 1000),
        ("+12.5s", 12_500_001_000),
        ("+.25", 250_001_000),
        ("+2m", 120_000_001_000),
        ("+1h", 3_600_000_001_000),
        ("12.5", 12_500_000_000),
        ("1970-01-01T00:00:02+00:00", 2 * 10**9),
        ("1970-01-01T01:00:02+01:00", 2 * 10**9),
        ("1970-01-01 00:00:02", 2 * 10**9),
    ],
)
def test_moments(text: str, at_ns: int) -> None:
    assert parse_moment(text, 1000) == at_ns


@pytest.mark.parametrize("text", ["", "+", "-3s", "noon", "+1d", "2026-13-01"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(InputError, match="ISO 8601"):
        parse_moment(text, 0)


@pytest.mark.parametrize(
    "text", ["99999999999999", "+99999999h", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "1969-12-31"]
)
def test_moments_that_no_camera_saw_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="1970 to 2262"):
        parse_moment(text, 0)


def test_times_are_written_so_that_they_can_be_read() -> None:
    assert iso(BEGIN_NS + 123_456_789) == "2026-01-01T00:00:00.123Z"
    assert parse_moment(iso(BEGIN_NS), 0) == BEGIN_NS


def test_rates_of_films() -> None:
    assert frame_rate([0, 10**8, 2 * 10**8, 9 * 10**9]) == pytest.approx(10)
    assert frame_rate([5]) == 10
