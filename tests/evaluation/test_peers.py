"""The peers: sizes that count everything, pictures that come back in the right colours, decoding from bytes alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from discover_stream.codec.bits import BitReader
from discover_stream.evaluation.peers import colour
from discover_stream.evaluation.peers.crops import CropSettings, CropsPeer, read_actions, write_actions
from discover_stream.evaluation.peers.frozen import FrozenPeer, box_mask, frozen_frames, median_plate
from discover_stream.evaluation.peers.stills import StillPeer, StillSettings
from discover_stream.evaluation.peers.versions import peer_versions
from discover_stream.evaluation.peers.video import (
    IntraPeer,
    VideoPeer,
    VideoSettings,
    code_frames,
    command_line,
    decode_frames,
    without_supplement,
)
from discover_stream.evaluation.pictures import psnr
from discover_stream.evaluation.systems import Clip, System
from discover_stream.types import BitstreamError, Box, Image, InputError, Region

CODECS = ("x264", "x265", "svt-av1")
FINE = {
    "x264": VideoSettings(1, "medium"),
    "x265": VideoSettings(1, "medium"),
    "svt-av1": VideoSettings(1, "8", bits=10),
}
COARSE = {
    "x264": VideoSettings(36, "fast"),
    "x265": VideoSettings(36, "fast"),
    "svt-av1": VideoSettings(50, "10", bits=10),
}


def smooth_picture(height: int = 96, width: int = 128, seed: int = 0) -> Image:
    """Saturated colours without fine detail: what goes wrong with them is the conversion, not the codec."""
    corners = np.random.default_rng(seed).integers(50, 210, (2, 3, 3), dtype=np.uint8)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


@cache
def moving_clip(frames: int = 12) -> Clip:
    """A red and a blue square that cross a smooth background; regions are exact."""
    background = smooth_picture()
    pictures, regions = [], []
    for index in range(frames):
        image = background.copy()
        red, blue = 8 + 4 * index, 90 - 4 * index
        image[20:44, red : red + 24] = (220, 30, 30)
        image[60:80, blue : blue + 20] = (30, 40, 210)
        pictures.append(image)
        regions.append(
            (
                Region(0, 0.9, Box(red, 20, red + 24, 44), 7),
                Region(0, 0.9, Box(blue, 60, blue + 20, 80), 9),
            )
        )
    return Clip("squares", tuple(pictures), 10.0, tuple(regions))


def mean_psnr(clip: Clip, frames: tuple[Image, ...]) -> float:
    assert len(frames) == len(clip.frames)
    return float(np.mean([psnr(first, second) for first, second in zip(clip.frames, frames, strict=True)]))


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("way", ["cubic", "nearest"])
def test_the_conversion_alone_costs_little(bits: int, way: colour.Chroma) -> None:
    image = smooth_picture()
    assert psnr(image, colour.to_rgb(colour.to_yuv(image, bits), way)) > 43


def test_grey_and_primaries_have_the_standard_code_values() -> None:
    """ITU-R BT.709-6, table 3.2 and 3.3 of the signal's coding, 8 bits: black 16, white 235, grey without chroma."""
    for rgb, expected in (
        ((0, 0, 0), (16, 128, 128)),
        ((255, 255, 255), (235, 128, 128)),
        ((255, 0, 0), (63, 102, 240)),
    ):
        frame = colour.to_yuv(np.full((4, 4, 3), rgb, np.uint8))
        found = tuple(bytes(plane)[0] for plane in frame.planes)
        assert found == expected


def test_the_conversion_agrees_with_swscale() -> None:
    """Another implementation reads our YUV, by the tags on the frame, as the same colours."""
    image = smooth_picture()
    theirs = colour.to_yuv(image).to_ndarray(format="rgb24", src_colorspace=1, dst_colorspace=1)
    assert psnr(image, theirs) > 38


def test_chroma_is_brought_back_as_the_clip_was_made() -> None:
    rng = np.random.default_rng(3)
    blocks = np.kron(rng.integers(60, 200, (24, 32, 3)), np.ones((2, 2, 1))).astype(np.uint8)
    assert colour.better_chroma([blocks]) == "nearest"
    assert colour.better_chroma([smooth_picture()]) == "cubic"


@pytest.mark.parametrize("codec", CODECS)
def test_at_very_high_quality_colours_come_back(codec: str) -> None:
    clip = replace(moving_clip(), frames=(smooth_picture(),) * 3, regions=((),) * 3)
    for peer in (VideoPeer(codec, FINE[codec]), IntraPeer(codec, FINE[codec])):  # type: ignore[arg-type]
        assert mean_psnr(clip, peer.decode(peer.encode(clip)).frames) > 45


