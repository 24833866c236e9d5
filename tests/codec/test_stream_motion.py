from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from street import HEIGHT, RED, SIZE, WIDTH, picture, road

from discover_stream.codec.atom_sprites import av1_atom, sprite_of
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.sprites import Sprite
from discover_stream.codec.stream_motion import (
    UNCOVERED,
    Scene,
    best_fit,
    error,
    inside,
    plate_error,
    reach,
    reaches_beyond,
    uncovered_error,
    whole,
)
from discover_stream.types import Box, Image

NOTHING = np.zeros((HEIGHT, WIDTH), bool)
PLATE = PlatePicture(road())


def at(x: float, y: float = 30) -> tuple[Image, QuarterBox]:
    return picture({1: (RED, x, y)}), QuarterBox.of(Box(x, y, x + SIZE[0], y + SIZE[1]))


def sprite() -> Sprite:
    image, box = at(40)
    return sprite_of(av1_atom(image, box, 15, plate=PLATE), box, (WIDTH, HEIGHT), plate=PLATE)


SPRITE = sprite()


def scene(image: Image) -> Scene:
    return Scene.of(image, PLATE.image)


def test_a_picture_fits_where_it_was_taken_and_better_than_the_plate() -> None:
    image, box = at(40)
    own, bare = error(scene(image), SPRITE, box, NOTHING)
    assert own < 6
    assert bare > 20


def test_a_picture_in_the_wrong_place_is_an_error() -> None:
    image, box = at(40)
    off = QuarterBox(box.x + 20, box.y, box.width, box.height)
    assert error(scene(image), SPRITE, off, NOTHING)[0] > 2 * error(scene(image), SPRITE, box, NOTHING)[0]


def test_light_on_the_object_is_no_error_but_another_object_is() -> None:
    image, box = at(40)
    brighter = np.clip(image.astype(int) + 7, 0, 255).astype(np.uint8)
    other = picture({1: ((40, 200, 60), 40.0, 30.0)})
    assert error(scene(brighter), SPRITE, box, NOTHING)[0] < error(scene(image), SPRITE, box, NOTHING)[0] + 1.5
    assert error(scene(other), SPRITE, box, NOTHING)[0] > 20


@settings(max_examples=15)
@given(st.floats(-3.5, 3.5), st.floats(-3.5, 3.5))
def test_the_place_is_found_to_half_a_pixel(right: float, down: float) -> None:
    image, box = at(40 + right, 30 + down)
    _, expected = at(40)
    fit = best_fit(scene(image), SPRITE, expected, None, NOTHING)
    assert (fit.box.x / 4, fit.box.y / 4) == pytest.approx((40 + right, 30 + down), abs=0.6)
    assert (fit.box.width, fit.box.height) == (expected.width, expected.height)
    assert fit.error <= error(scene(image), SPRITE, box, NOTHING)[0] + 1.5


def test_a_jump_is_found_where_the_grounder_saw_it() -> None:
    image, box = at(90)
    fit = best_fit(scene(image), SPRITE, at(40)[1], box, NOTHING)
    assert fit.box.x / 4 == pytest.approx(90, abs=0.6)


def test_what_is_covered_is_not_looked_at() -> None:
    image, box = at(40)
    broken = image.copy()
    broken[:, :60] = 0
    hidden = NOTHING.copy()
    hidden[:, :63] = True
    assert error(scene(broken), SPRITE, box, hidden)[0] < 8 < error(scene(broken), SPRITE, box, NOTHING)[0]
    assert error(scene(broken), SPRITE, box, ~NOTHING) == (0.0, 0.0)


def test_a_plate_lacks_what_is_not_on_it() -> None:
    image, box = at(40)
    assert plate_error(scene(image), box, NOTHING) > 40
    assert plate_error(scene(road()), box, NOTHING) == 0
    faint = road()
    faint[36:46, 50:66] = np.clip(faint[36:46, 50:66].astype(int) + 40, 0, 255).astype(np.uint8)
    assert plate_error(scene(faint), box, NOTHING) > 15


def test_what_a_picture_does_not_reach_is_lacking_where_the_plate_does_not_show_it() -> None:
    image, found = at(40)
    half = QuarterBox(found.x + found.width // 2, found.y, found.width // 2, found.height)
    assert reaches_beyond(found, half, UNCOVERED)
    assert not reaches_beyond(half, found, 0.0)
    assert uncovered_error(scene(image), found, half, NOTHING) > 20
    assert uncovered_error(scene(road()), found, half, NOTHING) == 0
    assert uncovered_error(scene(image), found, half, np.ones_like(NOTHING)) == 0
    assert uncovered_error(scene(image), found, found, NOTHING) == 0


def test_the_edge_cuts_what_ends_near_it() -> None:
    shape = (HEIGHT, WIDTH, 3)
    assert whole(at(40)[1], shape)
    assert not whole(at(3)[1], shape)
    assert not whole(at(40, HEIGHT - SIZE[1])[1], shape)


@pytest.mark.parametrize("x", [-39.0, -80.0, 159.5, 400.0])
def test_an_object_at_or_beyond_the_edge_harms_nobody(x: float) -> None:
    image, box = at(x)
    fit = best_fit(scene(image), SPRITE, box, None, NOTHING)
    assert np.isfinite(fit.error)
    assert 0 <= inside(box, WIDTH, HEIGHT) <= 1


def test_large_objects_are_looked_for_further_away() -> None:
    assert reach(QuarterBox(0, 0, 40, 40)) < reach(QuarterBox(0, 0, 300, 300)) <= reach(QuarterBox(0, 0, 4000, 4000))
