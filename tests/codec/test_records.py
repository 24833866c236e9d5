from __future__ import annotations

import dataclasses
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stream_cases import box as any_box

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.framing import MAX_LABEL, MAX_TRACK
from discover_stream.codec.records import (
    MAX_COORDINATE,
    MAX_SPEED,
    Atom,
    Cells,
    Delta,
    End,
    Key,
    Move,
    QuarterBox,
    Ref,
    Sighting,
    Speed,
    Window,
)
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


@given(seeds)
def test_a_window_covers_its_box_with_the_fewest_cells(seed: int) -> None:
    box = any_box(Random(seed))
    window, pixels = Window.around(box), box.pixels
    assert 0 <= pixels.x0 - window.x < 1
    assert 0 <= pixels.y0 - window.y < 1
    assert 16 * (window.columns - 1) < pixels.x1 - window.x <= 16 * window.columns
    assert 16 * (window.rows - 1) < pixels.y1 - window.y <= 16 * window.rows


def test_a_window_around_anything_is_within_bounds() -> None:
    window = Window.around(QuarterBox(1, 1, MAX_COORDINATE, MAX_COORDINATE))
    assert window.rows * window.columns <= 2**17


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.booleans()))
def test_cells_hold_any_mask_but_none_and_all(mask: CellMask) -> None:
    if mask.all():
        assert Cells.of(mask) is None
    elif not mask.any():
        with pytest.raises(ValueError, match="some of its grid"):
            Cells.of(mask)
    else:
        cells = Cells.of(mask)
        assert cells is not None
        assert np.array_equal(cells.mask, mask)


BOX = QuarterBox(0, 0, 64, 64)
ATOM = Atom(Window.around(BOX), None, 4, False, False, b"")
KEY = Key(0, 1, BOX, 1, ((0, 1),))
MOVE = Move(Ref(5, 0), (0,))


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        (BOX, {"width": 0}),
        (BOX, {"x": MAX_COORDINATE + 1}),
        (Speed(), {"x": MAX_SPEED + 1}),
        (Delta(1, 0, 0, 0), {"x": 2**18}),
        (Window(0, 0, 1, 1), {"rows": 513}),
        (Window(0, 0, 300, 300), {"rows": 512, "columns": 512}),
        (Cells(1, 3, b"\x80"), {"packed": b"\x00"}),
        (Cells(1, 3, b"\x80"), {"packed": b"\xe0"}),
        (Cells(1, 3, b"\x80"), {"packed": b"\x81"}),
        (Cells(1, 3, b"\x80"), {"packed": b"\x80\x80"}),
        (ATOM, {"quality": 0}),
        (ATOM, {"quality": 9}),
        (ATOM, {"cells": Cells(1, 3, b"\x80")}),
        (KEY, {"slot": 4096}),
        (KEY, {"track": 0}),
        (KEY, {"track": MAX_TRACK + 1}),
        (KEY, {"score": 64}),
        (KEY, {"labels": ()}),
        (KEY, {"labels": ((1, 0), (0, 0))}),
        (KEY, {"labels": ((0, MAX_LABEL + 1),)}),
        (MOVE, {"members": ()}),
        (MOVE, {"members": (1, 1)}),
        (MOVE, {"place": Delta(0, 0, 0, 0)}),
        (MOVE, {"score": -1}),
        (MOVE, {"source": 5}),
        (MOVE, {"atom": ATOM}),
        (MOVE, {"atom": ATOM, "place": BOX, "source": 6}),
        (End(Ref(5, 0), (0,)), {"members": (2, 0)}),
        (Sighting(Box(0, 0, 1, 1), 0, 0, ((0, 0),)), {"box": Box(0, 0, 0, 1)}),
        (Sighting(Box(0, 0, 1, 1), 0, 0, ((0, 0),)), {"box": Box(0, 0, 1.5, 1)}),
        (Sighting(Box(0, 0, 1, 1), 0, 0, ((0, 0),)), {"box": Box(0, 0, 8193, 1)}),
    ],
)
def test_records_refuse_what_the_format_cannot_carry(record: object, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        dataclasses.replace(record, **changes)  # type: ignore[type-var]