@pytest.mark.parametrize("form", ["jpeg", "webp", "avif"])
def test_stills_at_very_high_quality(form: str) -> None:
    clip = Clip("one", (smooth_picture(),), 0.0, ((),))
    peer = StillPeer(form, StillSettings(98, subsampling="4:2:0", speed=9))  # type: ignore[arg-type]
    assert mean_psnr(clip, peer.decode(peer.encode(clip)).frames) > (43 if form == "webp" else 45)


def every_peer() -> list[System]:
    stills: list[System] = [StillPeer(form, StillSettings(40, speed=9)) for form in ("jpeg", "webp", "avif")]  # type: ignore[arg-type]
    video: list[System] = [VideoPeer(codec, COARSE[codec]) for codec in CODECS]  # type: ignore[arg-type]
    intra: list[System] = [IntraPeer(codec, COARSE[codec]) for codec in ("x265", "svt-av1")]  # type: ignore[arg-type]
    frozen = FrozenPeer(VideoPeer("svt-av1", COARSE["svt-av1"]))
    return [*stills, *video, *intra, frozen, CropsPeer(CropSettings(preset="10"))]


@pytest.mark.parametrize("peer", every_peer(), ids=lambda peer: peer.name)
def test_every_peer_repeats_itself_and_keeps_the_order_of_frames(peer: System) -> None:
    clip = moving_clip()
    coded, again = peer.encode(clip), peer.encode(clip)
    assert [chunk.data for chunk in coded.chunks] == [chunk.data for chunk in again.chunks]
    assert coded.setup == again.setup
    assert len(coded.sizes) == len(clip.frames)
    assert min(coded.sizes) > 0
    frames = peer.decode(coded).frames
    own = mean_psnr(clip, frames)
    assert own > 20
    if clip.fps:
        backwards = replace(clip, frames=clip.frames[::-1])
        assert own > mean_psnr(backwards, frames) + 1
    assert peer.command()


@pytest.mark.parametrize("codec", CODECS)
def test_odd_sizes_and_smaller_pictures(codec: str) -> None:
    frames = tuple(image[:71, :101] for image in moving_clip().frames)
    clip = replace(moving_clip(), frames=frames)
    whole = VideoPeer(codec, COARSE[codec])  # type: ignore[arg-type]
    small = VideoPeer(codec, replace(COARSE[codec], scale=0.5))  # type: ignore[arg-type]
    coded, fewer = whole.encode(clip), small.encode(clip)
    assert whole.decode(coded).frames[0].shape == (71, 101, 3)
    assert small.decode(fewer).frames[0].shape == (71, 101, 3)
    assert fewer.total < coded.total


@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_parameter_sets_count_once_and_options_not_at_all(codec: str) -> None:
    clip = moving_clip(24)
    coded = VideoPeer(codec, replace(COARSE[codec], params="")).encode(replace(clip, fps=0.5))  # type: ignore[arg-type]
    assert 20 < len(coded.setup) < 200
    data = b"".join(chunk.data for chunk in coded.chunks)
    assert b"x264" not in data
    assert b"x265" not in data
    assert coded.setup not in data


def test_supplemental_messages_are_cut_out() -> None:
    message, picture = b"\x00\x00\x01\x06text", b"\x00\x00\x00\x01\x65pic"
    assert without_supplement(message + picture + message) == picture


def test_a_refused_setting_is_told_with_the_command() -> None:
    with pytest.raises(InputError, match=r"x265 refused 128x96 frames.*-preset nonsense"):
        code_frames("x265", VideoSettings(30, "nonsense"), [smooth_picture()], 10)
    with pytest.raises(InputError, match="8 or 10 bits"):
        colour.to_yuv(smooth_picture(), 9)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (78, 16), (20, 130), (78, 18)])
def test_av1_stills_of_any_shape(width: int, height: int) -> None:
    """With several threads the encoder waits for ever on some low pictures."""
    image = smooth_picture(height, width)
    settings = VideoSettings(20, "8", bits=10, params="avif=1")
    _, chunks = code_frames("svt-av1", settings, [image], 1)
    (back,) = decode_frames("svt-av1", b"", chunks, "cubic")
    assert back.shape == image.shape
    assert psnr(image, back) > 30


def test_the_command_names_what_is_done() -> None:
    text = command_line("x265", VideoSettings(31, "slow", tune="ssim", scale=0.5), "100")
    for part in ("-c:v libx265", "-crf 31", "-preset slow", "-tune ssim", "info=0", "keyint=100", "scale=iw*0.5"):
        assert part in text


