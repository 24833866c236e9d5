"""Labelled boxes: names, masks and exact shares of area."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.evaluation.boxes import Detection, above, covered_share, mask_of, relabelled
from discover_stream.types import Box

whole_boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    st.integers(0, 20), st.integers(0, 20), st.integers(0, 15), st.integers(0, 15),
)  # fmt: skip


def painted(boxes: list[Box]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    canvas = np.zeros((40, 40), dtype=bool)
    for box in boxes:
        canvas[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = True
    return canvas


@given(whole_boxes, st.lists(whole_boxes, max_size=6))
def test_covered_share_is_what_counting_pixels_says(box: Box, others: list[Box]) -> None:
    share = covered_share(box, others)
    if box.area == 0:
        assert share == 0
    else:
        assert share == pytest.approx((painted([box]) & painted(others)).sum() / box.area)


def test_overlapping_excuses_count_once() -> None:
    assert covered_share(Box(0, 0, 10, 10), [Box(0, 0, 5, 10), Box(2.5, 0, 5, 10), Box(20, 0, 30, 10)]) == 0.5


def test_masks_hold_every_pixel_a_box_touches() -> None:
    mask = mask_of([Box(1.2, 0.5, 3.1, 2.0), Box(-5, -5, 0.1, 0.1), Box(90, 90, 99, 99)], 6, 4)
    expected = np.zeros((4, 6), dtype=bool)
    expected[0:2, 1:4] = True
    expected[0, 0] = True
    assert (mask == expected).all()


def test_relabelling_renames_and_excuses() -> None:
    box = Box(0, 0, 1, 1)
    found = [Detection(label, 0.5, box) for label in ("van", "ambulance", "person")]
    renamed = relabelled(found, {"van": "car", "ambulance": ("car", "bus")})
    kinds = [(one.label, one.crowd) for one in renamed]
    assert kinds == [("car", False), ("car", True), ("bus", True), ("person", False)]
    assert above([Detection("a", 0.3, box), Detection("b", 0.29, box)], 0.3)[0].label == "a"
