"""Inventions, phantoms and misses by hand: a picture of 160x80 pixels, left half sent, right half generated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.faithfulness import Rules, inventions, judge_frame, summarise
from discover_stream.generation.invention import cell_share
from discover_stream.types import Box, InputError, Provenance

MAP = np.full((5, 10), Provenance.GENERATED, np.uint8)
MAP[:, :5] = Provenance.SENT


def car(x: float, score: float = 0.9, label: str = "car", *, crowd: bool = False) -> Detection:
    return Detection(label, score, Box(x, 20, x + 30, 50), crowd)


def test_a_car_from_nowhere_is_an_invention() -> None:
    frame = judge_frame([car(10)], [car(10), car(110, 0.6)], MAP)
    assert [one.box.x0 for one in frame.inventions] == [110]
    assert frame.score == pytest.approx(0.6)
    assert (frame.phantoms, frame.misses, frame.objects) == ((), (), 1)


def test_a_car_that_is_there_is_none() -> None:
    for real in (car(110, 0.12), car(120), car(110, label="bus"), car(110, 1.0, crowd=True)):
        assert not judge_frame([real], [car(110)], MAP).inventions
    # Half of a real car, and two real ones seen as one, are there as well.
    assert not inventions([car(110)], [Detection("car", 0.9, Box(110, 20, 125, 50))], MAP)
    assert not inventions([car(90), car(122)], [Detection("car", 0.9, Box(90, 20, 152, 50))], MAP)


def test_faint_originals_and_faint_finds_do_not_count() -> None:
    assert judge_frame([car(110, 0.05)], [car(110)], MAP).inventions
    assert not judge_frame([], [car(110, 0.29)], MAP).inventions
    assert judge_frame([], [car(110, 0.29)], MAP, Rules(score=0.2)).inventions


def test_inventions_by_class() -> None:
    frame = judge_frame([car(110)], [car(112, label="bus")], MAP)
    assert not frame.inventions
    assert [one.label for one in frame.class_inventions] == ["bus"]
    assert not judge_frame([car(110, crowd=True)], [car(112, label="bus")], MAP).class_inventions


def test_false_detections_elsewhere_are_phantoms() -> None:
    frame = judge_frame([], [car(20), car(63)], MAP)  # 17 of the 30 columns of the second are sent
    assert not frame.inventions
    assert len(frame.phantoms) == 2
    shifted = judge_frame([], [car(66)], MAP)
    assert len(shifted.inventions) == 1
    assert not shifted.phantoms


def test_sent_objects_must_be_found() -> None:
    frame = judge_frame(
        [car(10), car(45), car(60), car(120), car(20, crowd=True)], [car(14), car(45, label="bus")], MAP
    )
    assert frame.objects == 2  # 10 and 45 were sent whole; 60 only in part
    assert not frame.misses
    assert [one.box.x0 for one in frame.class_misses] == [45]
    lost = judge_frame([car(10), car(45)], [car(30), car(45, 0.12)], MAP)
    assert [one.box.x0 for one in lost.misses] == [10]


def test_sums() -> None:
    frames = [
        judge_frame([car(10)], [car(110, 0.5), car(125, 0.5)], MAP),
        judge_frame([car(10)], [car(10)], MAP),
        judge_frame([], [], MAP),
    ]
    total = summarise(frames)
    assert (total.frames, total.frames_with_inventions, total.inventions, total.misses, total.objects) == (
        3,
        1,
        2,
        1,
        2,
    )
    assert total.invention_rate == pytest.approx(1 / 3)
    assert total.inventions_per_frame == pytest.approx(2 / 3)
    assert total.miss_rate == 0.5
    assert total.score == pytest.approx(0.75 / 3)
    assert math.isnan(summarise([]).invention_rate)


@given(st.integers(0, 150), st.integers(0, 70), st.integers(1, 80), st.integers(1, 60), st.integers(0, 99))
def test_shares_are_what_counting_pixels_says(x: int, y: int, w: int, h: int, seed: int) -> None:
    cells = np.random.default_rng(seed).integers(0, 5, (5, 10)).astype(np.uint8)
    pixels = np.kron(cells, np.ones((16, 16), np.uint8))[y : y + h, x : x + w]
    kinds = (Provenance.SENT, Provenance.PROPAGATED)
    expected = np.isin(pixels, kinds).mean() if pixels.size else 0.0
    assert cell_share(Box(x, y, x + w, y + h), cells, *kinds) == pytest.approx(expected)


def test_boxes_outside_the_map_lie_nowhere() -> None:
    assert cell_share(Box(200, 200, 220, 220), MAP, *Provenance) == 0
    assert cell_share(Box(-20, -20, 16, 16), MAP, Provenance.SENT) == 1
    with pytest.raises(InputError, match="provenance map"):
        cell_share(Box(0, 0, 1, 1), np.zeros(3, np.uint8), Provenance.SENT)
