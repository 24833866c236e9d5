from __future__ import annotations

import cv2
import numpy as np
import pytest
from street import HEIGHT, RED, SIZE, WIDTH, picture, road

from discover_stream.codec.background import (
    Background,
    boxes_mask,
    cells_of,
    filled,
    median_of,
)
from discover_stream.codec.plate_policy import PlateRules, nudged
from discover_stream.types import Box, Image

NOISE = np.random.default_rng(5)


def noisy(image: Image) -> Image:
    return np.clip(image + NOISE.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def car(x: float, y: float = 40) -> tuple[Image, list[Box]]:
    return picture({1: (RED, x, y)}), [Box(x, y, x + SIZE[0], y + SIZE[1])]


def test_the_median_is_numpys() -> None:
    samples = [NOISE.integers(0, 255, (5, 7, 3), dtype=np.uint8) for _ in range(9)]
    assert np.array_equal(median_of(samples), np.median(np.stack(samples), axis=0).astype(np.uint8))


def test_an_object_that_nobody_found_does_not_stay_in_the_background() -> None:
    background = Background()
    for index in range(60):
        image, _ = car(index * 4.0 - 60) if index % 20 < 15 else (road(), [])
        background.see(noisy(image), road(), [], index / 10)
    assert background.picture is not None
    apart = np.abs(background.picture.astype(int) - road())
    assert apart.mean() < 2
    assert cv2.blur(apart.astype(np.float32), (9, 9)).max() < 12


def test_what_is_behind_an_object_from_the_start_is_found_when_it_leaves() -> None:
    """No empty street is needed: the car stands in the first frame, and so in the plate."""
    plate, _ = car(50)
    background = Background()
    for index in range(40):
        image, boxes = car(50 + 4.0 * index)
        seen = background.see(noisy(image), plate, boxes, index / 10)
    stale = seen.stale
    assert stale[3, 4]
    assert not stale[:2].any()
    assert background.picture is not None
    assert np.abs(background.picture[44:60, 54:86].astype(int) - road()[44:60, 54:86]).mean() < 4


def test_what_moves_is_no_change_of_the_background() -> None:
    background = Background()
    for index in range(30):
        image, boxes = car(4.0 * index)
        assert not background.see(noisy(image), road(), boxes, index / 10).stale.any()


def test_a_nudged_camera_is_seen_and_objects_are_not_taken_for_one() -> None:
    large = cv2.resize(NOISE.integers(0, 255, (40, 60, 3), dtype=np.uint8), (480, 320)).astype(np.uint8)
    plate = np.ascontiguousarray(large[20:260, 20:340])
    moved = np.ascontiguousarray(large[23:263, 15:335])
    background = Background()
    for index in range(15):
        background.see(noisy(plate if index < 5 else moved), plate, [], index / 10)
    shift = nudged(background.looks, PlateRules())
    assert shift == pytest.approx((5.0, -3.0), abs=0.4)
    still = Background()
    for index in range(15):
        image = plate.copy()
        image[60:160, 10 * index : 10 * index + 90] = 200
        still.see(noisy(image), plate, [], index / 10)
    assert nudged(still.looks, PlateRules()) is None


def test_masks_of_boxes() -> None:
    mask = boxes_mask([Box(10.5, 4, 20, 8)], 40, 20, 1)
    assert mask.sum() == 12 * 6
    assert boxes_mask([Box(-30, -30, -10, -10)], 40, 20, 2).sum() == 0
    assert cells_of([Box(15, 0, 17, 1)], 40, 20).tolist() == [[True, True, False], [False] * 3]


def test_what_is_hidden_is_filled_from_around() -> None:
    image, (box,) = car(50)
    hidden = boxes_mask([box], WIDTH, HEIGHT, 3)
    result = filled(image, hidden)
    assert np.array_equal(result[~hidden], image[~hidden])
    assert np.abs(result[hidden].astype(int) - road()[hidden]).mean() < 20
    assert filled(image, np.zeros_like(hidden)) is image
