"""encode, decode, extract and inspect, end to end through the command line."""

import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hand_held import hand_held
from rich.console import Console

from discover_stream import __version__
from discover_stream.app.encode import camera_name, rational_rate
from discover_stream.app.inspection import inspect_stream, report_tables
from discover_stream.codec.atoms import cell_grid, cells_of
from discover_stream.codec.container import DsvReader
from discover_stream.codec.latent import decode_atom_mask
from discover_stream.codec.packet import packet_bytes, packet_size, parse_packet
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.types import InputError
from discover_stream.video.sink import open_sink
from discover_stream.video.source import open_source

PARTS = ("container", "header", "side_information", "coarse", "atoms", "framing", "plates")
TASKS = ("vehicles", "pedestrians", "trams")
BUILTIN = {"everything", "pedestrians", "vehicles"}


def packets_of(path: Path) -> list[Any]:
    with DsvReader(path) as reader:
        return [record.packet for record in reader]


def test_inspect_accounts_for_every_byte_of_every_task(stream: Any, discover: Any, tmp_path: Path) -> None:
    report = json.loads(discover("inspect", stream.path, "--json"))
    assert (report["width"], report["height"], report["fps"]) == (160, 90, 10.0)
    assert (report["frames"], report["quality"], report["camera"]) == (3, 5, "mast")
    assert report["duration_s"] == pytest.approx(0.3)
    assert list(report["tasks"]) == [*TASKS, "all"]
    assert report["tasks"]["all"]["bytes"] == stream.path.stat().st_size
    for name, task in report["tasks"].items():
        discover("extract", stream.path, "--task", name, "-o", tmp_path / f"{name}.dsv")
        assert task["bytes"] == (tmp_path / f"{name}.dsv").stat().st_size
        assert tuple(task["parts"]) == PARTS
        assert sum(task["parts"].values()) == task["bytes"]
        assert task["kbps"] == pytest.approx(task["bytes"] * 8 / 1000 / 0.3)
        assert task["bpp"] == pytest.approx(task["bytes"] * 8 / (3 * 160 * 90))
    # A task of which nothing was ever seen costs the coarse atoms and no others.
    trams = report["tasks"]["trams"]
    assert (trams["regions"], trams["atoms"], trams["parts"]["atoms"]) == (0, 0, 0)
    assert trams["parts"]["coarse"] == sum(len(packet.coarse) for packet in stream.packets)
    assert report["tasks"]["vehicles"]["regions"] == 9
    # The rider is one region of two tasks.
    assert report["tasks"]["all"]["regions"] == 12


def test_inspect_lists_frames(stream: Any, discover: Any, tmp_path: Path) -> None:
    report = json.loads(discover("inspect", stream.path, "--json", "--frames"))
    assert [frame["seq"] for frame in report["per_frame"]] == [0, 1, 2]
    discover("extract", stream.path, "--task", "vehicles", "-o", tmp_path / "v.dsv")
    with DsvReader(tmp_path / "v.dsv") as reader:
        sizes = [record.framing + len(record.data) for record in reader]
    assert [frame["tasks"]["vehicles"] for frame in report["per_frame"]] == sizes
    with DsvReader(stream.path) as reader:
        sizes = [record.framing + len(record.data) for record in reader]
    assert [frame["bytes"] for frame in report["per_frame"]] == sizes


def test_inspect_shows_people_the_same_figures(stream: Any, discover: Any) -> None:
    text = discover("inspect", stream.path, "--frames")
    assert f"{stream.path.stat().st_size:,}" in text
    for name in (*TASKS, "all", "side information", "capture time"):
        assert name in text


def test_inspect_can_be_read_on_a_terminal_of_80_columns(stream: Any) -> None:
    report = inspect_stream(stream.path)
    shown = io.StringIO()
    console = Console(file=shown, width=80)
    for table in report_tables(report, per_frame=True):
        console.print(table)
    text = shown.getvalue()
    assert "…" not in text
    whole = report.shares["all"]
    for size in (whole.size.total, whole.size.container, whole.size.side_information, whole.size.atoms):
        assert f" {size:,} " in text


