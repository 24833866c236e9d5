"""Decoding only around what changed: which windows of a picture to work on, and how to put them back.

Work is done in windows of latents: rectangles around the active cells, with a margin for the networks' receptive
field, in a few sizes so that windows of many frames and cameras go through the networks together. What comes back
replaces the active cells, feathered over the margin; elsewhere the picture that is already there stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of cells: its first row and column, and its size."""

    top: int
    left: int
    rows: int
    columns: int

    @property
    def area(self) -> int:
        """In cells."""
        return self.rows * self.columns

    def slices(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the window in a field of `scale` samples a cell."""
        rows = slice(self.top * scale, (self.top + self.rows) * scale)
        return rows, slice(self.left * scale, (self.left + self.columns) * scale)


@dataclass(frozen=True)
class WindowOptions:
    """How windows are laid.

    Attributes:
        margin: cells around active ones.
        step: sizes are multiples of this, so that few different ones occur.
        most: windows of one picture; beyond, the nearest are joined.
        share: of the picture's cells; windows that together cover more are one window, the whole picture.
    """

    margin: int = 2
    step: int = 4
    most: int = 16
    share: float = 0.6


def plan_windows(active: Field, options: WindowOptions | None = None) -> tuple[Window, ...]:
    """Windows that hold all active cells of a picture, each with its margin; none where nothing is active.

    Args:
        active: (rows, columns) of cells.
        options: see `WindowOptions`.

    Returns:
        Windows inside the picture, in row order; they may overlap.
    """
    options = options or WindowOptions()
    rows, columns = active.shape
    whole = Window(0, 0, rows, columns)
    if not active.any():
        return ()
    # Parts whose margins touch would be decoded twice where they meet: they are one part from the start.
    grown = cv2.dilate(active.astype(np.uint8), np.ones((2 * options.margin + 1,) * 2, np.uint8))
    count, parts = cv2.connectedComponents(grown)
    windows = [_around(parts == part, options, whole) for part in range(1, count)]
    windows = _joined(windows, options, whole)
    if sum(window.area for window in windows) > options.share * whole.area:
        return (whole,)
    return tuple(sorted(windows))


def _around(part: Field, options: WindowOptions, whole: Window) -> Window:
    """The window of a part of a picture that already has its margin."""
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    top, height = _stretched(int(rows[0]), int(rows[-1]) + 1, options.step, whole.rows)
    left, width = _stretched(int(columns[0]), int(columns[-1]) + 1, options.step, whole.columns)
    return Window(top, left, height, width)


def _stretched(start: int, stop: int, step: int, limit: int) -> tuple[int, int]:
    """A stretch of cells grown to a multiple of `step` (or to all there is), inside 0..limit: start and length."""
    length = min(-(-(stop - start) // step) * step, limit)
    return max(0, min(start, limit - length)), length


def _union(one: Window, other: Window, options: WindowOptions, whole: Window) -> Window:
    top, left = min(one.top, other.top), min(one.left, other.left)
    bottom = max(one.top + one.rows, other.top + other.rows)
    right = max(one.left + one.columns, other.left + other.columns)
    top, rows = _stretched(top, bottom, options.step, whole.rows)
    left, columns = _stretched(left, right, options.step, whole.columns)
    return Window(top, left, rows, columns)


def _joined(windows: list[Window], options: WindowOptions, whole: Window) -> list[Window]:
    """Join windows while a join costs no more cells than it saves, or while there are too many of them."""
    windows = list(windows)
    while len(windows) > 1:
        best: tuple[int, int, int, Window] | None = None
        for i, one in enumerate(windows):
            for j in range(i + 1, len(windows)):
                union = _union(one, windows[j], options, whole)
                extra = union.area - one.area - windows[j].area
                if best is None or extra < best[0]:
                    best = (extra, i, j, union)
        assert best is not None  # there are two windows at least
        extra, i, j, union = best
        if extra > 0 and len(windows) <= options.most:
            break
        windows = [window for k, window in enumerate(windows) if k not in (i, j)] + [union]
    return windows


def feather(window: Window, active: Field, margin: int, scale: int) -> npt.NDArray[np.float32]:
    """How much of a decoded window replaces what was there: 1 on active cells, falling to 0 within the margin.

    Args:
        window: of the picture.
        active: (rows, columns) of the picture's cells.
        margin: cells over which it falls, >= 1.
        scale: samples per cell of the result.

    Returns:
        (rows * scale, columns * scale) of the window, 0..1.
    """
    inside = active[window.slices()]
    fine = inside.repeat(scale, axis=0).repeat(scale, axis=1).astype(np.uint8)
    away = cv2.distanceTransform(1 - fine, cv2.DIST_L2, 5) if not fine.all() else np.zeros(fine.shape, np.float32)
    # Distances count from the centre of the nearest active sample: the first inactive one is at 1.
    return np.clip(1 - away / (margin * scale), 0, 1).astype(np.float32)


def by_size(windows: Sequence[tuple[int, Window]]) -> dict[tuple[int, int], list[tuple[int, Window]]]:
    """Windows of several pictures (number of the picture, window) by their size, for work in batches."""
    groups: dict[tuple[int, int], list[tuple[int, Window]]] = {}
    for item in windows:
        groups.setdefault((item[1].rows, item[1].columns), []).append(item)
    return groups
