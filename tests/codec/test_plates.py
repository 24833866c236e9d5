from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.codec.plates import Clock, Plate, PlateCoding, Tone, Warp
from discover_stream.codec.records import Cells

CLOCK = Clock(1_700_000_000_000_000, 500, 100_000, 1000)
WHOLE = Plate(7, 64, 48, (0,), CLOCK, quality=4, payload=b"x")
PART = Plate(8, 64, 48, (0,), None, 7, 1, quality=4, payload=b"x")
TONED = Plate(9, 64, 48, (0,), None, 7, 1, tone=Tone((1, 0, 0), (0, 0, 0)))


BARE = WHOLE.bare()


def test_a_bare_plate_tells_size_and_clock_only() -> None:
    assert Plate(7, 64, 48, (0,), CLOCK) == BARE
    assert PART.bare() == Plate(8, 64, 48, (0,), None, 7, 1)
    assert [plate.is_bare for plate in (WHOLE, PART, TONED, BARE, TONED.bare())] == [False, False, False, True, True]


@given(st.integers(0, 2**40), st.integers(-(10**9), 10**12), st.integers(1, 10**6))
def test_capture_times_are_kept_to_half_a_tick(seq: int, off_ns: int, tick_us: int) -> None:
    clock = dataclasses.replace(CLOCK, tick_us=tick_us)
    capture_ns = 1000 * (clock.capture_us + (seq - 500) * 100_000) + off_ns
    told = clock.capture_ns(seq, clock.drift(seq, capture_ns))
    assert abs(told - capture_ns) <= 500 * tick_us + 1000
    if tick_us == 1:
        assert told == capture_ns // 1000 * 1000


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        (CLOCK, {"tick_us": 0}),
        (CLOCK, {"capture_us": 2**56}),
        (Warp(1, 0), {"x": 0}),
        (Warp(1, 0), {"scale": 2**14}),
        (TONED.tone, {"gains": (0, 0, 0)}),
        (TONED.tone, {"gains": (256, 0, 0)}),
        (TONED.tone, {"offsets": (0, 0)}),
        (WHOLE, {"plate_id": 0}),
        (WHOLE, {"width": 8193}),
        (WHOLE, {"width": 8192, "height": 8192}),
        (WHOLE, {"depth": 1}),
        (WHOLE, {"clock": None}),
        (WHOLE, {"payload": None}),
        (BARE, {"own_z": True}),
        (BARE, {"coding": PlateCoding.AV1}),
        (BARE, {"cells": Cells(3, 4, b"\x80\x00")}),
        (BARE, {"clock": None}),
        (WHOLE, {"tone": TONED.tone}),
        (WHOLE, {"quality": 0}),
        (WHOLE, {"quality": 9}),
        (WHOLE, {"coding": PlateCoding.AV1}),
        (WHOLE, {"coding": PlateCoding.AV1, "quality": 0, "own_z": True}),
        (WHOLE, {"cells": Cells(3, 3, b"\x80\x00")}),
        (WHOLE, {"members": (1, 0)}),
        (PART, {"parent": 8}),
        (PART, {"depth": 0}),
        (PART, {"depth": 16}),
        (PART, {"payload": None}),
        (TONED, {"quality": 1}),
        (TONED, {"own_z": True}),
        (TONED, {"coding": PlateCoding.AV1}),
        (TONED, {"cells": Cells(3, 4, b"\x80\x00")}),
    ],
)
def test_plates_refuse_what_the_format_cannot_carry(record: object, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        dataclasses.replace(record, **changes)  # type: ignore[type-var]
