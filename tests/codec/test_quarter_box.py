from __future__ import annotations

from fractions import Fraction
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from stream_cases import box as any_box

from discover_stream.codec.quarter_box import MAX_SPEED, QuarterBox, Speed
from discover_stream.types import Box

seeds = st.integers(0, 2**32 - 1)
coordinates = st.floats(-4000, 4000)


@given(coordinates, coordinates, st.floats(0.5, 900), st.floats(0.5, 900))
def test_boxes_are_kept_to_an_eighth_of_a_pixel(x: float, y: float, width: float, height: float) -> None:
    exact = Box(x, y, x + width, y + height)
    kept = QuarterBox.of(exact).pixels
    for name in ("x0", "y0", "x1", "y1"):
        assert abs(getattr(kept, name) - getattr(exact, name)) <= 1 / 8
    assert QuarterBox.of(kept).pixels == kept


@given(st.integers(-300, 300), st.integers(1, 300), st.integers(-99, 99), st.integers(-9, 9), st.integers(0, 200))
def test_a_box_glides_at_its_speed_to_the_nearest_quarter_pixel(
    x: int, width: int, speed: int, growth: int, frames: int
) -> None:
    box = QuarterBox(x, 0, width, 5).after(Speed(speed, 0, growth, 0), frames)
    half_up = Fraction(1, 2)
    assert box.x == (x + Fraction(speed * frames, 8) + half_up).__floor__()
    assert box.width == max(1, (width + Fraction(growth * frames, 8) + half_up).__floor__())
    assert (box.y, box.height) == (0, 5)


@given(seeds, st.integers(0, 2**16))
def test_gliding_never_leaves_the_format(seed: int, frames: int) -> None:
    random = Random(seed)
    fast = Speed(*(random.choice((-MAX_SPEED, MAX_SPEED)) for _ in range(4)))
    any_box(random).after(fast, frames)


@given(seeds, seeds)
def test_the_difference_of_two_boxes_leads_from_one_to_the_other(seed: int, other: int) -> None:
    first, second = any_box(Random(seed)), any_box(Random(other))
    assert first.changed(second.minus(first)) == second
