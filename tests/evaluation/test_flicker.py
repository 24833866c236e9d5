"""Flicker by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from discover_stream.evaluation.flicker import flicker, measure_flicker
from discover_stream.types import Image, InputError


def grey(level: float, height: int = 32, width: int = 48) -> Image:
    return np.full((height, width, 3), level, np.uint8)


def test_pulsing_of_a_still_scene() -> None:
    originals = [grey(100)] * 4
    assert flicker(originals, [grey(70)] * 4) == 0  # wrong, but it stands still
    assert flicker(originals, [grey(100), grey(110), grey(100), grey(110)]) == pytest.approx(10, abs=1e-3)
    half = grey(100)
    half[:, :24] = 110
    assert flicker(originals, [grey(100), half] * 2) == pytest.approx(10 / math.sqrt(2), abs=1e-3)


def test_what_moves_in_the_original_is_left_out() -> None:
    first, second = grey(100), grey(100)
    second[:, 24:] = 160  # a bus came
    wild = second.copy()
    wild[:, 24:] = 20
    found = measure_flicker([first, second], [first, wild])
    assert (found.level, found.static, found.pairs) == (0, 0.5, 1)
    assert measure_flicker([grey(0), grey(200)], [grey(0), grey(7)]).static == 0


def test_noise_of_the_camera_is_no_fault_to_remove_and_extra_noise_is() -> None:
    rng = np.random.default_rng(3)

    def sensor(sigma: float) -> list[Image]:
        return [np.clip(120 + rng.normal(0, sigma, (64, 96, 3)), 0, 255).astype(np.uint8) for _ in range(5)]

    originals = sensor(2.0)
    assert flicker(originals, [grey(120, 64, 96)] * 5) == 0
    assert flicker(originals, originals) == 0
    again, louder, loud = (flicker(originals, sensor(sigma)) for sigma in (2.0, 4.0, 16.0))
    assert again < 0.7 < louder < loud
    # Grain of 16 levels per channel is 16 * |(0.299, 0.587, 0.114)| of luma, and twice that energy per change.
    assert loud == pytest.approx(math.sqrt(2) * 16 * math.hypot(0.299, 0.587, 0.114), rel=0.05)


def test_clips_must_fit() -> None:
    with pytest.raises(InputError, match="not as many"):
        flicker([grey(1)] * 3, [grey(1)] * 2)
    with pytest.raises(InputError, match="at least two"):
        flicker([grey(1)], [grey(1)])
    with pytest.raises(InputError, match="differ in size"):
        flicker([grey(1), grey(1, 40)], [grey(1), grey(1, 40)])
    assert flicker([grey(9, 3, 3)] * 2, [grey(9, 3, 3), grey(19, 3, 3)]) == pytest.approx(10, abs=1e-3)
