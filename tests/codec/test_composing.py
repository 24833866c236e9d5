from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.composing import WHOLE, Drawn, Grid, PlatePicture, compose, draw
from discover_stream.codec.records import QuarterBox, Window
from discover_stream.codec.sprites import Sprite
from discover_stream.types import Image, Provenance

WIDTH, HEIGHT = 120, 90


def waves(width: int, height: int, zoom: int = 0, x: float = 0, y: float = 0) -> Image:
    """A smooth picture, known at every point: sampled from (x, y) on at 2**zoom samples a pixel."""
    down, across = np.mgrid[:height, :width].astype(np.float64)
    right, low = x + (across + 0.5) / 2.0**zoom, y + (down + 0.5) / 2.0**zoom
    red = 128 + 60 * np.sin(right / 7) * np.cos(low / 9)
    green = 128 + 50 * np.cos(right / 11 + low / 8)
    return np.rint(np.stack([red, green, (red + green) / 2], -1)).astype(np.uint8)


def box(x: float, y: float, width: float, height: float) -> QuarterBox:
    return QuarterBox(round(4 * x), round(4 * y), round(4 * width), round(4 * height))


def sprite(zoom: int = 0, x: int = 20, y: int = 10, cells: int = 2, alpha: int = 255) -> Sprite:
    """Waves, seen through a window at (x, y)."""
    side = cells * 16
    return Sprite(
        waves(side, side, zoom, x, y), np.full((side, side), alpha, np.uint8), Window(x, y, cells, cells), zoom,
        box(x, y, side / 2.0**zoom, side / 2.0**zoom), WIDTH, HEIGHT,
    )  # fmt: skip


def grey() -> PlatePicture:
    return PlatePicture(np.full((HEIGHT, WIDTH, 3), 20, np.uint8))


def test_a_sprite_in_its_own_place_is_itself() -> None:
    one = sprite()
    made = compose(grey(), [Drawn(one.box, one)])
    assert np.array_equal(made.image[10:42, 20:52], one.samples)
    made.image[10:42, 20:52] = 20
    assert (made.image == 20).all()
    assert (made.alpha[10:42, 20:52] == 255).all()
    assert made.alpha.sum() == 255 * 32 * 32


def test_a_whole_shift_copies() -> None:
    one = sprite()
    made = compose(grey(), [Drawn(box(33, 41, 32, 32), one)])
    assert np.array_equal(made.image[41:73, 33:65], one.samples)


@pytest.mark.parametrize("zoom", [-1, 0, 1, 2])
@pytest.mark.parametrize(
    ("x", "y", "growth"), [(20.25, 10.5, 1.0), (40.75, 30.25, 1.3), (50, 40.5, 0.7), (30, 20, 0.4)]
)
def test_sprites_follow_their_boxes(zoom: int, x: float, y: float, growth: float) -> None:
    """Against the picture known at every point: what is drawn is it, moved and scaled with the box."""
    one = sprite(zoom, cells=5 if zoom == 2 else 2)
    old = one.box.pixels
    place = box(x, y, (old.x1 - old.x0) * growth, (old.y1 - old.y0) * growth)
    made = compose(grey(), [Drawn(place, one)])
    new = place.pixels
    columns, rows = np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5
    growth_x, growth_y = (new.x1 - new.x0) / (old.x1 - old.x0), (new.y1 - new.y0) / (old.y1 - old.y0)
    right = (old.x0 + (columns - new.x0) / growth_x)[None, :]
    low = (old.y0 + (rows - new.y0) / growth_y)[:, None]
    red = 128 + 60 * np.sin(right / 7) * np.cos(low / 9)
    margin = 2 if zoom >= 0 else 4
    inner = np.ix_(
        (rows > new.y0 + margin) & (rows < new.y1 - margin), (columns > new.x0 + margin) & (columns < new.x1 - margin)
    )
    assert red[inner].size
    error = np.abs(made.image[..., 0][inner] - red[inner])
    assert error.max() < (4 if growth >= 0.7 and zoom >= 0 else 12)


def test_shrinking_does_not_alias() -> None:
    """Stripes one sample wide, drawn at a third: grey, not stripes."""
    one = sprite(cells=3)
    stripes = np.where(np.arange(48)[None, :, None] % 2, 255, 0).astype(np.uint8)
    striped = Sprite(
        np.broadcast_to(stripes, (48, 48, 3)).copy(), one.alpha, one.window, 0, one.box, WIDTH, HEIGHT
    )  # fmt: skip
    for side in (17, 24, 31):
        made = compose(grey(), [Drawn(box(30, 30, side, side), striped)])
        middle = made.image[34 : 26 + side, 34 : 26 + side, 0].astype(int)
        assert np.abs(middle - 127).max() < 90  # 127 without smoothing


def test_scale_changes_little_by_little() -> None:
    """No jump where smoothing sets in, or where samples begin to be averaged."""
    one = sprite(cells=4)
    sizes = [64 - step / 4 for step in range(180)]
    means = [compose(grey(), [Drawn(box(20, 10, size, size), one)]).image[12:20, 22:30].astype(float) for size in sizes]
    jumps = [np.abs(after - before).mean() for before, after in pairwise(means)]
    assert max(jumps) < 6


def test_later_ones_are_in_front() -> None:
    one, other = sprite(), sprite()
    dark = Sprite(np.zeros_like(other.samples), other.alpha, other.window, 0, other.box, WIDTH, HEIGHT)
    over = compose(grey(), [Drawn(one.box, one), Drawn(box(30, 20, 32, 32), dark)]).image
    under = compose(grey(), [Drawn(box(30, 20, 32, 32), dark), Drawn(one.box, one)]).image
    assert (over[22:40, 32:50] == 0).all()
    assert np.array_equal(under[10:42, 20:52], one.samples)


