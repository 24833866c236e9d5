"""Decoding only around what changed: which windows of a picture to work on, and how to put them back.

Work is done in windows of latents: an *inner* one around active samples, whose pixels are wanted, and an *outer* one
around it, which the networks look at to know the surroundings. Windows of many frames and cameras go through the
networks together where their sizes agree. What comes back replaces what is active, feathered into the picture that
is already there.

Convention: positions and lengths are samples of one grid (latents, 8x8 pixels, where a renderer calls), rows first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Bounds = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""

INNER_WORK, OUTER_WORK = 3, 1
"""How work splits between inner and outer samples: the last layers, at full size, see the inner window alone."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle: its first row and column, and its size."""

    top: int
    left: int
    rows: int
    columns: int

    @property
    def area(self) -> int:
        """In samples."""
        return self.rows * self.columns

    def slices(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the window in a field that is `scale` times as fine."""
        rows = slice(self.top * scale, (self.top + self.rows) * scale)
        return rows, slice(self.left * scale, (self.left + self.columns) * scale)

    def within(self, other: Window) -> Window:
        """This window as seen from the corner of one that holds it."""
        return Window(self.top - other.top, self.left - other.left, self.rows, self.columns)

    def sized(self, rows: int, columns: int, shape: tuple[int, int]) -> Window:
        """Grown to a size, from where it begins or, at the end of a picture of `shape`, from as far before as needed.

        Corners stay multiples of what the sides of window and picture are multiples of.
        """
        return Window(min(self.top, shape[0] - rows), min(self.left, shape[1] - columns), rows, columns)

    def grown(self, by: int, shape: tuple[int, int]) -> Window:
        """With a margin, as far as a picture of `shape` goes."""
        top, left = max(self.top - by, 0), max(self.left - by, 0)
        bottom, right = min(self.top + self.rows + by, shape[0]), min(self.left + self.columns + by, shape[1])
        return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True, slots=True, order=True)
class Nested:
    """A window that is decoded, and the one around it that the networks look at.

    Attributes:
        inner: what is decoded.
        outer: what is sampled.
        kept: what of the inner window is laid into the picture; None for all.
    """

    inner: Window
    outer: Window
    kept: Window | None = None


@dataclass(frozen=True)
class WindowOptions:
    """How windows are laid.

    Attributes:
        margin: of inner windows around what is active: the feather.
        reach: of outer windows around inner ones, at least.
        align: corners and sizes of outer windows are multiples of this. Networks that halve the picture see a window as
            they see the whole only where their coarsest grid lies the same in both.
        step: sizes of inner windows are multiples of this, so that few different ones occur.
        most: windows of one picture.
        overhead: what a window costs beside its samples; small windows are joined accordingly.
        share: of the whole picture's work; windows that together need more are one window, the whole picture.
    """

    margin: int = 1
    reach: int = 2
    align: int = 4
    step: int = 2
    most: int = 16
    overhead: int = 280
    share: float = 0.8


def plan_windows(active: Field, options: WindowOptions | None = None) -> tuple[Nested, ...]:
    """Windows that hold all that is active, each with its margins; none where nothing is active.

    One window is cut in two where that saves most, again and again, until no cut saves anything.

    Args:
        active: (rows, columns), both multiples of `align`.
        options: see `WindowOptions`.

    Returns:
        Windows inside the picture, in row order; they may overlap.
    """
    options = options or WindowOptions()
    if not active.any():
        return ()
    cuts = [_Cut.of(active, _tight(active, 0, 0), options)]
    while len(cuts) < options.most:
        best = max(range(len(cuts)), key=lambda index: cuts[index].saved)
        if cuts[best].saved <= 0:
            break
        cuts[best : best + 1] = [_Cut.of(active, part, options) for part in cuts[best].parts]
    if sum(cut.cost for cut in cuts) > options.share * (INNER_WORK + OUTER_WORK) * active.size:
        whole = Window(0, 0, *active.shape)
        return (Nested(whole, whole),)
    return tuple(sorted(_nested(cut.bounds, options, active.shape) for cut in cuts))


def plan_tiles(rows: int, columns: int, side: int, reach: int, seam: int) -> tuple[Nested, ...]:
    """Tiles that cover a picture once, in row order, each with its surroundings.

    Args:
        rows: of the picture, in samples.
        columns: likewise.
        side: of a tile; a multiple of what networks want windows aligned to.
        reach: of outer windows around tiles; likewise.
        seam: of inner windows around tiles. Nothing hides where tiles meet, so their edges are decoded and cut off.
    """
    shape = (rows, columns)
    tiles = []
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            kept = Window(top, left, min(side, rows - top), min(side, columns - left))
            tiles.append(Nested(kept.grown(seam, shape), kept.grown(reach, shape), kept))
    return tuple(tiles)


def _tight(part: Field, top: int, left: int) -> Bounds:
    """The bounds of what is active in a part of a picture that begins at a row and column."""
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return top + int(rows[0]), top + int(rows[-1]) + 1, left + int(columns[0]), left + int(columns[-1]) + 1


@dataclass(frozen=True)
class _Cut:
    """Bounds of what is active, what a window of it costs, and the two parts that save most against it, if any."""

    bounds: Bounds
    cost: int
    saved: int
    parts: tuple[Bounds, ...]

    @classmethod
    def of(cls, active: Field, bounds: Bounds, options: WindowOptions) -> _Cut:
        top, bottom, left, right = bounds
        inside = active[top:bottom, left:right]
        one = int(_cost(tuple(np.array([side]) for side in bounds), options, active.shape)[0])
        saved, parts = 0, tuple[Bounds, ...]()
        for turned in (False, True):
            field = inside.T if turned else inside
            if len(field) < 2:
                continue
            first, second = (_placed(half, bounds, turned) for half in _halves(field))
            cost = _cost(first, options, active.shape) + _cost(second, options, active.shape)
            at = int(np.argmin(cost))
            if one - int(cost[at]) > saved:
                saved, parts = one - int(cost[at]), _parts(active, bounds, at + 1, turned)
        return cls(bounds, one, saved, parts)


def _halves(field: Field) -> tuple[tuple[Numbers, ...], tuple[Numbers, ...]]:
    """Bounds of what is active before and after each cut between two rows; four arrays of (rows - 1,) each.

    The bounds of the field are tight: its first and last row hold something.
    """
    number, width = field.shape
    occupied, rows = field.any(axis=1), np.arange(number)
    lefts = np.where(occupied, field.argmax(axis=1), width)
    rights = np.where(occupied, width - field[:, ::-1].argmax(axis=1), 0)
    last = np.maximum.accumulate(np.where(occupied, rows + 1, 0))[:-1]
    first = np.minimum.accumulate(np.where(occupied, rows, number)[::-1])[::-1][1:]
    before = (
        np.zeros_like(last),
        last,
        np.minimum.accumulate(lefts)[:-1],
        np.maximum.accumulate(rights)[:-1],
    )
    after = (
        first,
        np.full_like(first, number),
        np.minimum.accumulate(lefts[::-1])[::-1][1:],
        np.maximum.accumulate(rights[::-1])[::-1][1:],
    )
    return before, after


def _placed(half: tuple[Numbers, ...], bounds: Bounds, turned: bool) -> tuple[Numbers, ...]:
    """Bounds inside (turned) bounds, as bounds of the picture."""
    top, _, left, _ = bounds
    first, stop, low, high = half
    if turned:
        first, stop, low, high = low, high, first, stop
    return first + top, stop + top, low + left, high + left


def _parts(active: Field, bounds: Bounds, at: int, turned: bool) -> tuple[Bounds, ...]:
    """Tight bounds of the two parts of a cut."""
    top, bottom, left, right = bounds
    if turned:
        middle = left + at
        return (
            _tight(active[top:bottom, left:middle], top, left),
            _tight(active[top:bottom, middle:right], top, middle),
        )
    middle = top + at
    return _tight(active[top:middle, left:right], top, left), _tight(active[middle:bottom, left:right], middle, left)


def _stretches(start: Numbers, stop: Numbers, options: WindowOptions, limit: int) -> tuple[Numbers, ...]:
    """Start and length of inner and outer stretches around active ones; they never leave 0..limit."""
    begin, end = np.maximum(start - options.margin, 0), np.minimum(stop + options.margin, limit)
    length = np.minimum(-(-(end - begin) // options.step) * options.step, limit)
    begin = np.minimum(begin, limit - length)  # what would stick out begins earlier instead
    low = np.maximum(begin - options.reach, 0) // options.align * options.align
    high = np.minimum(-(-(begin + length + options.reach) // options.align) * options.align, limit)
    return begin, length, low, high - low


def _cost(bounds: tuple[Numbers, ...], options: WindowOptions, shape: tuple[int, ...]) -> Numbers:
    """What windows of some bounds cost, in samples of work."""
    top, bottom, left, right = bounds
    _, rows, _, outer_rows = _stretches(top, bottom, options, shape[0])
    _, columns, _, outer_columns = _stretches(left, right, options, shape[1])
    cost: Numbers = INNER_WORK * rows * columns + OUTER_WORK * outer_rows * outer_columns + options.overhead
    return cost


def _nested(bounds: Bounds, options: WindowOptions, shape: tuple[int, ...]) -> Nested:
    """The windows of some bounds."""
    top, bottom, left, right = (np.array(side) for side in bounds)
    down = [int(value) for value in _stretches(top, bottom, options, shape[0])]
    across = [int(value) for value in _stretches(left, right, options, shape[1])]
    return Nested(
        Window(down[0], across[0], down[1], across[1]),
        Window(down[2], across[2], down[3], across[3]),
    )


def feather(window: Window, active: Field, margin: int, scale: int) -> npt.NDArray[np.float32]:
    """How much of a decoded window replaces what was there: 1 where active, falling to 0 within the margin.

    Args:
        window: of the picture.
        active: (rows, columns) of the picture.
        margin: over which it falls, >= 1.
        scale: pixels per sample.

    Returns:
        (rows * scale, columns * scale) of the window, 0..1.
    """
    inside = active[window.slices()]
    fine = inside.repeat(scale, axis=0).repeat(scale, axis=1).astype(np.uint8)
    away = cv2.distanceTransform(1 - fine, cv2.DIST_L2, 5) if not fine.all() else np.zeros(fine.shape, np.float32)
    # Distances count from the centre of the nearest active pixel: the first inactive one is at 1.
    return np.clip(1 - away / (margin * scale), 0, 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Placed:
    """A window of a picture of some size, (rows, columns)."""

    shape: tuple[int, int]
    window: Window


def batches(windows: Sequence[Placed], overhead: int, most: int) -> list[list[tuple[int, Window]]]:
    """Windows of several pictures in batches of one size each: few, since a batch costs something by itself.

    A window may be grown to the size of others, within its picture.

    Args:
        windows: of any pictures and sizes.
        overhead: what a batch costs beside its samples, in samples.
        most: samples of a batch, unless a single window has more.

    Returns:
        Batches of (position in `windows`, the window as it is to be worked on).
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, placed in enumerate(windows):
        groups.setdefault((placed.window.rows, placed.window.columns), []).append(index)
    while len(groups) > 1:
        joins = [
            (_extra(one, groups[one], other, groups[other]), one, other)
            for one in groups
            for other in groups
            if one < other and _fits(_larger(one, other), [windows[i] for i in groups[one] + groups[other]])
        ]
        if not joins or min(joins)[0] >= overhead:
            break
        _, one, other = min(joins)
        together = groups.pop(one) + groups.pop(other)
        groups[_larger(one, other)] = together + groups.get(_larger(one, other), [])
    found = []
    for (rows, columns), members in sorted(groups.items()):
        each = max(1, most // (rows * columns))
        listed = [
            (index, windows[index].window.sized(rows, columns, windows[index].shape)) for index in sorted(members)
        ]
        found += [listed[start : start + each] for start in range(0, len(listed), each)]
    return found


def _larger(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), max(one[1], other[1])


def _fits(size: tuple[int, int], members: Sequence[Placed]) -> bool:
    return all(size[0] <= placed.shape[0] and size[1] <= placed.shape[1] for placed in members)


def _extra(one: tuple[int, int], first: Sequence[int], other: tuple[int, int], second: Sequence[int]) -> int:
    """Samples that windows of two sizes have more when all of them are grown to hold either."""
    rows, columns = _larger(one, other)
    own = one[0] * one[1] * len(first) + other[0] * other[1] * len(second)
    return rows * columns * (len(first) + len(second)) - own
