from __future__ import annotations

import numpy as np
import pytest

from discover_stream.codec.records import QuarterBox, Window
from discover_stream.codec.sprites import (
    FRAME_LEVELS,
    box_mask,
    cell_samples,
    grid_samples,
    inside,
    residual,
    restored,
    soft_mask,
)
from discover_stream.types import Image


def waves(width: int, height: int, zoom: int = 0, x: float = 0, y: float = 0) -> Image:
    """A smooth picture, known at every point: sampled from (x, y) on at 2**zoom samples a pixel."""
    down, across = np.mgrid[:height, :width].astype(np.float64)
    right, low = x + (across + 0.5) / 2.0**zoom, y + (down + 0.5) / 2.0**zoom
    red = 128 + 60 * np.sin(right / 7) * np.cos(low / 9)
    green = 128 + 50 * np.cos(right / 11 + low / 8)
    return np.rint(np.stack([red, green, (red + green) / 2], -1)).astype(np.uint8)


@pytest.mark.parametrize(("zoom", "most"), [(-1, 3), (0, 0), (1, 2), (2, 2)])
def test_a_grid_samples_the_picture(zoom: int, most: int) -> None:
    window = Window(21, 13, 1, 2)
    grid = grid_samples(waves(120, 90), window, zoom)
    assert grid.shape == (16, 32, 3)
    expected = waves(32, 16, zoom, 21, 13)
    assert np.abs(grid.astype(int) - expected).max() <= most


@pytest.mark.parametrize("zoom", [-1, 0, 1, 2])
@pytest.mark.parametrize("corner", [(-40, -3), (110, 80), (-5000, 9000)])
def test_beyond_the_picture_is_its_edge(zoom: int, corner: tuple[int, int]) -> None:
    flat = np.full((90, 120, 3), 77, np.uint8)
    assert (grid_samples(flat, Window(*corner, 2, 3), zoom) == 77).all()


def test_inside_the_picture() -> None:
    mask = inside(Window(-4, 80, 1, 1), 1, 120, 84)
    assert mask[:8, 8:].all()
    assert mask.sum() == 8 * 8


def test_residuals_are_taken_and_put_back() -> None:
    random = np.random.default_rng(0)
    reference = random.integers(60, 190, (16, 16, 3)).astype(np.uint8)
    samples = random.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    coded = residual(samples, reference)
    assert np.abs(restored(coded, reference).astype(int) - samples).max() <= 1
    assert (residual(reference, reference) == 128).all()
    nothing = residual(samples, reference, np.zeros((16, 16), np.uint8))
    assert (nothing == 128).all()
    assert (restored(nothing, reference) == reference).all()


def test_black_on_white_and_white_on_black() -> None:
    black, white = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    assert (restored(residual(black, white), white) <= 1).all()
    assert (restored(residual(white, black), black) >= 254).all()


def scene(noise: float = 0.0) -> tuple[Image, Image]:
    """A road with a line across it, and a car of the road's colour with dark outlines, windows and a bright light."""
    random = np.random.default_rng(1)
    road = np.full((64, 96, 3), 110.0)
    road[30:33] = 200
    car = road.copy()
    car[14:50, 20:76] = 60
    car[17:46, 24:72] = 110
    car[20:28, 30:60] = 40
    car[34:38, 66:72] = 250
    grain = [random.normal(0, noise, road.shape) if noise else 0 for _ in range(2)]
    return tuple(
        np.clip(np.rint(one + more), 0, 255).astype(np.uint8) for one, more in zip((car, road), grain, strict=True)
    )  # type: ignore[return-value]


@pytest.mark.parametrize(("noise", "levels"), [(0.0, (10, 15)), (4.0, FRAME_LEVELS)])
def test_an_object_the_colour_of_the_road_is_whole(noise: float, levels: tuple[int, int]) -> None:
    car, road = scene(noise)
    alpha = soft_mask(car, road, levels=levels)
    assert (alpha[16:48, 22:74] == 255).all()
    assert not alpha[:10].any()
    assert not alpha[:, :15].any()
    assert not alpha[:, 82:].any()


def test_the_edge_is_soft() -> None:
    car, road = scene()
    row = soft_mask(car, road)[30, 10:30].astype(int)
    assert (np.diff(row) >= 0).all()
    assert 1 <= ((row > 0) & (row < 255)).sum() <= 3


def test_nothing_to_see_has_no_mask() -> None:
    _, road = scene()
    _, noisy = scene(3.0)
    assert not soft_mask(road, road).any()
    assert not soft_mask(noisy, road, levels=FRAME_LEVELS).any()
    assert not soft_mask(np.clip(road.astype(int) + 7, 0, 255).astype(np.uint8), road).any()


def test_specks_beside_the_object_are_left_out() -> None:
    car, road = scene()
    car[58:60, 90:92] = 0
    assert not soft_mask(car, road)[54:, 86:].any()


def test_what_is_not_allowed_is_left_out() -> None:
    car, road = scene()
    allowed = np.ones((64, 96), bool)
    allowed[:, 50:] = False
    alpha = soft_mask(car, road, allowed=allowed)
    assert not alpha[:, 50:].any()
    assert alpha[16:48, 22:48].all()


def test_an_object_cut_by_the_pictures_edge_is_whole() -> None:
    """Its inside has the colour of the road and is open to where nothing is known."""
    car, road = scene()
    for axis, kept in ((1, slice(0, 50)), (1, slice(40, None)), (0, slice(0, 32))):
        allowed = np.zeros((64, 96), bool)
        allowed[(slice(None),) * axis + (kept,)] = True
        alpha = soft_mask(car, road, allowed=allowed)
        assert (alpha[16:48, 22:74] == 255)[allowed[16:48, 22:74]].mean() > 0.97


def test_finer_grids_give_the_same_mask() -> None:
    """Sizes in the mask's making are pixels of the picture, not samples."""
    car, road = scene()
    double = [one.repeat(2, 0).repeat(2, 1) for one in (car, road)]
    fine = soft_mask(*double, zoom=1)[::2, ::2] > 127
    usual = soft_mask(car, road) > 127
    assert (fine & usual).sum() > 0.95 * (fine | usual).sum()


def test_a_box_without_a_plate_is_drawn_with_soft_edges() -> None:
    alpha = box_mask(QuarterBox(4 * 10 + 2, 4 * 20, 4 * 12, 4 * 8), Window(10, 20, 1, 1), 0)
    assert alpha[4, 6] == 255
    assert (alpha[8:] == 0).all()
    assert (alpha[:, 13:] == 0).all()
    assert (np.diff(alpha[4, :6].astype(int)) >= 0).all()


def test_cells_cover_sixteen_samples() -> None:
    mask = cell_samples(np.array([[True, False]]))
    assert mask.shape == (16, 32)
    assert mask[:, :16].all()
    assert not mask[:, 16:].any()
