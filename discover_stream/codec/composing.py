"""Pictures from a plate and sprites: the cheap part of stream mode's decoder, which the encoder runs too.

A sprite is carried with its object's box: the map that takes the box it was coded in to the box it is drawn in (a shift
and a scale per axis) takes its grid to the picture. Sprites are drawn in order, each over what is there. The same
arguments give the same bytes on one machine, and differ by rounding between machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.codec.atoms import CellMask, cell_grid
from discover_stream.codec.records import QuarterBox
from discover_stream.codec.sprites import GREY, Alpha, Floats, Sprite, box_edges, cell_samples
from discover_stream.types import CELL, Image, Provenance

Cells8 = npt.NDArray[np.uint8]

SHOWN = 128
"""Alpha from which a pixel counts as the sprite's."""
NOTED = 1 / 8
"""Share of a cell from which its provenance is that of what is drawn there, or missing."""
SHARP = 0.15
"""Standard deviation, in samples, below which smoothing before shrinking changes nothing to be seen."""
SMOOTHING, LARGEST = 0.4, 0.7
"""Of a Gaussian before shrinking by s: its standard deviation over sqrt(s * s - 1), and the largest, at s = 2.

Between what averaging would do (0.29), which lets fine stripes through, and what would keep them out (0.5).
"""


@dataclass(frozen=True, slots=True, eq=False)
class PlatePicture:
    """A plate's pixels.

    Attributes:
        image: (H, W, 3) uint8 RGB, grey where it is missing.
        there: (rows, columns) of the picture's cells, whether each is there; None for all.
    """

    image: Image
    there: CellMask | None = None

    @classmethod
    def missing(cls, width: int, height: int) -> PlatePicture:
        """What stands in for a plate that is not there."""
        return cls(np.full((height, width, 3), GREY, np.uint8), np.zeros(cell_grid(width, height), bool))


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Something to draw.

    Attributes:
        box: where the object is now.
        sprite: its pixels; None where its atom is missing: the box is grey then.
        provenance: of what is drawn.
        shown: (rows, columns) of the sprite's cells that are drawn; None for all.
    """

    box: QuarterBox
    sprite: Sprite | None
    provenance: Provenance = Provenance.SENT
    shown: CellMask | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Composite:
    """A composed picture.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        provenance: (rows, columns) uint8 of `Provenance`, per cell.
        alpha: (H, W) uint8, how much of each pixel sprites have drawn.
    """

    image: Image
    provenance: Cells8
    alpha: Alpha


@dataclass(frozen=True, slots=True)
class Grid:
    """Where samples lie in the picture: sample i of a row covers x + i / 2**zoom to x + (i + 1) / 2**zoom pixels."""

    x: int = 0
    y: int = 0
    zoom: int = 0


WHOLE = Grid()
"""The picture itself."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """From samples of a canvas to samples of a sprite, along one axis: `step` * i + `start`."""

    step: float
    start: float

    def reach(self, length: int, extent: int) -> tuple[int, int]:
        """The samples of a canvas of `extent` that a sprite of `length` samples touches."""
        first = (-0.5 - self.start) / self.step
        last = (length - 0.5 - self.start) / self.step
        return min(max(int(np.floor(first)), 0), extent), min(max(int(np.ceil(last)) + 1, 0), extent)


def _axes(sprite: Sprite, box: QuarterBox, grid: Grid) -> tuple[_Axis, _Axis]:
    """Columns and rows: canvas to sprite."""
    old, new = box_edges(sprite.box), box_edges(box)
    dense, fine = 2.0**sprite.zoom, 2.0**grid.zoom
    axes = []
    for side, corner, origin in ((0, sprite.window.x, grid.x), (1, sprite.window.y, grid.y)):
        growth = old[side + 2] / new[side + 2]
        start = (old[side] + (origin + 0.5 / fine - new[side]) * growth - corner) * dense - 0.5
        axes.append(_Axis(growth * dense / fine, start))
    return axes[0], axes[1]


def _reduced(layers: Floats, axes: tuple[_Axis, _Axis]) -> tuple[Floats, tuple[_Axis, _Axis]]:
    """A sprite's layers smoothed for drawing them smaller, and the axes to what comes out.

    Whole factors are averaged, the rest is smoothed by a Gaussian that vanishes as the scale reaches 1: so an object
    that shrinks from frame to frame changes little by little.
    """
    # No more than the sprite has: a box may shrink to next to nothing.
    steps = [min(max(1, int(axis.step)), side) for axis, side in zip(axes, layers.shape[1::-1], strict=True)]
    if max(steps) > 1:
        height, width = (-(-side // step) * step for side, step in zip(layers.shape[:2], reversed(steps), strict=True))
        layers = np.pad(layers, ((0, height - layers.shape[0]), (0, width - layers.shape[1]), (0, 0)))
        size = (width // steps[0], height // steps[1])
        layers = cv2.resize(layers, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    left = [_Axis(axis.step / step, (axis.start + 0.5) / step - 0.5) for axis, step in zip(axes, steps, strict=True)]
    spread = [min(SMOOTHING * max(0.0, axis.step**2 - 1) ** 0.5, LARGEST) for axis in left]
    if max(spread) > SHARP:
        wide, tall = (max(value, 1e-3) for value in spread)
        layers = cv2.GaussianBlur(layers, (5, 5), sigmaX=wide, sigmaY=tall, borderType=cv2.BORDER_CONSTANT).astype(
            np.float32, copy=False
        )
    return layers, (left[0], left[1])


def draw(canvas: Image, grid: Grid, one: Drawn) -> tuple[slice, slice, Alpha]:
    """Draw a sprite onto a canvas, in place.

    Args:
        canvas: (H, W, 3) uint8 RGB.
        grid: where it lies in the picture.
        one: with a sprite.

    Returns:
        The rows and the columns that may have changed, and the alpha (0..255) there.
    """
    sprite = one.sprite
    assert sprite is not None
    axes = _axes(sprite, one.box, grid)
    height, width = canvas.shape[:2]
    left, right = axes[0].reach(sprite.samples.shape[1], width)
    top, bottom = axes[1].reach(sprite.samples.shape[0], height)
    rows, columns = slice(top, bottom), slice(left, right)
    if top >= bottom or left >= right:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), np.uint8)
    alpha = sprite.alpha if one.shown is None else np.where(cell_samples(one.shown), sprite.alpha, np.uint8(0))
    # Colours times alpha: what is not the object must not shine through where samples are mixed.
    layers = np.empty((*alpha.shape, 4), np.float32)
    np.multiply(alpha, np.float32(1 / 255), out=layers[..., 3])
    np.multiply(sprite.samples, layers[..., 3:], out=layers[..., :3])
    layers, axes = _reduced(layers, axes)
    across, down = axes
    matrix = np.array(
        [[across.step, 0, across.start + left * across.step], [0, down.step, down.start + top * down.step]]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(layers, matrix, (right - left, bottom - top), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    # In place from here on: memory that comes and goes would cost more than the arithmetic.
    share = np.ascontiguousarray(warped[..., 3])
    np.clip(share, 0, 1, out=share)
    part = canvas[rows, columns]
    colours = part.astype(np.float32)
    colours *= np.subtract(1, share, dtype=np.float32)[..., None]
    colours += warped[..., :3]
    np.rint(colours, out=colours)
    np.clip(colours, 0, 255, out=colours)
    np.copyto(part, colours, where=(share > 0)[..., None], casting="unsafe")
    share *= 255
    np.rint(share, out=share)
    return rows, columns, share.astype(np.uint8)


def _box_pixels(box: QuarterBox, width: int, height: int) -> tuple[slice, slice]:
    """The pixels whose centres a box covers."""
    edges = box.pixels.clipped(width, height)
    top, bottom = int(np.ceil(edges.y0 - 0.5)), int(np.ceil(edges.y1 - 0.5))
    left, right = int(np.ceil(edges.x0 - 0.5)), int(np.ceil(edges.x1 - 0.5))
    return slice(top, bottom), slice(left, right)


def _cut_off(sprite: Sprite, box: QuarterBox, rows: slice, columns: slice) -> CellMask | None:
    """Which pixels of the box now show what lay beyond the picture's edge when the sprite was coded."""
    old, new = box_edges(sprite.box), box_edges(box)
    beyond = []
    for axis, (pixels, limit) in enumerate(((columns, sprite.width), (rows, sprite.height))):
        centres = np.arange(pixels.start, pixels.stop) + 0.5
        before = old[axis] + (centres - new[axis]) * old[axis + 2] / new[axis + 2]
        beyond.append((before < 0) | (before > limit))
    if not (beyond[0].any() or beyond[1].any()):
        return None
    cut: CellMask = beyond[1][:, None] | beyond[0][None, :]
    return cut


