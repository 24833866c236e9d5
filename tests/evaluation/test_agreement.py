"""Class agreement by hand."""

from __future__ import annotations

import math

import numpy as np

from discover_stream.evaluation.agreement import Agreement, class_agreement, crop_agreement
from discover_stream.evaluation.boxes import Detection
from discover_stream.types import Box, Image


def at(x: float, label: str, score: float = 0.9, *, crowd: bool = False) -> Detection:
    return Detection(label, score, Box(x, 0, x + 10, 10), crowd)


def test_same_other_and_absent_are_counted() -> None:
    original = [[at(0, "car"), at(20, "car"), at(40, "bus")], [at(0, "person"), at(60, "car", 0.2)]]
    decoded = [[at(1, "car"), at(21, "truck"), at(80, "bus")], [at(0, "person", 0.25)]]
    agreement = class_agreement(original, decoded)
    assert agreement == Agreement(same=1, other=1, absent=2)
    assert (agreement.rate, agreement.strict_rate) == (0.5, 0.25)


def test_the_surest_of_several_boxes_speaks() -> None:
    decoded = [[at(0, "truck", 0.5), at(2, "car", 0.8)]]
    assert class_agreement([[at(0, "car")]], decoded) == Agreement(1, 0, 0)
    assert class_agreement([[at(0, "truck")]], decoded) == Agreement(0, 1, 0)


def test_crowds_and_faint_objects_are_left_out() -> None:
    nothing = class_agreement([[at(0, "car", crowd=True), at(20, "car", 0.2)]], [[]])
    assert nothing == Agreement(0, 0, 0)
    assert math.isnan(nothing.rate)
    assert math.isnan(nothing.strict_rate)


def test_crops_are_cut_with_their_margin() -> None:
    seen: list[tuple[int, ...]] = []

    def colour(crop: Image) -> str:
        seen.append(crop.shape)
        return "red" if crop[..., 0].mean() > crop[..., 2].mean() else "blue"

    original = np.zeros((40, 60, 3), np.uint8)
    original[:, :30, 0], original[:, 30:, 2] = 200, 200
    boxes = [Box(5, 5, 25, 25), Box(35, 5, 55, 25), Box(100, 100, 120, 120)]
    assert crop_agreement(colour, [original], [original], [boxes]) == Agreement(2, 0, 0)
    assert seen[0] == (24, 24, 3)
    swapped = np.ascontiguousarray(original[..., ::-1])
    assert crop_agreement(colour, [original], [swapped], [boxes]) == Agreement(0, 2, 0)