def test_extract_copies_the_atoms_of_a_task_and_nothing_else(stream: Any, discover: Any, tmp_path: Path) -> None:
    rows, columns = cell_grid(160, 90)
    for name in TASKS:
        target = tmp_path / f"{name}.dsv"
        discover("extract", stream.path, "--task", name, "-o", target)
        with DsvReader(target) as reader:
            (task,) = reader.info.tasks
            assert task in stream.info.tasks
            assert task.name == name
        for whole, part, regions in zip(stream.packets, packets_of(target), stream.regions, strict=True):
            mine = whole.tasks.index(task.key)
            payloads = [atom.payload for atom in whole.atoms if mine in atom.tasks]
            assert [atom.payload for atom in part.atoms] == payloads
            assert part.coarse == whole.coarse
            # What a task gets is exactly the cells that its boxes touch, each once.
            covered = np.zeros((rows, columns), dtype=bool)
            for region in regions[name]:
                covered[cells_of(region.box, rows, columns)] = True
            received = sum(
                (decode_atom_mask(payload, rows, columns)[0].astype(int) for payload in payloads),
                start=np.zeros((rows, columns), dtype=int),
            )
            assert (received == covered).all()
            # Beyond its atoms it pays for header, regions, coarse atom and lengths only.
            size = packet_size(part)
            assert size.atoms == sum(map(len, payloads))
            assert size.coarse == len(whole.coarse)
            assert size.total == len(packet_bytes(part))
            assert size.header <= 16
            assert size.framing <= 3 * (2 + len(payloads))


def test_every_flip_of_a_byte_of_a_real_packet_is_refused(stream: Any, discover: Any, tmp_path: Path) -> None:
    discover("extract", stream.path, "--task", "pedestrians", "-o", tmp_path / "p.dsv")
    data = packet_bytes(packets_of(tmp_path / "p.dsv")[1])
    for offset in range(len(data)):
        for flip in (1, 16, 128, 255):
            damaged = data[:offset] + bytes((data[offset] ^ flip,)) + data[offset + 1 :]
            with pytest.raises(Exception, match="camera mast") as caught:
                parse_packet(damaged, camera="mast")
            assert type(caught.value).__name__ == "BitstreamError"


@pytest.mark.parametrize("options", [(), ("--no-generate",), ("--profile", "human", "--steps", "2")])
def test_a_task_looks_the_same_from_its_own_file(
    options: tuple[str, ...], stream: Any, discover: Any, read_pictures: Any, tmp_path: Path
) -> None:
    discover("extract", stream.path, "--task", "vehicles", "-o", tmp_path / "v.dsv")
    discover("decode", stream.path, "--task", "vehicles", "-o", tmp_path / "full.mkv", *options)
    discover("decode", tmp_path / "v.dsv", "-o", tmp_path / "own.mkv", *options)
    full, own = read_pictures(tmp_path / "full.mkv"), read_pictures(tmp_path / "own.mkv")
    assert len(full) == len(own) == 3
    for a, b in zip(full, own, strict=True):
        assert a.shape == (90, 160, 3)
        assert (a == b).all()