def compose(plate: PlatePicture, drawn: Iterable[Drawn]) -> Composite:
    """A picture: the plate, and on it, in order, what is drawn.

    Where a sprite has nothing because its object was cut off by the picture's edge when it was coded, what is behind
    shows, and counts as missing.

    Args:
        plate: the background, of the picture's size.
        drawn: first to last.
    """
    image = plate.image.copy()
    height, width = image.shape[:2]
    rows, columns = cell_grid(width, height)
    kinds = np.full((height, width), Provenance.PLATE, np.uint8)
    if plate.there is not None:
        kinds[~cell_samples(plate.there)[:height, :width]] = Provenance.MISSING
    alpha = np.zeros((height, width), np.uint8)
    for one in drawn:
        inside = _box_pixels(one.box, width, height)
        if one.sprite is None:
            image[inside], kinds[inside], alpha[inside] = GREY, Provenance.MISSING, 0
            continue
        down, right, part = draw(image, WHOLE, one)
        cut = _cut_off(one.sprite, one.box, *inside)
        if cut is not None:
            kinds[inside][cut] = Provenance.MISSING
        if part.size == 0:
            continue
        kinds[down, right][part >= SHOWN] = one.provenance
        behind = alpha[down, right]
        behind[:] = 255 - cv2.multiply(255 - part, 255 - behind, scale=1 / 255)
    return Composite(image, _by_cell(kinds, rows, columns), alpha)


def _by_cell(kinds: Cells8, rows: int, columns: int) -> Cells8:
    """Provenance per cell from that of its pixels.

    MISSING where a noted share is; else what of tracks has the larger share, where that is noted; else the plate.
    """
    height, width = kinds.shape
    padded = np.full((rows * CELL, columns * CELL), 255, np.uint8)
    padded[:height, :width] = kinds

    def share(kind: Provenance) -> Floats:
        found = (padded == kind).astype(np.float32)
        cells: Floats = cv2.resize(found, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        return cells

    inside = np.full((rows, columns), 1.0)
    inside[-1] *= (height - (rows - 1) * CELL) / CELL
    inside[:, -1] *= (width - (columns - 1) * CELL) / CELL
    sent, carried, missing = (share(kind) for kind in (Provenance.SENT, Provenance.PROPAGATED, Provenance.MISSING))
    answer = np.full((rows, columns), Provenance.PLATE, np.uint8)
    tracks = sent + carried >= NOTED * inside
    answer[tracks] = np.where(sent >= carried, Provenance.SENT, Provenance.PROPAGATED)[tracks]
    answer[missing >= NOTED * inside] = Provenance.MISSING
    return answer
