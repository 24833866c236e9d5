"""The demo: what it runs on, what it measures, what it shows, and once all of it on the real system."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import yaml
from rich.console import Console

from discover_stream.app.demo_figures import (
    ALL,
    Received,
    add_sizes,
    figures_table,
    row_texts,
    stream_seconds,
    task_figures,
)
from discover_stream.app.demo_log import demo_log, how_to_remove
from discover_stream.app.demo_pictures import Moment, evenly, film_rows, sheet_rows
from discover_stream.app.demo_plan import (
    MAX_SIDE,
    Files,
    camera_name,
    cut_clip,
    demo_config,
    fit_inside,
    plan_cameras,
    simulated,
    write_config,
)
from discover_stream.app.demo_report import Timing, render_report
from discover_stream.app.demo_run import packets_for
from discover_stream.app.demo_show import Shown, make_report
from discover_stream.codec.any_packet import parse_any
from discover_stream.codec.packet import (
    Packet,
    PacketAtom,
    PacketRegion,
    packet_bytes,
    packet_size,
    task_key,
)
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.config import load_config, parse_config
from discover_stream.decoding import DecodedFrame, packet_regions
from discover_stream.semantics.labels import load_task
from discover_stream.types import Box, Image, InputError, Provenance
from discover_stream.video.sink import open_sink
from discover_stream.video.source import open_source
from topics import open_log
from topics.catalogue import task_topic
from topics.reading import read_all

VEHICLES = load_task("vehicles")
KEY = task_key("vehicles", VEHICLES.label_set.version)
SECOND = 10**9
NOW = datetime(2026, 11, 20, 12, 7, 35, 123_999)


def packet(seq: int = 0, *, capture_ns: int = 0, size: tuple[int, int] = (64, 48), atom: int = 100) -> Packet:
    """A well-formed packet whose atom has `atom` bytes; nobody decodes it."""
    region = PacketRegion(Box(0, 0, 16, 16), 40, 7, ((0, 3),))
    return Packet(
        b"abc", 4, seq, 0, capture_ns, *size, (KEY,), (region,), b"c" * 30, (PacketAtom((0,), b"a" * atom),)
    )  # fmt: skip


def received(camera: str, *packets: Packet) -> list[Received]:
    return [
        Received(camera, len(packet_bytes(item)), item, item.capture_ns, len(item.regions), item.width, item.height)
        for item in packets
    ]


def picture(width: int, height: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---- figures ----


def test_every_byte_is_counted_once() -> None:
    items = received("a", packet(0), packet(1, capture_ns=SECOND, atom=333)) + received("b", packet(0, size=(80, 32)))
    line = task_figures("vehicles", items)
    assert line.size.total == sum(item.size for item in items)
    assert line.size.atoms == 100 + 333 + 100
    assert line.size.coarse == 3 * 30
    assert line.regions == 3
    assert line.bpp == pytest.approx(8 * line.size.total / (64 * 48 * 2 + 80 * 32))


def test_rate_is_of_stream_time_and_adds_up_over_cameras() -> None:
    # Two frames half a second apart last one second: 2 frames/s.
    one = received("a", packet(0), packet(1, capture_ns=SECOND // 2))
    other = received("b", *(packet(seq, capture_ns=seq * SECOND // 10) for seq in range(10)))
    expected = 8 * sum(item.size for item in one) / 1000 + 8 * sum(item.size for item in other) / 1000
    assert task_figures("x", one + other).kbps == pytest.approx(expected)


def test_duration_of_a_stream() -> None:
    assert stream_seconds([]) == 0
    assert stream_seconds(received("a", packet())) == 1
    assert stream_seconds(
        received("a", *(packet(n, capture_ns=5 + n * SECOND // 4) for n in range(8)))
    ) == pytest.approx(2)


def test_nothing_received_is_zero_and_not_an_error() -> None:
    line = task_figures("x", [])
    assert (line.frames, line.size.total, line.kbps, line.bpp) == (0, 0, 0, 0)
    assert line.share_of(line) == 0
    assert row_texts(line, line)["decode"] == "-"


def test_parts_add_up() -> None:
    sizes = [packet_size(packet(atom=size)) for size in (1, 200, 3000)]
    assert add_sizes(sizes).total == sum(size.total for size in sizes)


def test_table_shows_every_task_on_a_narrow_terminal() -> None:
    whole = task_figures(ALL, received("a", packet(atom=1000)), decode_ms=12, sent_cells=6)
    part = task_figures("pedestrians", received("a", packet(atom=1)), decode_ms=7, sent_cells=3)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(figures_table([part, whole], "title"))
    text = console.export_text()
    assert "pedestrians" in text
    assert f"{part.size.total / whole.size.total:.0%}" in text
    assert "50%" in text  # 6 of 12 cells


# ---- what it runs on ----


def test_simulated_cameras_end_after_their_frames(tmp_path: Path) -> None:
    camera = simulated("road", 3, (64, 48), seconds=0.7, fps=3)
    with open_source(camera.source, camera=camera.name) as source:
        frames = list(source)
    assert len(frames) == camera.frames == 2


def test_clip_is_cut_losslessly(tmp_path: Path) -> None:
    pictures = [picture(48, 32, seed) for seed in range(10)]
    clip = tmp_path / "My Clip (1).mkv"
    with open_sink(clip, fps=10) as sink:
        for image in pictures:
            sink.write(image)
    camera = cut_clip(str(clip), tmp_path / "cut.mkv", seconds=0.6, fps=5)
    with open_source(camera.source, camera="c") as source:
        images = [frame.image for frame in source]
    assert camera.name == "my-clip-1"
    assert len(images) == camera.frames == 3
    for image, index in zip(images, (0, 2, 4), strict=True):
        np.testing.assert_array_equal(image, pictures[index])


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (1000, 10), (900, 1200)])
def test_any_size_of_clip(tmp_path: Path, size: tuple[int, int]) -> None:
    still = tmp_path / "still.png"
    PIL.Image.fromarray(picture(*size)).save(still)
    camera = cut_clip(str(still), tmp_path / "cut.mkv", seconds=1, fps=3)
    with open_source(camera.source, camera="c") as source:
        (frame,) = list(source)
    assert max(frame.image.shape[:2]) == min(max(size), MAX_SIDE)


def test_scaling_keeps_the_shape_and_leaves_small_pictures_alone() -> None:
    small = picture(MAX_SIDE, 20)
    assert fit_inside(small, MAX_SIDE) is small
    assert fit_inside(picture(4096, 2160), MAX_SIDE).shape == (405, MAX_SIDE, 3)
    assert fit_inside(picture(4000, 1), MAX_SIDE).shape == (1, MAX_SIDE, 3)


def test_unusable_clips_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(b"no film at all" * 50)
    for name in ("empty.mp4", "noise.mp4", "absent.mp4"):
        with pytest.raises(InputError) as caught:
            cut_clip(str(tmp_path / name), tmp_path / "cut.mkv", seconds=1, fps=3)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "cut.mkv").exists()


@pytest.mark.parametrize(
    ("video", "name"),
    [("a/Suburb_01.mp4", "suburb-01"), ("???.mp4", "clip"), ("x" * 60, "x" * 40), ("road-west.mp4", "clip")],
)
def test_names_of_cameras(video: str, name: str) -> None:
    assert camera_name(video) == name


def test_folder_is_cleared_of_an_earlier_demo_only(tmp_path: Path) -> None:
    files = Files(tmp_path / "out" / "demo")
    with files.taken():
        for path in (files.log, files.report, files.folder / "log.db-wal", files.folder / "mine.txt"):
            path.write_text("old")
    with files.taken():
        assert {path.name for path in files.folder.iterdir()} == {"mine.txt", "demo.lock"}
    with pytest.raises(InputError, match="this is a file"), Files(files.folder / "mine.txt").taken():
        pass


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with files.taken():
        files.log.write_text("of the first")
        with pytest.raises(InputError, match="another demo"), files.taken():
            pass
        assert files.log.read_text() == "of the first"
    with files.taken():
        pass


def test_configuration_keeps_what_the_user_chose(tmp_path: Path) -> None:
    base = parse_config("cameras: [{name: a, source: x}]\nquality: 7\ntasks: [pedestrians]", "test")
    files = Files(tmp_path)
    cameras = plan_cameras(None, 1, 2, files)
    config = demo_config(base, cameras, demo_log(base.log, files, 2, NOW), decoders=2)
    assert (config.quality, [task.task for task in config.tasks], config.pools.decode) == (7, ["pedestrians"], 2)
    assert [camera.name for camera in config.cameras] == [camera.name for camera in cameras]
    assert config.log.path.is_absolute()
    write_config(config, files.config)
    assert load_config(files.config) == config


def test_on_brokers_the_demo_has_topics_of_its_own(tmp_path: Path) -> None:
    base = parse_config(
        "cameras: [{name: a, source: x}]\n"
        "log: {kafka: {brokers: ['b:9092'], prefix: lab., replication: 3, tls: {ca: ca.pem}}, partitions: 16}",
        "test",
    )
    files = Files(tmp_path)
    log = demo_log(base.log.anchored(tmp_path), files, 2, NOW)
    config = demo_config(base, plan_cameras(None, 1, 2, files), log, decoders=1)
    assert config.log.partitions == 2
    assert config.log.url == (
        f"kafka:b:9092?prefix=lab.demo-261120-120735-123.&replication=3&tls=yes&ca={tmp_path}/ca.pem"
    )
    write_config(config, files.config)
    assert load_config(files.config) == config
    assert how_to_remove(config.log).endswith(
        r"--bootstrap-server b:9092 --delete --topic 'lab\.demo-261120-120735-123\..*'"
    )


def test_the_demo_waits_for_what_each_task_is_sent() -> None:
    vehicles, others = load_task("vehicles"), load_task("pedestrians")
    key = task_key("vehicles", vehicles.label_set.version)
    packets = [
        item
        for n in range(3)
        for item in received("a", replace(packet(n), tasks=(key,) if n else (), regions=(), atoms=()))
    ]
    assert packets_for(vehicles, packets) == 2
    assert packets_for(others, packets) == 0


# ---- what it shows ----


def moment(camera: str, seq: int, size: tuple[int, int] = (64, 48)) -> Moment:
    image = picture(*size, seed=seq)
    cells = np.full((-(-size[1] // 16), -(-size[0] // 16)), Provenance.GENERATED, np.uint8)
    cells[0, 0] = Provenance.SENT
    decoded = DecodedFrame(camera, seq, 0, image, cells, packet_regions(packet(seq, size=size)))
    return Moment(camera, seq, image, {"vehicles": decoded, ALL: decoded})


def test_film_goes_on_while_any_camera_does() -> None:
    cameras = {"a": [moment("a", n) for n in range(3)], "b": [moment("b", 10)]}
    frames = list(film_rows(cameras, VEHICLES))
    assert len(frames) == 3
    for index, rows in enumerate(frames):
        np.testing.assert_array_equal(rows[0][0], cameras["a"][index].original)
        np.testing.assert_array_equal(rows[1][0], cameras["b"][0].original)
        assert [len(row) for row in rows] == [4, 4]


def test_wide_pictures_are_scaled_to_the_panel() -> None:
    (row,) = sheet_rows([moment("a", 0, (1000, 500))], ["vehicles"])
    assert {panel.shape for panel in row} == {(240, 480, 3)}


def test_moments_are_spread_evenly() -> None:
    assert evenly(0, 3) == []
    assert evenly(2, 3) == [0, 1]
    assert evenly(18, 3) == [3, 9, 15]


def report_page(camera: str = "a") -> str:
    cameras = (replace(simulated("a", 1, (64, 48), 1, 2), name=camera),)
    part = task_figures("vehicles", received(camera, packet(atom=50)), decode_ms=4, sent_cells=1)
    whole = task_figures(ALL, received(camera, packet(atom=500)), decode_ms=5, sent_cells=1)
    shown = Shown((VEHICLES,), cameras, (part, whole), {camera: [moment(camera, 0)]}, 2.0, "abc123", "sqlite:log.db")
    return render_report(make_report(shown, Files(Path("demo")), [Timing("stream", 2.5)], [Timing("encode", 1)]))


def test_report_needs_nothing_beside_it() -> None:
    page = report_page()
    sources = re.findall(r"""src=["']([^"']*)""", page)
    assert len(sources) == 4
    for source in sources:
        kind, data = source.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        with PIL.Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (64, 48)
    rest = page
    for source in sources:
        rest = rest.replace(source, "")
    assert not re.search(r"https?:|url\(|@import|<script|<link", rest)


def test_report_says_what_was_measured() -> None:
    page = report_page()
    whole = task_figures(ALL, received("a", packet(atom=500)))
    part = task_figures("vehicles", received("a", packet(atom=50)))
    assert f"{whole.size.total:,} bytes" in page
    assert f"<td>{part.kbps:.1f}</td>" in page
    assert f"<td>{part.share_of(whole):.0%}</td>" in page
    assert "Generated cells are not evidence" in page
    assert "prefers-color-scheme: dark" in page


def test_report_escapes_names() -> None:
    page = report_page("<img onerror=alert(1)>")
    assert "<img onerror" not in page
    assert "&lt;img onerror" in page


# ---- all of it ----


@pytest.mark.slow
def test_whole_demo_on_the_real_system(tmp_path: Path) -> None:
    base = load_config()
    content = base.model_dump(mode="json") | {"tasks": ["vehicles"], "quality": 1}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    clip = tmp_path / "clip.mkv"
    with (
        open_sink(clip, fps=2) as sink,
        open_source("sim://road?seed=5&width=96&height=64&fps=2", camera="c") as source,
    ):
        for _, frame in zip(range(2), source, strict=False):
            sink.write(frame.image)
    files = Files(tmp_path / "out")
    command = [sys.executable, "-m", "discover_stream.app.cli", "demo", "--video", str(clip), "--seconds", "1"]
    command += ["--fps", "2", "--config", str(tmp_path / "mine.yaml"), "--out", str(files.folder)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]

    with open_log(load_config(files.config).log.url) as log:
        sent = [record for record in read_all(log, task_topic("vehicles")) if record.value is not None]
    # Two frames of each camera; the report's figures are exactly those of the records in the task's topic.
    assert sorted(record.key for record in sent if record.key) == ["clip", "clip", "road-west", "road-west"]
    # Two frames, half a second apart, last a second.
    kbps = sum(len(record.value or b"") for record in sent) * 8 / 1000
    assert re.search(rf"^\s*vehicles\s+4\s+{kbps:.1f}\s", ran.stdout, re.MULTILINE), ran.stdout
    assert all(isinstance(parse_any(record.value or b""), StreamPacket) for record in sent)
    report = files.report.read_text()
    assert f"<td>{kbps:.1f}</td>" in report
    assert "stream mode" in report
    with open_source(str(files.film), camera="film") as film:
        assert len(list(film)) == 2
    with PIL.Image.open(files.sheet) as sheet:
        assert sheet.width > 3 * 96