def test_several_tasks_are_the_union_of_their_atoms(
    stream: Any, discover: Any, read_pictures: Any, tmp_path: Path
) -> None:
    both = ("--task", "pedestrians", "--task", "vehicles")
    discover("extract", stream.path, *both, "-o", tmp_path / "two.dsv")
    for whole, part in zip(stream.packets, packets_of(tmp_path / "two.dsv"), strict=True):
        assert [atom.payload for atom in part.atoms] == [atom.payload for atom in whole.atoms]
        assert len(part.tasks) == 2
    for name, source, tasks in (
        ("a", stream.path, both),
        ("b", tmp_path / "two.dsv", ("--task", "all")),
        # No tram ever comes, so the other two tasks have all atoms.
        ("c", stream.path, ()),
    ):
        discover("decode", source, *tasks, "-o", f"{tmp_path / name}/", "--no-generate")
    pictures = [read_pictures(tmp_path / name) for name in "abc"]
    assert len(pictures[0]) == 3
    for three in zip(*pictures, strict=True):
        assert (three[0] == three[1]).all()
        assert (three[0] == three[2]).all()
    # The union is more than one of its parts.
    discover("decode", stream.path, "--task", "vehicles", "-o", tmp_path / "v", "--no-generate")
    assert any((a != b).any() for a, b in zip(pictures[0], read_pictures(tmp_path / "v"), strict=True))


def test_provenance_is_drawn_over_the_pictures(stream: Any, discover: Any, read_pictures: Any, tmp_path: Path) -> None:
    for name, option in (("plain", ()), ("shown", ("--provenance",))):
        discover("decode", stream.path, "--no-generate", "-o", tmp_path / f"{name}.mkv", *option)
    plain, shown = read_pictures(tmp_path / "plain.mkv"), read_pictures(tmp_path / "shown.mkv")
    assert [picture.shape for picture in plain] == [picture.shape for picture in shown]
    assert all((a != b).any() for a, b in zip(plain, shown, strict=True))


