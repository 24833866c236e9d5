import av
import numpy as np
import pytest

from discover_stream.types import InputError
from discover_stream.video.sink import mp4_encoder, open_sink
from discover_stream.video.source import open_source


def noise(count, height, width):
    rng = np.random.default_rng(count + height + width)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 48)])
@pytest.mark.parametrize("name", ["out.mkv", "out", "out/"])
def test_lossless_round_trip(tmp_path, name, size):
    images = noise(4, size[1], size[0])
    with open_sink(f"{tmp_path}/{name}", fps=12.5) as sink:
        for image in images:
            sink.write(image)
    source = open_source(f"{tmp_path}/{name}", camera="c", fps=None)
    frames = list(source)
    assert len(frames) == 4
    assert all(np.array_equal(f.image, image) for f, image in zip(frames, images, strict=True))
    if name.endswith(".mkv"):
        assert source.fps == 12.5


def test_single_picture(tmp_path):
    (image,) = noise(1, 7, 5)
    with open_sink(tmp_path / "deep" / "one.png", fps=1) as sink:
        sink.write(image)
        with pytest.raises(InputError, match="one picture"):
            sink.write(image)
    (frame,) = open_source(tmp_path / "deep" / "one.png", camera="c")
    assert np.array_equal(frame.image, image)


def test_mp4_plays_in_browsers(tmp_path):
    ramp = np.linspace(0, 255, 33).astype(np.uint8)
    image = np.stack([np.tile(ramp, (17, 1))] * 3, axis=2)
    with open_sink(tmp_path / "a.mp4", fps=10) as sink:
        for _ in range(12):
            sink.write(image)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == (34, 18)
        assert stream.average_rate == 10
        assert stream.frames == 12
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    frames = list(open_source(tmp_path / "a.mp4", camera="c"))
    assert len(frames) == 12
    assert np.abs(frames[5].image[:17, :33].astype(int) - image).mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (4096, 2160)])
def test_mp4_of_any_size(tmp_path, size):
    with open_sink(tmp_path / "a.mp4", fps=29.97) as sink:
        sink.write(np.full((size[1], size[0], 3), 90, np.uint8))
    source = open_source(tmp_path / "a.mp4", camera="c")
    assert abs(source.fps - 29.97) < 0.01
    (frame,) = source
    assert frame.image.shape[0] - size[1] in (0, 1)
    assert abs(frame.image.mean() - 90) < 3


def test_mp4_keeps_colours(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :] = (200, 30, 90)
    with open_sink(tmp_path / "a.mp4", fps=10) as sink:
        sink.write(image)
    (frame,) = open_source(tmp_path / "a.mp4", camera="c")
    assert np.abs(frame.image.astype(int) - image).max() <= 6


def test_the_encoder_is_there():
    assert mp4_encoder()[0] in av.codecs_available


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.png", "folder"])
def test_nothing_under_the_final_name_before_close(tmp_path, name):
    target = tmp_path / name
    sink = open_sink(target, fps=5)
    sink.write(np.zeros((16, 16, 3), np.uint8))
    assert not target.exists()
    sink.close()
    assert target.exists()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    sink.close()


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.png", "folder"])
def test_an_exception_leaves_the_older_result_alone(tmp_path, name):
    target = tmp_path / name
    old, new = np.full((16, 16, 3), 250, np.uint8), np.zeros((16, 16, 3), np.uint8)
    with open_sink(target, fps=5) as sink:
        sink.write(old)

    def fail():
        with open_sink(target, fps=5) as sink:
            sink.write(new)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    (frame,) = open_source(target, camera="c")
    assert frame.image.mean() > 240
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_folder_gets_new_pictures_and_keeps_other_files(tmp_path):
    target = tmp_path / "folder"
    for count in (3, 2):
        with open_sink(target, fps=5) as sink:
            for image in noise(count, 8, 8):
                sink.write(image)
        (target / "notes.txt").write_text("keep me")
    assert sorted(p.name for p in target.iterdir()) == ["000000.png", "000001.png", "notes.txt"]


@pytest.mark.parametrize("name", ["out.mp4", "folder", "one.png"])
def test_no_pictures_no_file(tmp_path, name):
    sink = open_sink(tmp_path / name, fps=5)
    with pytest.raises(InputError, match="no picture was written"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


def test_refusals_name_path_and_remedy(tmp_path):
    (tmp_path / "file").write_text("x")
    for path, cause in (("clip.webm", ".webm"), ("file", "this is a file"), ("file/below.mp4", "written")):
        with pytest.raises(InputError, match=cause) as caught:
            open_sink(tmp_path / path, fps=5)
        assert str(tmp_path / path) in str(caught.value)
    with pytest.raises(InputError, match="frames a second"):
        open_sink(tmp_path / "a.mp4", fps=0)


def test_pictures_have_one_size(tmp_path):
    with open_sink(tmp_path / "a.mkv", fps=5) as sink:
        sink.write(np.zeros((16, 20, 3), np.uint8))
        with pytest.raises(InputError, match="20x18 follows 20x16"):
            sink.write(np.zeros((18, 20, 3), np.uint8))
        with pytest.raises(InputError, match=r"\(H, W, 3\)"):
            sink.write(np.zeros((16, 20), np.uint8))
