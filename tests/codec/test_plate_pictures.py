from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.painter import Painted, PaintJob
from discover_stream.codec.plate_pictures import av1_payload, plate_picture, toned, warped
from discover_stream.codec.plates import Clock, Plate, PlateCoding, Tone, Warp
from discover_stream.codec.records import Cells
from discover_stream.types import BitstreamError, Image

WIDTH, HEIGHT = 120, 90
CLOCK = Clock(0, 0, 100_000, 1000)


def waves(x: float = 0, y: float = 0, turn: float = 0, growth: float = 0) -> Image:
    """A smooth picture, turned, grown about its centre, and shifted: known at every point."""
    down, across = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    right, low = across - WIDTH / 2 - x, down - HEIGHT / 2 - y
    c, s = np.cos(turn) / (1 + growth), np.sin(turn) / (1 + growth)
    right, low = c * right + s * low, -s * right + c * low
    red = 128 + 60 * np.sin(right / 7) * np.cos(low / 9)
    green = 128 + 50 * np.cos(right / 11 + low / 8)
    return np.rint(np.stack([red, green, (red + green) / 2], -1)).astype(np.uint8)


def psnr(one: Image, other: Image) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - other) ** 2))))


def whole(image: Image, quantizer: int = 10) -> Plate:
    return Plate(1, WIDTH, HEIGHT, (0,), CLOCK, coding=PlateCoding.AV1, payload=av1_payload(image, quantizer))


def some_cells() -> Cells:
    mask = np.zeros((6, 8), bool)
    mask[4:, 5:] = True
    mask[4, 5] = False
    cells = Cells.of(mask)
    assert cells is not None
    return cells


def test_a_whole_plate() -> None:
    made = plate_picture(whole(waves()), None)
    assert made.there is None
    assert psnr(made.image, waves()) > 34


def test_a_plate_of_some_cells_has_the_rest_missing() -> None:
    cells = some_cells()
    payload = av1_payload(waves(), 10, cells.mask)
    assert len(payload) < 0.4 * len(av1_payload(waves(), 10))
    plate = dataclasses.replace(whole(waves()), cells=cells, payload=payload)
    made = plate_picture(plate, None)
    assert np.array_equal(made.there, cells.mask)
    assert psnr(made.image[64:, 96:], waves()[64:, 96:]) > 33
    assert (made.image[:64] == 128).all()
    assert (made.image[64:80, 80:96] == 128).all()


def test_cells_are_refreshed_in_the_parent() -> None:
    parent = plate_picture(whole(waves()), None)
    cells = some_cells()
    bright = np.clip(waves().astype(int) + 60, 0, 255).astype(np.uint8)
    plate = Plate(
        3, WIDTH, HEIGHT, (0,), None, 1, 1, PlateCoding.AV1, cells=cells, payload=av1_payload(bright, 10, cells.mask)
    )
    made = plate_picture(plate, parent)
    assert made.there is None
    assert psnr(made.image[64:, 96:], bright[64:, 96:]) > 33
    assert np.array_equal(made.image[:64], parent.image[:64])
    assert np.array_equal(made.image[64:80, 80:96], parent.image[64:80, 80:96])
    with pytest.raises(ValueError, match="changes another"):
        plate_picture(plate, None)


@pytest.mark.parametrize(
    "warp", [Warp(4, 0), Warp(-9, 6), Warp(0, 0, 200), Warp(0, 0, 0, 300), Warp(7, -5, -150, -200), Warp(0, 1)]
)
def test_a_nudged_camera(warp: Warp) -> None:
    """Against the picture known at every point."""
    made = warped(PlatePicture(waves()), warp)
    truth = waves(warp.x / 4, warp.y / 4, warp.turn / 2**14, warp.scale / 2**14)
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(made.image[inner].astype(int) - truth[inner]).max() <= 3


def test_what_comes_in_from_beyond_is_missing() -> None:
    made = warped(PlatePicture(waves()), Warp(4 * 20, 0))
    assert made.there is not None
    assert not made.there[:, :2].any()
    assert made.there[:, 2:].all()
    assert (made.image[:, :20] == 128).all()
    assert np.array_equal(made.image[:, 20:], waves()[:, :-20])
    slight = warped(PlatePicture(waves()), Warp(4, 0))
    assert slight.there is None
    assert (slight.image[:, 0] == 128).all()


def test_missing_cells_stay_missing_after_a_warp() -> None:
    there = np.ones((6, 8), bool)
    there[2, 3] = False
    image = waves()
    image[32:48, 48:64] = 128
    made = warped(PlatePicture(image, there), Warp(4 * 16, 0))
    assert made.there is not None
    assert not made.there[2, 4]
    assert made.there[2, 3]


def test_other_light() -> None:
    values = np.arange(256, dtype=np.uint8)
    image = np.stack([values, values, values], -1)[None]
    tone = Tone((64, -32, 0), (-8, 0, 1023))
    made = toned(PlatePicture(image), tone).image[0].astype(float)
    for channel, (gain, offset) in enumerate(zip(tone.gains, tone.offsets, strict=True)):
        exact = np.clip(values + gain / 256 * values + offset / 4, 0, 255)
        assert np.abs(made[:, channel] - exact).max() <= 0.5


def test_tone_leaves_missing_cells_grey() -> None:
    there = np.ones((6, 8), bool)
    there[0, 0] = False
    made = toned(PlatePicture(waves(), there), Tone((0, 0, 0), (40, 40, 40)))
    assert (made.image[:16, :16] == 128).all()
    assert (made.image[20, 20] == waves()[20, 20] + 10).all()


def test_warp_comes_before_tone_and_both_before_cells() -> None:
    parent = plate_picture(whole(waves()), None)
    cells = some_cells()
    tone, warp = Tone((0, 0, 0), (80, 0, 0)), Warp(4 * 16, 0)
    plate = Plate(
        2, WIDTH, HEIGHT, (0,), None, 1, 1, PlateCoding.AV1, cells=cells, warp=warp, tone=tone,
        payload=av1_payload(waves(), 5, cells.mask),
    )  # fmt: skip
    made = plate_picture(plate, parent)
    assert made.there is not None
    assert not made.there[:, 0].any()
    assert (made.image[:, :16] == 128).all()
    expected = np.clip(parent.image[:64, :-16, 0].astype(int) + 20, 0, 255)
    assert np.array_equal(made.image[:64, 16:, 0], expected)
    assert psnr(made.image[64:, 96:], waves()[64:, 96:]) > 33


def test_only_the_clock_is_known_of_a_bare_plate() -> None:
    made = plate_picture(Plate(4, WIDTH, HEIGHT, (0,), CLOCK), None)
    assert made.there is not None
    assert not made.there.any()


def test_a_plate_of_the_learned_codec_is_painted() -> None:
    class Brush:
        def paint(self, jobs: Sequence[PaintJob]) -> list[Painted]:
            (job,) = jobs
            assert job.reference is None
            assert (job.atom.window.rows, job.atom.window.columns, job.atom.quality) == (6, 8, 4)
            return [Painted(np.full((96, 128, 3), len(job.atom.payload), np.uint8))]

    plate = Plate(5, WIDTH, HEIGHT, (0,), CLOCK, quality=4, payload=b"1234567")
    assert (plate_picture(plate, None, Brush()).image == 7).all()
    with pytest.raises(BitstreamError, match="no model"):
        plate_picture(plate, None)


def test_damage_is_named() -> None:
    with pytest.raises(BitstreamError, match="AV1"):
        plate_picture(dataclasses.replace(whole(waves()), payload=b"\x00\x09"), None)