def test_extract_and_inspect_load_no_networks(stream: Any, tmp_path: Path) -> None:
    script = f"""
import sys
from discover_stream.app.cli import run
assert run(["extract", {str(stream.path)!r}, "--task", "vehicles", "-o", {str(tmp_path / "v.dsv")!r}]) == 0
assert run(["inspect", {str(tmp_path / "v.dsv")!r}, "--json"]) == 0
heavy = {{"torch", "ray", "cv2", "av", "diffusers"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_simulated_road_goes_through_all_commands(discover: Any, read_pictures: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.dsv"
    uri = "sim://road?width=160&height=96&fps=10&seconds=0.4&seed=3"
    told = discover("encode", uri, "-o", path, "--quality", 2, "--mode", "still")
    assert "4 frames" in told
    report = json.loads(discover("inspect", path, "--json"))
    assert (report["camera"], report["frames"], report["quality"]) == ("road", 4, 2)
    assert set(report["tasks"]) == BUILTIN | {"all"}
    assert report["tasks"]["all"]["bytes"] == path.stat().st_size
    first = path.read_bytes()
    discover("encode", uri, "-o", path, "--quality", 2, "--mode", "still")
    assert path.read_bytes() == first, "the same input and options have to give the same bytes"
    discover("encode", uri, "-o", path, "--task", "vehicles", "--fps", 5, "--camera", "B 7")
    report = json.loads(discover("inspect", path, "--json"))
    assert (report["camera"], report["frames"], report["fps"]) == ("B 7", 2, 5.0)
    assert report["duration_s"] == pytest.approx(0.4)
    assert set(report["tasks"]) == {"vehicles", "all"}
    discover("decode", path, "-o", tmp_path / "s.mp4")
    assert [picture.shape for picture in read_pictures(tmp_path / "s.mp4")] == [(96, 160, 3)] * 2


def test_a_fixed_camera_is_coded_in_stream_mode(discover: Any, read_pictures: Any, tmp_path: Path) -> None:
    uri = "sim://road?width=160&height=96&fps=10&seconds=1.2&seed=3"
    told = discover("encode", uri, "-o", tmp_path / "s.dsv", "--quality", 6)
    assert "note" not in told
    assert all(isinstance(packet, StreamPacket) for packet in packets_of(tmp_path / "s.dsv"))
    whole = json.loads(discover("inspect", tmp_path / "s.dsv", "--json"))
    assert whole["tasks"]["all"]["stream"]["records"]["packets"] == 12
    assert whole["duration_s"] == pytest.approx(1.2)
    discover("encode", uri, "-o", tmp_path / "slow.dsv", "--quality", 6, "--bitrate", 8)
    slow = json.loads(discover("inspect", tmp_path / "slow.dsv", "--json"))
    atoms = [share["tasks"]["all"]["parts"]["atoms"] for share in (whole, slow)]
    assert atoms[1] < 0.9 * atoms[0]
    discover("encode", uri, "-o", tmp_path / "still.dsv", "--quality", 6, "--mode", "still")
    assert not any(isinstance(packet, StreamPacket) for packet in packets_of(tmp_path / "still.dsv"))
    discover("decode", tmp_path / "s.dsv", "-o", tmp_path / "s.mkv")
    with open_source(uri, camera="x") as source:
        for frame, shown in zip(source, read_pictures(tmp_path / "s.mkv"), strict=True):
            assert np.abs(frame.image.astype(float) - shown).mean() < 12


def test_a_moving_camera_is_coded_in_still_mode_and_that_is_said(discover: Any, tmp_path: Path) -> None:
    with open_sink(tmp_path / "hand.mkv", fps=10) as sink:
        for seq in range(30):
            sink.write(hand_held(seq, 160, 96))
    told = discover("encode", tmp_path / "hand.mkv", "-o", tmp_path / "s.dsv", "--quality", 2, "--task", "vehicles")
    modes = [isinstance(packet, StreamPacket) for packet in packets_of(tmp_path / "s.dsv")]
    begun = modes.index(False)
    assert 0 < begun < 30
    assert modes == [True] * begun + [False] * (30 - begun)
    assert re.search(rf"note: seq {begun}: still mode, (the camera is hand-held|\d+ new scenes)", told)
    discover("inspect", tmp_path / "s.dsv", "--frames")
    discover("extract", tmp_path / "s.dsv", "--task", "vehicles", "-o", tmp_path / "v.dsv")
    discover("decode", tmp_path / "v.dsv", "-o", tmp_path / "v")
    assert len(list((tmp_path / "v").iterdir())) == 30


def test_a_task_file_names_a_task_of_its_own(discover: Any, tmp_path: Path) -> None:
    labels = "".join(f"  - car of kind {number}\n" for number in range(100))
    (tmp_path / "mine.yaml").write_text(f"name: mine\nversion: 7\ndescription: Cars.\nlabels:\n{labels}")
    uri = "sim://road?width=64&height=64&seconds=0.1"
    discover("encode", uri, "--task", tmp_path / "mine.yaml", "--task", "vehicles", "-o", tmp_path / "s.dsv")
    with DsvReader(tmp_path / "s.dsv") as reader:
        mine, vehicles = reader.info.tasks
    assert (mine.name, mine.version, len(mine.labels)) == ("mine", 7, 100)
    assert vehicles.name == "vehicles"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 33)])
def test_pictures_of_odd_sizes(width: int, height: int, discover: Any, read_pictures: Any, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    PIL.Image.fromarray(picture).save(tmp_path / "p.png")
    discover("encode", tmp_path / "p.png", "-o", tmp_path / "p.dsv")
    report = json.loads(discover("inspect", tmp_path / "p.dsv", "--json"))
    assert (report["width"], report["height"], report["frames"]) == (width, height, 1)
    assert report["duration_s"] is None
    assert report["tasks"]["all"]["kbps"] is None
    assert "–" in discover("inspect", tmp_path / "p.dsv")
    for name in ("out.png", "out.mkv", "out.mp4", "folder"):
        discover("decode", tmp_path / "p.dsv", "-o", tmp_path / name)
        (decoded,) = read_pictures(tmp_path / name)
        if name == "out.mp4":  # H.264 wants even sides
            assert decoded.shape == (height + height % 2, width + width % 2, 3)
        else:
            assert decoded.shape == picture.shape


@pytest.mark.slow
def test_a_large_picture(discover: Any, read_pictures: Any, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 4096, dtype=np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (2160, 4096, 3))
    PIL.Image.fromarray(np.ascontiguousarray(picture)).save(tmp_path / "p.png", compress_level=1)
    discover("encode", tmp_path / "p.png", "--task", "vehicles", "-o", tmp_path / "p.dsv", "--quality", 1)
    discover("decode", tmp_path / "p.dsv", "--no-generate", "-o", tmp_path / "out.png")
    (decoded,) = read_pictures(tmp_path / "out.png")
    assert decoded.shape == (2160, 4096, 3)


def test_a_folder_of_pictures(discover: Any, tmp_path: Path) -> None:
    folder = tmp_path / "street.d"
    folder.mkdir()
    for number in range(3):
        PIL.Image.new("RGB", (40, 24), (number * 80, 90, 90)).save(folder / f"{number}.png")
    discover("encode", folder, "--fps", 2, "-o", tmp_path / "s.dsv", "--task", "vehicles")
    report = json.loads(discover("inspect", tmp_path / "s.dsv", "--json"))
    assert (report["frames"], report["fps"], report["duration_s"]) == (3, 2.0, 1.5)


def test_a_real_clip(shared: Path, discover: Any, read_pictures: Any, tmp_path: Path) -> None:
    clip, path = shared / "video" / "suburb.mp4", tmp_path / "suburb.dsv"
    discover("encode", clip, "-o", path, "--fps", 0.1, "--quality", 3, "--mode", "still")
    report = json.loads(discover("inspect", path, "--json"))
    assert (report["camera"], report["width"], report["height"]) == ("suburb", 640, 352)
    assert report["frames"] == 4
    assert report["duration_s"] == pytest.approx(40, abs=1)
    assert set(report["tasks"]) == BUILTIN | {"all"}
    own = tmp_path / "vehicles.dsv"
    discover("extract", path, "--task", "vehicles", "-o", own)
    assert report["tasks"]["vehicles"]["bytes"] == own.stat().st_size
    for whole, part in zip(packets_of(path), packets_of(own), strict=True):
        wanted = Counter(atom.payload for atom in part.atoms)
        assert wanted <= Counter(atom.payload for atom in whole.atoms)
    discover("decode", path, "--task", "vehicles", "-o", tmp_path / "full")
    discover("decode", own, "-o", tmp_path / "own")
    for a, b in zip(read_pictures(tmp_path / "full"), read_pictures(tmp_path / "own"), strict=True):
        assert a.shape == (352, 640, 3)
        assert (a == b).all()


def test_the_program_says_its_version(discover: Any) -> None:
    assert discover("--version").strip() == f"discover-stream {__version__}"


def test_help_names_every_command(discover: Any) -> None:
    text = discover("--help")
    for command in ("encode", "decode", "extract", "inspect"):
        assert command in text
        assert "Usage" in discover(command, "--help")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("clips/north gate.mp4", "north gate"),
        ("/data/frames/", "frames"),
        ("sim://road?seed=3", "road"),
        ("rtsp://user:secret@host:554/live/cam2.sdp", "cam2"),
        ("rtsp://user:secret@host:554", "host"),
    ],
)
def test_cameras_are_named_after_their_source(source: str, name: str) -> None:
    assert camera_name(source) == name


def test_the_folder_one_stands_in_names_the_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yard").mkdir()
    monkeypatch.chdir(tmp_path / "yard")
    assert camera_name(".") == "yard"


def test_rates_are_written_as_fractions() -> None:
    make: Callable[[float], Fraction] = rational_rate
    assert make(30000 / 1001) == Fraction(30000, 1001)
    assert make(12.5) == Fraction(25, 2)
    with pytest.raises(InputError, match="higher rate"):
        make(1e-9)
