"""Boxes of a stream packet's tracks in quarter pixels, and how they change: exact integers on both sides.

Conventions: x to the right, y down; boxes may reach beyond the picture; speeds are in 1/32 pixel a frame.
Every class refuses, with ValueError, what the format cannot carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from discover_stream.types import Box

QUARTER = 4
"""Steps of a box in one pixel."""
SPEED_STEPS = 8
"""Steps of a speed in one quarter pixel a frame."""
MAX_COORDINATE = 2**16
MAX_EXTENT = 2**16
MAX_SPEED = 2**13


def within(name: str, value: int, low: int, high: int) -> None:
    """Refuse a value outside low..high. Raises ValueError."""
    if not low <= value <= high:
        raise ValueError(f"{name} {value} is not in {low}..{high}")


@dataclass(frozen=True, slots=True)
class Delta:
    """What is added to a predicted box, in quarter pixels."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        for value in self.values:
            within("a change of a box", value, -2 * MAX_COORDINATE, 2 * MAX_COORDINATE)

    @property
    def values(self) -> tuple[int, int, int, int]:
        """x, y, width, height."""
        return self.x, self.y, self.width, self.height


@dataclass(frozen=True, slots=True)
class Speed:
    """How a box changes from frame to frame, in 1/32 pixel: its upper left corner and its size."""

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0

    def __post_init__(self) -> None:
        for value in self.values:
            within("a speed", value, -MAX_SPEED, MAX_SPEED)

    @property
    def values(self) -> tuple[int, int, int, int]:
        """x, y, width, height."""
        return self.x, self.y, self.width, self.height


STILL = Speed()


@dataclass(frozen=True, slots=True)
class QuarterBox:
    """A box by its upper left corner and its size, in quarter pixels."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        within("a box's corner", self.x, -MAX_COORDINATE, MAX_COORDINATE)
        within("a box's corner", self.y, -MAX_COORDINATE, MAX_COORDINATE)
        within("a box's width", self.width, 1, MAX_EXTENT)
        within("a box's height", self.height, 1, MAX_EXTENT)

    @classmethod
    def of(cls, box: Box) -> QuarterBox:
        """The nearest one to a box in pixels; at least a quarter pixel wide and high."""
        x0, y0, x1, y1 = (round(value * QUARTER) for value in (box.x0, box.y0, box.x1, box.y1))
        return cls(x0, y0, max(1, x1 - x0), max(1, y1 - y0))

    @property
    def pixels(self) -> Box:
        """In pixels."""
        right, bottom = self.x + self.width, self.y + self.height
        return Box(self.x / QUARTER, self.y / QUARTER, right / QUARTER, bottom / QUARTER)

    @property
    def bottom(self) -> int:
        """The lower edge."""
        return self.y + self.height

    def after(self, speed: Speed, frames: int) -> QuarterBox:
        """Where the box is some frames later at a steady speed: exact integers, so that both sides agree.

        What would leave the range of boxes stays at its end.
        """
        start = (self.x, self.y, self.width, self.height)
        lowest = (-MAX_COORDINATE, -MAX_COORDINATE, 1, 1)
        ahead = (
            value + (rate * frames + SPEED_STEPS // 2) // SPEED_STEPS
            for value, rate in zip(start, speed.values, strict=True)
        )
        return QuarterBox(
            *(min(max(value, low), MAX_COORDINATE) for value, low in zip(ahead, lowest, strict=True)),
        )

    def changed(self, delta: Delta) -> QuarterBox:
        """The box with what is added to it. Raises ValueError where that is no box."""
        x, y, width, height = delta.values
        return QuarterBox(self.x + x, self.y + y, self.width + width, self.height + height)

    def minus(self, other: QuarterBox) -> Delta:
        """What `other` needs to become this box."""
        return Delta(self.x - other.x, self.y - other.y, self.width - other.width, self.height - other.height)