def test_half_alpha_mixes() -> None:
    one = sprite(alpha=128)
    made = compose(grey(), [Drawn(one.box, one)])
    expected = 20 + (one.samples.astype(float) - 20) * 128 / 255
    assert np.abs(made.image[10:42, 20:52] - expected).max() <= 0.51
    assert (made.alpha[10:42, 20:52] == 128).all()


def test_what_is_uncovered_is_plate() -> None:
    one = sprite()
    plate = PlatePicture(waves(WIDTH, HEIGHT))
    compose(plate, [Drawn(one.box, one)])
    moved = compose(plate, [Drawn(box(80, 50, 32, 32), one)])
    assert np.array_equal(moved.image[:48], plate.image[:48])
    assert np.array_equal(plate.image, waves(WIDTH, HEIGHT))


def test_cells_that_are_not_shown_are_not_drawn() -> None:
    one = sprite()
    shown = np.array([[True, False], [True, True]])
    made = compose(grey(), [Drawn(one.box, one, shown=shown)])
    assert (made.image[10:26, 36:52] == 20).all()
    assert np.array_equal(made.image[26:42, 20:52], one.samples[16:])


def test_provenance() -> None:
    one = sprite(x=16, y=16)
    assert (compose(grey(), []).provenance == Provenance.PLATE).all()
    made = compose(grey(), [Drawn(one.box, one, Provenance.SENT)]).provenance
    assert (made[1:3, 1:3] == Provenance.SENT).all()
    assert (made == Provenance.SENT).sum() == 4
    carried = compose(grey(), [Drawn(box(64, 48, 32, 32), one, Provenance.PROPAGATED)]).provenance
    assert (carried == Provenance.PROPAGATED).sum() == 4
    slight = compose(grey(), [Drawn(box(17, 16, 32, 32), one, Provenance.SENT)]).provenance
    assert (slight == Provenance.SENT).sum() == 4


def test_a_missing_atom_is_a_grey_box() -> None:
    made = compose(PlatePicture(waves(WIDTH, HEIGHT)), [Drawn(box(16, 16, 32, 16), None)])
    assert (made.image[16:32, 16:48] == 128).all()
    assert (made.provenance[1, 1:3] == Provenance.MISSING).all()
    assert (made.provenance == Provenance.MISSING).sum() == 2


def test_a_missing_plate_is_grey() -> None:
    one = sprite(x=16, y=16)
    made = compose(PlatePicture.missing(WIDTH, HEIGHT), [Drawn(one.box, one)])
    assert (made.image[:16] == 128).all()
    assert (made.provenance == Provenance.MISSING).sum() == made.provenance.size - 4


def test_the_edges_cells_count_what_is_inside() -> None:
    """90 rows: the last cells have ten; two rows of them are more than an eighth, one is not."""
    made = [compose(grey(), [Drawn(box(0, y, 16, 40), None)]).provenance[5, 0] for y in (88, 89)]
    assert made == [Provenance.MISSING, Provenance.PLATE]


def test_what_was_cut_off_at_the_key_is_missing_not_stretched() -> None:
    """Half of the object was beyond the left edge when its key was coded."""
    key_box = box(-16, 16, 32, 32)
    samples, alpha = waves(32, 32), np.full((32, 32), 255, np.uint8)
    alpha[:, :16] = 0
    one = Sprite(samples, alpha, Window(-16, 16, 2, 2), 0, key_box, WIDTH, HEIGHT)
    at_key = compose(grey(), [Drawn(key_box, one)])
    assert not (at_key.provenance == Provenance.MISSING).any()
    later = compose(grey(), [Drawn(box(48, 16, 32, 32), one, Provenance.PROPAGATED)])
    assert (later.image[16:48, 48:63] == 20).all()
    assert np.array_equal(later.image[16:48, 64:80], samples[:, 16:])
    assert (later.provenance[1:3, 3] == Provenance.MISSING).all()
    assert (later.provenance[1:3, 4] == Provenance.PROPAGATED).all()


boxes = st.builds(
    QuarterBox, st.integers(-(2**16), 2**16), st.integers(-(2**16), 2**16), st.integers(1, 2**16), st.integers(1, 2**16)
)
near = st.builds(QuarterBox, st.integers(-200, 600), st.integers(-200, 500), st.integers(1, 900), st.integers(1, 900))


@given(st.one_of(boxes, near), st.one_of(boxes, near), st.integers(-1, 2), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_any_boxes_can_be_drawn(key: QuarterBox, now: QuarterBox, zoom: int, alpha: int) -> None:
    """Nothing breaks, what is far from the box stays, and a second time gives the same bytes."""
    window = Window(max(-(2**16), key.x // 4), max(-(2**16), key.y // 4), 2, 1)
    one = Sprite(waves(16, 32), np.full((32, 16), alpha, np.uint8), window, zoom, key, WIDTH, HEIGHT)
    first, second = (compose(grey(), [Drawn(now, one)]) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert (first.image[first.alpha == 0] == 20).all() or alpha < 3
    if alpha == 0:
        assert (first.image == 20).all()


def test_a_canvas_may_be_a_window() -> None:
    """Drawing on a finer grid is drawing on the picture, seen there."""
    one = sprite(zoom=1)
    canvas = np.full((32, 32, 3), 20, np.uint8)
    rows, columns, alpha = draw(canvas, Grid(24, 14, 1), Drawn(one.box, one))
    assert np.array_equal(canvas[:24, :24], one.samples[8:32, 8:32])
    assert alpha.shape == canvas[rows, columns].shape[:2]
    assert Grid(0, 0, 0) == WHOLE
