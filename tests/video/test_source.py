import shutil
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from discover_stream.types import InputError
from discover_stream.video.shots import Shot
from discover_stream.video.simulate import SimulatedCamera
from discover_stream.video.sink import open_sink
from discover_stream.video.source import Plan, Source, open_source
from discover_stream.video.stills import natural_key, read_image

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "video"


def pictures(count, height=48, width=64):
    """Pictures that can be told apart after lossy coding: one grey level each, with a gradient."""
    ramp = np.linspace(0, 20, width)[None, :, None]
    return [np.full((height, width, 3), 8 * i % 200, np.uint8) + ramp.astype(np.uint8) for i in range(count)]


def level(frame):
    return round(float(frame.image.mean() - 10) / 8)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """A lossless film of 24 frames at 24 fps."""
    path = tmp_path_factory.mktemp("film") / "clip.mkv"
    with open_sink(path, fps=24) as sink:
        for image in pictures(24):
            sink.write(image)
    return path


def test_film_frames_in_order_with_times(film):
    with open_source(film, camera="gate", start_ns=5_000) as source:
        assert (source.width, source.height, source.fps) == (64, 48, 24)
        frames = list(source)
    assert [f.seq for f in frames] == list(range(24))
    assert [level(f) for f in frames] == list(range(24))
    assert all(abs(f.capture_ns - 5_000 - f.seq * 1e9 / 24) < 1.1e6 for f in frames)
    assert all(f.camera == "gate" and f.image.dtype == np.uint8 for f in frames)
    assert source.problem is None
    assert source.gaps == ()


def test_fps_keeps_nearest_frames_and_resume_agrees(film):
    frames = list(open_source(film, camera="c", fps=10))
    assert [level(f) for f in frames] == [0, 2, 5, 7, 10, 12, 14, 17, 19, 22]
    assert [f.seq for f in frames] == list(range(10))
    resumed = list(open_source(film, camera="c", fps=10, start_seq=4))
    assert [(f.seq, f.capture_ns, level(f)) for f in resumed] == [(f.seq, f.capture_ns, level(f)) for f in frames[4:]]
    assert list(open_source(film, camera="c", start_seq=99)) == []


def test_faster_clock_than_the_film_makes_nothing_up(film):
    source = open_source(film, camera="c", fps=60)
    assert source.fps == 24
    assert len(list(source)) == 24


def test_closing_ends_the_iteration(film):
    source = open_source(film, camera="c")
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


@pytest.mark.parametrize("kind", ["film", "folder"])
def test_stopping_from_elsewhere_ends_the_iteration(film, tmp_path, kind):
    for index, image in enumerate(pictures(5)):
        PIL.Image.fromarray(image).save(tmp_path / f"{index}.png")
    with open_source(film if kind == "film" else tmp_path, camera="c") as source:
        next(source)
        source.stop()
        assert len(list(source)) <= 1


class ExclusiveFeed:
    """Notices when two threads are inside it at once, which FFmpeg's objects would not survive."""

    width, height, fps, problem = 8, 8, 10.0, None

    def __init__(self):
        self.inside, self.overlaps, self.stopped = 0, 0, False

    def work(self):
        self.inside += 1
        self.overlaps += self.inside > 1
        time.sleep(0.02)
        self.inside -= 1

    def shots(self):
        try:
            while not self.stopped:
                self.work()
                yield Shot(0, lambda: np.zeros((8, 8, 3), np.uint8))
        finally:
            self.work()

    def stop(self):
        self.stopped = True

    def close(self):
        self.stop()
        self.work()


