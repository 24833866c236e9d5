from __future__ import annotations

import dataclasses
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
    AtomCoding,
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
    cell_pixels,
)
from discover_stream.types import Box

seeds = st.integers(0, 2**32 - 1)
zooms = st.integers(-1, 2)


@given(seeds, zooms)
def test_a_window_covers_its_box_with_the_fewest_cells(seed: int, zoom: int) -> None:
    box = any_box(Random(seed))
    window, pixels, cell = Window.around(box, zoom), box.pixels, 16 / 2**zoom
    assert cell == cell_pixels(zoom)
    assert 0 <= pixels.x0 - window.x < 1
    assert 0 <= pixels.y0 - window.y < 1
    assert cell * (window.columns - 1) < pixels.x1 - window.x <= cell * window.columns
    assert cell * (window.rows - 1) < pixels.y1 - window.y <= cell * window.rows


@pytest.mark.parametrize("zoom", [-1, 0, 1, 2])
def test_a_window_around_anything_is_within_bounds(zoom: int) -> None:
    window = Window.around(QuarterBox(1, 1, MAX_COORDINATE, MAX_COORDINATE), zoom)
    assert window.rows * window.columns <= 2**17


@pytest.mark.parametrize("zoom", [-2, 3])
def test_there_is_no_other_zoom(zoom: int) -> None:
    with pytest.raises(ValueError, match="zoom"):
        Window.around(BOX, zoom)


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
AV1 = Atom(Window.around(BOX, 1), None, 0, False, False, b"", AtomCoding.AV1, 1)
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
        (ATOM, {"zoom": 3}),
        (ATOM, {"zoom": -2}),
        (ATOM, {"coding": AtomCoding.AV1}),
        (AV1, {"quality": 4}),
        (AV1, {"own_z": True}),
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
