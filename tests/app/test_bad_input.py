"""What users get wrong: one clear line, exit code 2, and nothing lost that was already written."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from discover_stream.app.cli import run
from discover_stream.app.outputs import counted
from discover_stream.codec.container import DsvReader, DsvRecord, DsvWriter, StreamInfo
from discover_stream.types import BitstreamError
from discover_stream.video.sink import open_sink

SIM = "sim://road?width=64&height=64&seconds=0.2"


def write_clip(path: Path, frames: int = 20) -> Path:
    random = np.random.default_rng(1)
    with open_sink(path, fps=10) as sink:
        for _ in range(frames):
            sink.write(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    return path


def damaged_copy(stream: Any, folder: Path, frame: int) -> Path:
    """The stream with one flipped bit in the packet of a frame."""
    with DsvReader(stream.path) as reader:
        offset = [record.offset + record.framing + 30 for record in reader][frame]
    data = bytearray(stream.path.read_bytes())
    data[offset] ^= 4
    path = folder / "damaged.dsv"
    path.write_bytes(data)
    return path


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """An older result, which bad input must not touch."""
    path = tmp_path / "kept.dsv"
    path.write_bytes(b"an older result")
    return path


def make_input(kind: str, folder: Path) -> Path:
    path = folder / kind
    match kind:
        case "empty.mp4" | "empty.png":
            path.touch()
        case "text.mp4" | "text.png" | "text.txt":
            path.write_text("this is not a picture\n" * 50)
        case "noise.mp4":
            path.write_bytes(os.urandom(5000))
        case "folder" | "sub.dsv":
            path.mkdir()
        case "cut.mp4":  # the index is at the end and is lost
            whole = write_clip(folder / "whole.mkv").read_bytes()
            path.write_bytes(whole[:300])
        case "cut.png":
            PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
            path.write_bytes(path.read_bytes()[:3000])
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "missing.mp4",
        "missing folder/x.png",
        "empty.mp4",
        "empty.png",
        "text.mp4",
        "text.png",
        "text.txt",
        "noise.mp4",
        "folder",
        "cut.mp4",
        "cut.png",
    ],
)
def test_inputs_that_cannot_be_read(kind: str, kept: Path, refused: Any, tmp_path: Path) -> None:
    path = make_input(kind, tmp_path)
    before = listing(tmp_path)
    assert str(path) in refused("encode", path, "-o", kept)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "uri", ["sim://sea", "sim://road?depth=3", "sim://road?seed=x", "ftp://host/film.mp4", "http://127.0.0.1:9/x"]
)
def test_addresses_that_cannot_be_read(uri: str, kept: Path, refused: Any) -> None:
    assert uri in refused("encode", uri, "-o", kept)
    assert kept.read_bytes() == b"an older result"


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--task", "trains"), "unknown task 'trains'; known tasks: everything, image-classification, instance"),
        (("--task", "nowhere.yaml"), "nowhere.yaml"),
        (("--quality", "9"), "--quality"),
        (("--quality", "high"), "--quality"),
        (("--fps", "0"), "give a number above 0"),
        (("--fps", "-1"), "give a number above 0"),
        (("--fps", "nan"), "give a number above 0"),
        (("--camera", ""), "not a name"),
        (("--speed", "3"), "No such option: --speed"),
    ],
)
def test_options_that_cannot_be_used(options: tuple[str, ...], cause: str, kept: Path, refused: Any) -> None:
    assert cause in refused("encode", SIM, "-o", kept, *options)
    assert kept.read_bytes() == b"an older result"


def test_one_name_for_two_tasks(kept: Path, refused: Any, tmp_path: Path) -> None:
    labels = "".join(f"  - car of kind {number}\n" for number in range(100))
    (tmp_path / "v.yaml").write_text(f"name: vehicles\ndescription: Cars.\nversion: 9\nlabels:\n{labels}")
    told = refused("encode", SIM, "--task", "vehicles", "--task", tmp_path / "v.yaml", "-o", kept)
    assert "task vehicles occurs twice" in told
    assert kept.read_bytes() == b"an older result"


@pytest.mark.parametrize("command", ["encode", "decode", "extract", "inspect", "fly"])
def test_arguments_that_are_missing(command: str, refused: Any) -> None:
    refused(command)


def test_a_command_and_an_output_have_to_be_given(stream: Any, refused: Any) -> None:
    assert "No such command 'fly'" in refused("fly")
    assert "--output" in refused("encode", SIM)
    assert "--output" in refused("decode", stream.path)
    assert "--task" in refused("extract", stream.path, "-o", "t.dsv")


@pytest.mark.parametrize("name", ["result.mp4", "result", "sub.dsv", "file/result.dsv"])
def test_outputs_of_encode_that_cannot_be_written(name: str, refused: Any, tmp_path: Path) -> None:
    make_input("sub.dsv", tmp_path)
    (tmp_path / "file").touch()
    before = listing(tmp_path)
    refused("encode", SIM, "-o", tmp_path / name)
    assert listing(tmp_path) == before


def test_an_output_is_never_the_input(stream: Any, refused: Any, tmp_path: Path) -> None:
    copy = tmp_path / "s.dsv"
    copy.write_bytes(stream.path.read_bytes())
    (tmp_path / "link.dsv").symlink_to(copy)
    for target in (copy, tmp_path / "link.dsv", tmp_path / "." / "s.dsv"):
        assert "the input itself" in refused("extract", copy, "--task", "vehicles", "-o", target)
        assert "the input itself" in refused("encode", copy, "-o", target)
        assert "the input itself" in refused("decode", copy, "-o", target)
    assert copy.read_bytes() == stream.path.read_bytes()


@pytest.mark.parametrize("name", ["out.gif", "out.dsv", "file/out.mp4"])
def test_outputs_of_decode_that_cannot_be_written(name: str, stream: Any, refused: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused("decode", stream.path, "-o", tmp_path / name)
    assert listing(tmp_path) == {"file": b""}


def test_one_png_cannot_hold_a_film(stream: Any, refused: Any, tmp_path: Path) -> None:
    refused("decode", stream.path, "--no-generate", "-o", tmp_path / "out.png")
    assert not listing(tmp_path)


def test_options_of_decode_that_cannot_be_used(stream: Any, refused: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    for options in (("--steps", "0"), ("--steps", "1000000"), ("--profile", "robot")):
        refused("decode", stream.path, "-o", out, *options)
    assert not listing(tmp_path)


def test_a_task_that_the_stream_does_not_hold(stream: Any, refused: Any, tmp_path: Path) -> None:
    for command, output in (("decode", "out.mp4"), ("extract", "out.dsv")):
        told = refused(command, stream.path, "--task", "boats", "-o", tmp_path / output)
        assert f"{stream.path}: unknown task 'boats'; known tasks: vehicles, pedestrians, trams" in told
    assert not listing(tmp_path)


@pytest.mark.parametrize("content", [b"", b"DS", b"DSV\x01", b"ftyp mp4 or what", b"DSV\x01\xff\xff\xff\xff\x7f"])
def test_files_that_are_no_streams(content: bytes, refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.dsv"
    path.write_bytes(content)
    kept = tmp_path / "kept.mkv"
    kept.write_bytes(b"older")
    assert str(path) in refused("inspect", path)
    assert str(path) in refused("decode", path, "-o", kept)
    assert str(path) in refused("extract", path, "--task", "vehicles", "-o", tmp_path / "t.dsv")
    assert listing(tmp_path) == {"s.dsv": content, "kept.mkv": b"older"}


def test_missing_streams(refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "none.dsv"
    for told in (
        refused("inspect", path),
        refused("decode", path, "-o", tmp_path / "o.mp4"),
        refused("extract", path, "--task", "vehicles", "-o", tmp_path / "t.dsv"),
    ):
        assert f"{path}: there is no such file" in told
    assert "directory" in refused("inspect", tmp_path)
    assert not listing(tmp_path)


def test_a_damaged_stream_gives_the_frames_before_the_damage(
    stream: Any, refused: Any, discover: Any, read_pictures: Any, tmp_path: Path
) -> None:
    path = damaged_copy(stream, tmp_path, frame=2)
    discover("decode", stream.path, "--no-generate", "-o", tmp_path / "good.mkv")
    good = read_pictures(tmp_path / "good.mkv")
    with DsvReader(stream.path) as reader:
        offset = [record.offset for record in reader][2]
    for name in ("out.mkv", "out"):
        told = refused("decode", path, "--no-generate", "-o", tmp_path / name)
        assert f"{path}: damaged at byte {offset}, after 2 good frames" in told
        assert "checksum" in told
        assert f"before it 2 frames went to {tmp_path / name}" in told
        pictures = read_pictures(tmp_path / name)
        assert len(pictures) == 2
        assert all((a == b).all() for a, b in zip(good, pictures, strict=False))
    told = refused("extract", path, "--task", "vehicles", "-o", tmp_path / "v.dsv")
    assert f"byte {offset}" in told
    assert "before it 2 frames went to" in told
    with DsvReader(tmp_path / "v.dsv") as reader:
        assert [record.packet.seq for record in reader] == [0, 1]
    assert f"byte {offset}" in refused("inspect", path)


def test_damage_in_the_first_frame_leaves_older_results_alone(stream: Any, refused: Any, tmp_path: Path) -> None:
    path = damaged_copy(stream, tmp_path, frame=0)
    for name in ("old.mkv", "old.dsv"):
        (tmp_path / name).write_bytes(b"older")
    before = listing(tmp_path)
    refused("decode", path, "-o", tmp_path / "old.mkv")
    refused("extract", path, "--task", "vehicles", "-o", tmp_path / "old.dsv")
    assert listing(tmp_path) == before


def test_a_stream_cut_between_frames_is_noticed(stream: Any, refused: Any, read_pictures: Any, tmp_path: Path) -> None:
    with DsvReader(stream.path) as reader:
        cut = [record.offset for record in reader][2]
    path = tmp_path / "cut.dsv"
    path.write_bytes(stream.path.read_bytes()[:cut])
    told = refused("decode", path, "--no-generate", "-o", tmp_path / "out.mkv")
    assert "the end record is missing" in told
    assert len(read_pictures(tmp_path / "out.mkv")) == 2


def test_a_stream_of_another_model_is_refused(stream: Any, refused: Any, tmp_path: Path) -> None:
    info = StreamInfo("mast", 160, 90, stream.info.fps, b"old", stream.info.tasks)
    path = tmp_path / "s.dsv"
    with DsvWriter(path, info) as writer:
        writer.write(dataclasses.replace(stream.packets[0], model=b"old"))
    told = refused("decode", path, "-o", tmp_path / "out.mkv")
    assert str(path) in told
    assert "made with model 6f6c64" in told
    assert set(listing(tmp_path)) == {"s.dsv"}


def test_a_stream_without_frames(stream: Any, refused: Any, discover: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.dsv"
    DsvWriter(path, stream.info).close()
    assert '"frames": 0' in discover("inspect", path, "--json")
    discover("inspect", path)
    discover("extract", path, "--task", "vehicles", "-o", tmp_path / "v.dsv")
    assert "holds no frames" in refused("decode", path, "-o", tmp_path / "out.mkv")
    assert set(listing(tmp_path)) == {"s.dsv", "v.dsv"}


def test_a_truncated_video_keeps_every_frame_that_was_read(refused: Any, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv").read_bytes()
    clip = tmp_path / "cut.mkv"
    clip.write_bytes(whole[: len(whole) // 2])
    path = tmp_path / "s.dsv"
    told = refused("encode", clip, "--task", "vehicles", "-o", path)
    assert str(clip) in told
    with DsvReader(path) as reader:
        frames = len(list(reader))
    assert 5 <= frames < 20
    assert f"; {frames} frames went to {path}" in told


def test_a_folder_with_a_bad_picture_and_one_of_another_size(refused: Any, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(32, 32), (32, 32), (48, 32), (32, 32)]):
        PIL.Image.new("RGB", size, (90, 90, 90)).save(folder / f"{number}.png")
    told = refused("encode", folder, "--task", "vehicles", "-o", tmp_path / "s.dsv")
    assert told.startswith(f"error: {folder}: ")
    assert "48x32 after 32x32" in told
    with DsvReader(tmp_path / "s.dsv") as reader:
        assert len(list(reader)) == 2
    (folder / "2.png").write_bytes(b"")
    told = refused("encode", folder, "--task", "vehicles", "-o", tmp_path / "s.dsv")
    assert "2.png" in told
    with DsvReader(tmp_path / "s.dsv") as reader:
        assert len(list(reader)) == 3


def test_a_full_disk(stream: Any, refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "full.dsv"
    path.symlink_to("/dev/full")
    assert f"{path}: it cannot be written (No space left on device)" in refused(
        "extract", stream.path, "--task", "vehicles", "-o", path
    )
    assert "No space left on device" in refused("encode", SIM, "--task", "vehicles", "-o", path)


@pytest.mark.slow
def test_ctrl_c_ends_an_endless_source_with_a_complete_stream(tmp_path: Path) -> None:
    path = tmp_path / "s.dsv"
    command = [sys.executable, "-m", "discover_stream.app.cli", "encode", "sim://road?width=64&height=64"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--task", "vehicles", "-o", path], stderr=subprocess.PIPE, text=True, env=environment
    )
    while not path.exists() or path.stat().st_size < 2000:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    with DsvReader(path) as reader:
        frames = len(list(reader))
    assert frames >= 1
    assert err == f"interrupted: {counted(frames, 'frame')} went to {path}\n"


@pytest.mark.parametrize("command", ["decode", "extract"])
def test_ctrl_c_keeps_the_frames_that_were_finished(
    command: str, stream: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = DsvReader.__iter__

    def two_and_ctrl_c(reader: DsvReader) -> Iterator[DsvRecord]:
        yield from itertools.islice(read(reader), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(DsvReader, "__iter__", two_and_ctrl_c)
    path = tmp_path / {"decode": "out.mkv", "extract": "out.dsv"}[command]
    options = ["--no-generate"] if command == "decode" else []
    assert run([command, str(stream.path), "--task", "vehicles", "-o", str(path), *options]) == 130
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"interrupted: 2 frames went to {path}\n")
    assert list(listing(tmp_path)) == [path.name]


def test_ctrl_c_before_a_command_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("discover_stream.app.cli.build_app", interrupted)
    assert run(["inspect", "s.dsv"]) == 130


def test_an_output_without_a_name(stream: Any, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("decode", "extract"):
        refused(command, stream.path, "--task", "vehicles", "-o", "")
    assert not listing(tmp_path)


def test_inspect_tells_how_to_save_what_is_good(stream: Any, refused: Any, tmp_path: Path) -> None:
    told = refused("inspect", damaged_copy(stream, tmp_path, frame=1))
    assert "extract --task all" in told
    assert "extract" not in refused("inspect", damaged_copy(stream, tmp_path, frame=0))


def test_a_process_of_its_own_says_the_same(stream: Any, tmp_path: Path) -> None:
    # Not in this process: what libraries print by themselves shows only here.
    path = damaged_copy(stream, tmp_path, frame=1)
    command = [sys.executable, "-m", "discover_stream.app.cli", "decode", path, "-o", tmp_path / "o.mp4"]
    result = subprocess.run(
        [*command, "--no-generate"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "o.mp4").stat().st_size > 0


def test_errors_of_one_type_for_all_damage(stream: Any, tmp_path: Path) -> None:
    """Random damage to a real stream: only ever a BitstreamError, and only good frames before it."""
    good = stream.path.read_bytes()
    random = np.random.default_rng(5)
    path = tmp_path / "s.dsv"
    for _ in range(200):
        data = bytearray(good)
        start = int(random.integers(len(data)))
        length = int(random.integers(1, 200))
        data[start : start + length] = random.bytes(int(random.integers(0, 200)))
        if bytes(data) == good:
            continue
        path.write_bytes(data)
        delivered = []
        with pytest.raises(BitstreamError), DsvReader(path) as reader:
            delivered.extend(record.packet for record in reader)
        assert tuple(delivered) == stream.packets[: len(delivered)]