def test_threads_take_turns_inside_a_feed():
    """Reading, and closing from two threads at the same moment: nothing is freed twice or under a reader."""
    feed = ExclusiveFeed()
    source = Source(feed, Plan("c", None, 0, 0))
    threads = [threading.Thread(target=lambda: [None for _ in source])]
    threads += [threading.Thread(target=source.close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert feed.overlaps == 0
    assert list(source) == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_truncated_film_keeps_what_can_be_read_and_says_so(tmp_path, suffix):
    rng = np.random.default_rng(0)
    whole = tmp_path / f"whole.{suffix}"
    with open_sink(whole, fps=10) as sink:
        for _ in range(40):
            sink.write(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    complete = list(open_source(whole, camera="c"))
    source = open_source(cut, camera="c")
    frames = list(source)
    assert 10 <= len(frames) < 30
    for frame, original in zip(frames[:-1], complete, strict=False):
        assert np.array_equal(frame.image, original.image)
    assert source.problem is not None
    assert "cut" in source.problem
    assert "ends early" in source.problem
    assert "\n" not in source.problem


def test_a_film_of_few_frames_a_second_does_not_lose_its_end_silently(tmp_path):
    rng = np.random.default_rng(0)
    whole = tmp_path / "whole.mkv"
    with open_sink(whole, fps=3) as sink:
        for _ in range(6):
            sink.write(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    source = open_source(cut, camera="c")
    assert 2 <= len(list(source)) < 6
    assert "ends early" in (source.problem or "")


def test_a_film_whose_clock_does_not_start_at_zero_is_complete(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgr0"
        for index in range(10):
            picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = 50 + index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = open_source(path, camera="c")
    assert len(list(source)) == 10
    assert source.problem is None


def test_a_damaged_middle_is_survived_and_reported(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "clip.mp4"
    with open_sink(path, fps=10) as sink:
        for _ in range(20):
            sink.write(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 9000] = rng.bytes(9000)
    path.write_bytes(bytes(data))
    source = open_source(path, camera="c")
    frames = list(source)
    assert len(frames) >= 10
    assert source.problem is not None
    assert "damaged" in source.problem


def test_film_without_its_index_is_refused(tmp_path):
    path = tmp_path / "clip.mp4"
    with open_sink(path, fps=10) as sink:
        for image in pictures(5):
            sink.write(image)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"clip\.mp4: .*; give a"):
        open_source(path, camera="c")


def _bad_inputs(folder: Path) -> dict[str, str]:
    (folder / "empty.mp4").touch()
    (folder / "empty.png").touch()
    (folder / "text.txt").write_text("no film " * 500)
    (folder / "text.mp4").write_text("no film " * 500)
    (folder / "text.png").write_text("no picture")
    (folder / "noise.avi").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "none").mkdir()
    (folder / "none" / "readme.txt").write_text("x")
    PIL.Image.new("RGB", (64, 64), (1, 2, 3)).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:60])
    return {
        "missing.mp4": "no such file",
        "missing.png": "no such file",
        "empty.mp4": "is empty",
        "empty.png": "is empty",
        "text.txt": "",
        "text.mp4": "not a video",
        "text.png": "not a picture",
        "noise.avi": "",
        "none": "no pictures",
        "cut.png": "cannot be decoded",
    }


def test_bad_files_give_one_line_with_path_cause_and_remedy(tmp_path):
    for name, cause in _bad_inputs(tmp_path).items():
        with pytest.raises(InputError) as caught:
            open_source(tmp_path / name, camera="c")
        message = str(caught.value)
        assert name in message
        assert cause in message
        assert "\n" not in message
        assert ";" in message, message


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("", "no path"),
        ("sim://lake", "no such simulated scene"),
        ("sim://road?sped=3", "unknown setting 'sped'"),
        ("sim://road?seed=three", "not a number"),
        ("sim://road?width=0", "cannot be rendered"),
        ("ftp://host/clip.mp4", "cannot be read"),
        ("rtsp://user:secret@127.0.0.1:1/live", "cannot be opened"),
        ("http://127.0.0.1:1/clip.mp4", "cannot be opened"),
    ],
)
def test_bad_addresses(uri, cause):
    with pytest.raises(InputError, match=cause) as caught:
        open_source(uri, camera="c")
    assert "secret" not in str(caught.value)


def test_bad_numbers(film):
    for wrong in ({"fps": 0.0}, {"fps": float("nan")}, {"start_seq": -1}):
        with pytest.raises(InputError, match=r"clip\.mkv"):
            open_source(film, camera="c", **wrong)


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (4096, 2160)])
def test_single_pictures_of_any_size(tmp_path, size):
    width, height = size
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / "p.png", compress_level=1)
    with open_source(tmp_path / "p.png", camera="c", fps=2) as source:
        frames = list(source)
    assert (source.width, source.height) == size
    assert [f.seq for f in frames] == [0]
    assert np.array_equal(frames[0].image, image)


