"""inspect and extract on files of stream mode, through the command line."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from rich.console import Console
from stream_film import FRAMES, HEIGHT, WIDTH, film, painted_film

from discover_stream.app.inspection import inspect_stream, report_tables
from discover_stream.codec.any_packet import regions_only, route_any
from discover_stream.codec.container import DsvReader, DsvWriter, StreamInfo, StreamTask
from discover_stream.codec.packet import Packet
from discover_stream.codec.stream_coding import packet_sizes

TASKS = (StreamTask("vehicles", 1, ("car", "bus")), StreamTask("pedestrians", 1, ("person", "child")))
ORDER = sorted(TASKS, key=lambda task: task.key)
KEYS = (ORDER[0].key, ORDER[1].key)
INFO = StreamInfo("mast", WIDTH, HEIGHT, Fraction(10), b"abc", TASKS)
PACKETS = film(KEYS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "film.dsv"
    with DsvWriter(made, INFO) as writer:
        for packet in PACKETS:
            writer.write(packet)
    return made


def test_inspect_accounts_for_every_byte_and_record(path: Path, discover: Any, tmp_path: Path) -> None:
    report = json.loads(discover("inspect", path, "--json", "--frames"))
    assert (report["frames"], report["quality"], report["duration_s"]) == (FRAMES, None, pytest.approx(0.9))
    for name, task in report["tasks"].items():
        part = tmp_path / f"{name}.dsv"
        discover("extract", path, "--task", name, "-o", part)
        assert task["bytes"] == part.stat().st_size == sum(task["parts"].values())
        with DsvReader(part) as reader:
            packets = [record.packet for record in reader]
        assert packets == [route_any(packet, reader.info.keys.values()) for packet in PACKETS]
        bits = task["stream"]["bits"]
        assert sum(bits.values()) == 8 * (task["bytes"] - task["parts"]["container"])
        assert bits["key_payloads"] == sum(packet_sizes(packet).key_payloads for packet in packets)
        assert task["parts"]["plates"] == bits["plate_payloads"] // 8 == 200
    counts = {name: report["tasks"][name]["stream"]["records"] for name in (ORDER[0].name, ORDER[1].name, "all")}
    columns = {kind: [records[kind] for records in counts.values()] for kind in counts["all"]}
    assert columns == {
        "packets": [9, 9, 9],
        "quiet": [4, 2, 2],
        "lists": [2, 2, 2],
        "plates": [2, 2, 2],
        "bare_plates": [0, 0, 0],
        "keys": [2, 2, 3],
        "key_atoms": [1, 2, 2],
        "refreshes": [1, 1, 1],
        "moves": [3, 3, 4],
        "ends": [0, 1, 1],
        "sightings": [0, 1, 1],
        "gaps": [1, 1, 1],
    }
    assert [frame["seq"] for frame in report["per_frame"]] == list(range(FRAMES))
    assert all(frame["quality"] is None for frame in report["per_frame"])
    assert report["tasks"]["all"]["atoms"] == 3


def test_people_see_records_and_parts(path: Path) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=80)
    for table in report_tables(inspect_stream(path), per_frame=True):
        console.print(table)
    text = shown.getvalue()
    assert "…" not in text
    for words in ("stream mode", "refreshes", "plate payloads", "key payloads", "1700000000.800"):
        assert words in text
    assert "bare plates" not in text


def test_a_file_of_regions_only_has_no_pixels_but_all_times(tmp_path: Path, discover: Any) -> None:
    made = tmp_path / "bare.dsv"
    still = Packet(b"abc", 4, 20, 0, 1_700_000_002 * 10**9, WIDTH, HEIGHT, KEYS, (), b"", (), regions_only=True)
    with DsvWriter(made, INFO) as writer:
        for packet in PACKETS:
            writer.write(regions_only(packet))
        writer.write(still)
    report = json.loads(discover("inspect", made, "--json", "--frames"))
    whole = report["tasks"]["all"]
    assert (whole["parts"]["atoms"], whole["parts"]["plates"], whole["parts"]["coarse"]) == (0, 0, 0)
    assert (whole["stream"]["records"]["bare_plates"], whole["stream"]["records"]["keys"]) == (2, 3)
    assert report["duration_s"] == pytest.approx(2 * 10 / 9)
    assert "9packetsinstreammode" in "".join(discover("inspect", made).split())


def test_a_part_that_begins_after_its_plate_is_inspected_all_the_same(tmp_path: Path, discover: Any) -> None:
    made = tmp_path / "late.dsv"
    with DsvWriter(made, INFO) as writer:
        for packet in PACKETS[1:4]:
            writer.write(packet)
    report = json.loads(discover("inspect", made, "--json", "--frames"))
    assert [frame["capture_ns"] for frame in report["per_frame"]] == [None] * 3
    assert report["duration_s"] == pytest.approx(0.3)
    assert "–" in discover("inspect", made, "--frames")


def test_pictures_are_composed_from_the_tasks_asked_for(tmp_path: Path, discover: Any, refused: Any) -> None:
    made = tmp_path / "painted.dsv"
    with DsvWriter(made, INFO) as writer:
        for packet in painted_film(KEYS):
            writer.write(packet)
    for name, bus in (("all", 210), (ORDER[0].name, 60), (ORDER[1].name, 210)):
        discover("decode", made, "--task", name, "-o", tmp_path / name)
        pictures = [np.asarray(PIL.Image.open(file)) for file in sorted((tmp_path / name).iterdir())]
        assert len(pictures) == FRAMES
        assert pictures[0][16, 18].mean() == pytest.approx(150, abs=4)
        assert pictures[0][27, 40].mean() == pytest.approx(bus, abs=4)
        # After its end it is the plate again, a darker one.
        assert pictures[6][27, 40].mean() < 60
    bare = tmp_path / "bare.dsv"
    with DsvWriter(bare, INFO) as writer:
        writer.write(regions_only(PACKETS[0]))
    assert "regions only" in refused("decode", bare, "-o", tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


def test_a_damaged_picture_is_refused_at_its_place(path: Path, refused: Any, tmp_path: Path) -> None:
    told = refused("decode", path, "-o", tmp_path / "out.mkv")
    with DsvReader(path) as reader:
        first = next(iter(reader)).offset
    assert f"at byte {first}: camera mast, seq 0" in told