def test_frozen_frames_only_change_near_the_boxes() -> None:
    clip = moving_clip()
    noisy = tuple(
        np.clip(image.astype(int) + np.random.default_rng(index).integers(-9, 10, image.shape), 0, 255).astype(np.uint8)
        for index, image in enumerate(clip.frames)
    )
    clip = replace(clip, frames=noisy)
    for fill in ("last", "plate"):
        frames = frozen_frames(clip, fill, margin=4)  # type: ignore[arg-type]
        for index in range(1, len(frames)):
            live = box_mask(clip.regions[index], 96, 128, 4)
            np.testing.assert_array_equal(frames[index][live], clip.frames[index][live])
            before = box_mask(clip.regions[index - 1], 96, 128, 4)
            still = ~(live | before)
            np.testing.assert_array_equal(frames[index][still], frames[index - 1][still])
    plate = median_plate(clip.frames)
    outside = ~box_mask(clip.regions[0], 96, 128, 4)
    first = frozen_frames(clip, "plate", margin=4)[0]
    np.testing.assert_array_equal(first[outside], plate[outside])


def test_freezing_saves_bits_where_the_background_is_noisy() -> None:
    clip = moving_clip()
    noise = np.random.default_rng(0)
    noisy = tuple(np.clip(f + noise.normal(0, 8, f.shape), 0, 255).astype(np.uint8) for f in clip.frames)
    clip = replace(clip, frames=noisy)
    plain = VideoPeer("svt-av1", VideoSettings(20, "10", bits=10))
    frozen = FrozenPeer(plain, "plate")
    assert frozen.encode(clip).total < plain.encode(clip).total


def test_the_median_is_the_empty_street() -> None:
    clip = moving_clip(24)
    assert psnr(median_plate(clip.frames)[:16], smooth_picture()[:16]) > 60


def test_crops_move_for_a_few_bytes_and_look_right() -> None:
    clip = moving_clip(24)
    peer = CropsPeer(CropSettings(plate_crf=30, crop_crf=30, preset="8", margin=0, threshold=14.0))
    coded = peer.encode(clip)
    frames = peer.decode(coded).frames
    assert sorted(coded.sizes)[12] <= 8, "most frames only move two boxes"
    assert max(coded.sizes) > 60, "objects are sent when they appear"
    for index in (3, 12, 20):
        red, blue = 8 + 4 * index, 90 - 4 * index
        assert np.abs(frames[index][24:40, red + 4 : red + 20].mean((0, 1)) - (220, 30, 30)).max() < 25
        if blue > 0:
            assert np.abs(frames[index][64:76, blue + 4 : blue + 16].mean((0, 1)) - (30, 40, 210)).max() < 25


def test_what_the_background_shows_is_not_sent() -> None:
    clip = moving_clip()
    still = replace(clip, frames=(clip.frames[5],) * 12, regions=(clip.regions[5],) * 12)
    assert set(CropsPeer(CropSettings(preset="10", plate_crf=20)).encode(still).sizes) == {1}


def test_a_changed_object_is_sent_again() -> None:
    clip = moving_clip()
    frames = list(clip.frames)
    for index in range(6, 12):
        frames[index] = frames[index].copy()
        red = 8 + 4 * index
        frames[index][20:44, red : red + 24] = (20, 200, 40)
    changed = replace(clip, frames=tuple(frames))
    peer = CropsPeer(CropSettings(preset="10"))
    coded = peer.encode(changed)
    assert coded.sizes[6] > coded.sizes[5] + 30
    shown = peer.decode(coded).frames[7][24:40, 40:52].mean((0, 1))
    assert np.abs(shown - (20, 200, 40)).max() < 25


def test_box_bits_come_back() -> None:
    known = {0: (4, 4, 20, 20), 2: (50, 8, 70, 30)}
    actions = [(0, 0, (5, 4, 22, 19)), (1, 1, (90, 0, 128, 44)), (2, 0, (48, 8, 69, 30))]
    data = write_actions(actions, known)
    assert len(data) < 16
    assert read_actions(BitReader(data), known) == actions


def test_damaged_crops_are_refused() -> None:
    peer = CropsPeer(CropSettings(preset="10"))
    coded = peer.encode(moving_clip())
    for chunks in (coded.chunks[1:], (replace(coded.chunks[0], data=coded.chunks[0].data + b"\0"),)):
        with pytest.raises(BitstreamError):
            peer.decode(replace(coded, chunks=chunks))


def test_versions_are_told() -> None:
    """The encoders' own words, not ours: options of a peer are worth little without its version."""
    found = peer_versions()
    assert found["x264"].startswith("core 1")
    assert found["x265"].startswith("(build ")
    assert {"PyAV", "libavcodec", "Pillow", "libavif"} <= set(found)
    assert all(found.values())