def test_folder_in_natural_order_at_the_given_rate(tmp_path):
    images = pictures(12)
    for index, image in enumerate(images):
        PIL.Image.fromarray(image).save(tmp_path / f"shot{index}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = list(open_source(tmp_path, camera="c", fps=4, start_seq=2))
    assert [level(f) for f in frames] == list(range(2, 12))
    assert [f.capture_ns for f in frames] == [i * 250_000_000 for i in range(2, 12)]


def test_folder_leaves_out_damaged_pictures_and_says_so(tmp_path):
    for index, image in enumerate(pictures(4)):
        PIL.Image.fromarray(image).save(tmp_path / f"{index}.png")
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:50])
    source = open_source(tmp_path, camera="c")
    assert [level(f) for f in source] == [1, 3]
    assert source.problem is not None
    assert "2 pictures were left out" in source.problem
    assert "2.png" in source.problem


def test_grey_alpha_palette_and_deep_pictures_become_rgb(tmp_path):
    PIL.Image.new("L", (3, 2), 90).save(tmp_path / "grey.png")
    PIL.Image.new("RGBA", (3, 2), (200, 10, 10, 0)).save(tmp_path / "clear.png")
    PIL.Image.new("LA", (3, 2), (60, 255)).save(tmp_path / "la.png")
    PIL.Image.new("P", (3, 2), 0).save(tmp_path / "palette.png")
    PIL.Image.fromarray(np.full((2, 3), 257 * 90, np.uint16)).save(tmp_path / "deep.png")
    PIL.Image.new("CMYK", (3, 2), (0, 0, 0, 0)).save(tmp_path / "cmyk.jpg")
    expected = {"grey.png": 90, "clear.png": 255, "la.png": 60, "palette.png": 0, "deep.png": 90}
    for name, value in expected.items():
        image = read_image(tmp_path / name)
        assert image.shape == (2, 3, 3)
        assert image.dtype == np.uint8
        assert (image == value).all(), name
    assert read_image(tmp_path / "cmyk.jpg").min() > 250


def test_natural_order():
    names = ["f10.png", "f2.png", "F1.png", "a.png", "10.png", "9.png", "f2b.png"]
    assert sorted(names, key=natural_key) == [
        "9.png", "10.png", "a.png", "F1.png", "f2.png", "f2b.png", "f10.png",
    ]  # fmt: skip


def test_simulated_address_gives_the_simulated_frames():
    uri = "sim://road?seed=3&width=160&height=96&fps=5&seconds=2"
    source = open_source(uri, camera="c", start_ns=7)
    frames = list(source)
    simulated = SimulatedCamera("c", width=160, height=96, fps=5, seed=3, duration_s=2, start_ns=7)
    expected = [frame for frame, _ in simulated]
    assert (source.width, source.height, source.fps) == (160, 96, 5)
    assert [(f.seq, f.capture_ns) for f in frames] == [(f.seq, f.capture_ns) for f in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, expected, strict=True))
    resumed = list(open_source(uri, camera="c", start_seq=6))
    assert [f.seq for f in resumed] == [6, 7, 8, 9]
    assert np.array_equal(resumed[0].image, frames[6].image)
    slower = list(open_source(uri, camera="c", fps=2.5))
    assert [f.capture_ns for f in slower] == [i * 400_000_000 for i in range(5)]
    assert np.array_equal(slower[2].image, frames[4].image)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the optional clips in ../shared are absent")
@pytest.mark.parametrize("name", ["suburb.mp4", "motorway_fog.mp4", "motorway_low.avi", "crossing.mp4"])
def test_real_clips_are_read_whole_without_false_alarms(name):
    source = open_source(SHARED / name, camera="c", fps=5)
    frames = list(source)
    assert source.problem is None
    assert all(f.image.shape == (source.height, source.width, 3) for f in frames)
    span = (frames[-1].capture_ns - frames[0].capture_ns) / 1e9
    assert abs(len(frames) - (span * 5 + 1)) <= 1


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the optional clips in ../shared are absent")
def test_real_clip_cut_short(tmp_path):
    path = tmp_path / "suburb.mp4"
    shutil.copyfile(SHARED / "suburb.mp4", path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with av.open(str(SHARED / "suburb.mp4")) as whole:
        index_first = whole.streams.video[0].frames and data.index(b"moov") < data.index(b"mdat")
    if not index_first:
        with pytest.raises(InputError, match=r"suburb\.mp4"):
            open_source(path, camera="c", fps=2)
        return
    source = open_source(path, camera="c", fps=2)
    assert len(list(source)) > 5
    assert source.problem is not None
