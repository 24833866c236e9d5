"""Class agreement by hand."""

from __future__ import annotations

import math

from discover_stream.evaluation.agreement import Agreement, class_agreement
from discover_stream.evaluation.boxes import Detection
from discover_stream.types import Box


def at(x: float, label: str, score: float = 0.9, *, crowd: bool = False) -> Detection:
    return Detection(label, score, Box(x, 0, x + 10, 10), crowd)


def test_same_other_and_absent_are_counted() -> None:
    original = [[at(0, "car"), at(20, "car"), at(40, "bus")], [at(0, "person"), at(60, "car", 0.2)]]
    decoded = [[at(1, "car"), at(21, "truck"), at(80, "bus")], [at(0, "person", 0.25)]]
    agreement = class_agreement(original, decoded)
    assert agreement == Agreement(same=1, other=1, absent=2)
    assert agreement.rate == 0.25


def test_the_surest_of_several_boxes_speaks() -> None:
    decoded = [[at(0, "truck", 0.5), at(2, "car", 0.8)]]
    assert class_agreement([[at(0, "car")]], decoded) == Agreement(1, 0, 0)
    assert class_agreement([[at(0, "truck")]], decoded) == Agreement(0, 1, 0)


def test_crowds_and_faint_objects_are_left_out() -> None:
    nothing = class_agreement([[at(0, "car", crowd=True), at(20, "car", 0.2)]], [[]])
    assert nothing == Agreement(0, 0, 0)
    assert math.isnan(nothing.rate)
