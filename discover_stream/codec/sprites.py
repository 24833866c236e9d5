"""An atom as pixels: what stream mode's decoder draws, made once per atom, the same on the encoder's side.

Conventions: pictures are (H, W, 3) uint8 RGB; alpha is 0 (nothing) to 255 (all); a *grid* is a window's samples,
rows * 16 x columns * 16 of them, the one at column i covering the picture from x + i / 2**zoom to x + (i + 1) / 2**zoom
pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.records import QUARTER, QuarterBox, Window
from discover_stream.types import CELL, Image

Alpha = npt.NDArray[np.uint8]
"""(H, W), 0 to 255."""

Floats = npt.NDArray[np.float32]

GREY = 128
"""What stands for what is missing, and for no difference in a residual."""

FAINT, CLEAR = 10, 15
"""Levels of difference (largest of R, G, B; mean of 3x3 pixels) that are an object's where they touch clear ones.

For decoded residuals: nothing was coded beside the object, and AV1 makes nearly nothing of that at any quantizer
(on real crops these levels give the best overlap with the mask that was coded, from quantizer 15 to 50).
"""
FRAME_LEVELS = (14, 28)
"""The same for a camera's frame, which has noise and light of its own."""
CLOSE = 3
"""Pixels: gaps of twice that are closed."""
LEAST_PART = 0.02
"""Parts smaller than this share of the largest are noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """An atom's pixels, as decoded.

    Attributes:
        samples: (rows * 16, columns * 16, 3) uint8 RGB of the window's grid.
        alpha: (rows * 16, columns * 16), what of it is the object.
        window: the grid's place when it was coded.
        zoom: samples a pixel, as a power of two.
        box: the object's when it was coded; the grid is carried along with it.
        width: of the picture, in pixels. What lay outside is not known.
        height: of the picture, in pixels.
    """

    samples: Image
    alpha: Alpha
    window: Window
    zoom: int
    box: QuarterBox
    width: int
    height: int

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return self.samples.nbytes + self.alpha.nbytes


def grid_size(window: Window) -> tuple[int, int]:
    """Rows and columns of samples."""
    return window.rows * CELL, window.columns * CELL


def grid_samples(picture: Image, window: Window, zoom: int) -> Image:
    """A picture on a window's grid; beyond the picture, its edge.

    Whole pixels are copied, coarser grids average them, finer ones interpolate.

    Args:
        picture: (H, W, 3) uint8 RGB.
        window: where.
        zoom: samples a pixel, as a power of two.
    """
    rows, columns = grid_size(window)
    if zoom <= 0:
        step = 1 << -zoom
        part = _cut(picture, window.x, window.y, rows * step, columns * step)
        return part if zoom == 0 else _resized(part, rows, columns, cv2.INTER_AREA)
    # A margin of whole pixels all around, so that interpolation at the window's edge sees what is there.
    scale, margin = 1 << zoom, 2
    tall, wide = -(-rows // scale) + 2 * margin, -(-columns // scale) + 2 * margin
    part = _cut(picture, window.x - margin, window.y - margin, tall, wide)
    large = _resized(part, tall * scale, wide * scale, cv2.INTER_CUBIC)
    start = margin * scale
    return np.ascontiguousarray(large[start : start + rows, start : start + columns])


def _resized(picture: Image, rows: int, columns: int, way: int) -> Image:
    return cv2.resize(picture, (columns, rows), interpolation=way).astype(np.uint8, copy=False)


def _cut(picture: Image, x: int, y: int, rows: int, columns: int) -> Image:
    """A part of a picture, whole pixels; beyond its edge, the edge."""
    height, width = picture.shape[:2]
    if min(x, y) >= 0 and x + columns <= width and y + rows <= height:
        return np.ascontiguousarray(picture[y : y + rows, x : x + columns])
    down = np.clip(np.arange(y, y + rows), 0, height - 1)
    right = np.clip(np.arange(x, x + columns), 0, width - 1)
    part: Image = picture[down[:, None], right[None, :]]
    return part


def inside(window: Window, zoom: int, width: int, height: int) -> CellMask:
    """Which samples of a grid lie in the picture: (rows * 16, columns * 16) bool."""
    rows, columns = grid_size(window)
    down = window.y + (np.arange(rows) + 0.5) / 2.0**zoom
    right = window.x + (np.arange(columns) + 0.5) / 2.0**zoom
    mask: CellMask = ((down > 0) & (down < height))[:, None] & ((right > 0) & (right < width))[None, :]
    return mask


def cell_samples(mask: CellMask) -> CellMask:
    """Cells to samples: (rows, columns) to (rows * 16, columns * 16) bool."""
    return mask.repeat(CELL, 0).repeat(CELL, 1)


def residual(samples: Image, reference: Image, keep: Alpha | None = None) -> Image:
    """What is coded of an atom on a reference: half the difference, 128 for none.

    Args:
        samples: (H, W, 3) uint8 RGB, of the frame.
        reference: the same of the plate, or of the plate with the track's key on it.
        keep: (H, W) share of the difference that is coded; None for all of it everywhere.
    """
    difference = (samples.astype(np.float32) - reference) * 0.5
    if keep is not None:
        difference *= (keep.astype(np.float32) / 255)[..., None]
    coded: Image = np.clip(np.rint(difference) + GREY, 0, 255).astype(np.uint8)
    return coded


def restored(coded: Image, reference: Image) -> Image:
    """Samples from a decoded residual and its reference: reference + 2 * (coded - 128), clamped."""
    sum_: Image = np.clip(reference.astype(np.int16) + 2 * (coded.astype(np.int16) - GREY), 0, 255).astype(np.uint8)
    return sum_


def soft_mask(
    samples: Image,
    background: Image,
    zoom: int = 0,
    allowed: CellMask | None = None,
    levels: tuple[int, int] = (FAINT, CLEAR),
) -> Alpha:
    """What of a grid is the object: where it differs from the plate, made whole and feathered.

    Differences are averaged over 3x3 pixels. What is faint counts where it hangs together with what is clear; small
    remote parts are noise. Gaps are closed, holes filled, and what lies between parts of the object both along its row
    and along its column is filled too: an object the colour of the road has its outline and its shadow all around. The
    edge is a ramp two pixels wide, half outside.

    Args:
        samples: (H, W, 3) uint8 RGB of the grid, decoded.
        background: the same of the plate.
        zoom: of the grid.
        allowed: (H, W), samples that may belong to it; None for all.
        levels: what is faint, and what is clear.

    Returns:
        (H, W) alpha; all 0 where nothing differs clearly.
    """
    scale = 2.0**zoom
    difference = cv2.absdiff(samples, background).max(axis=2)
    if allowed is not None:
        difference[~allowed] = 0
    side = max(1, 2 * round(scale) + 1)
    smooth = cv2.blur(difference, (side, side), borderType=cv2.BORDER_REPLICATE)
    mask = _connected((smooth >= levels[0]).astype(np.uint8), smooth >= levels[1])
    if not mask.any():
        return np.zeros(mask.shape, np.uint8)
    mask = _closed(mask, max(1, round(CLOSE * scale)))
    mask |= _enclosed(mask, allowed)
    mask = _filled(mask)
    if allowed is not None:
        mask[~allowed] = 0
    ramp = max(3, 2 * round(scale) + 1)
    soft = cv2.blur(mask.astype(np.float32), (ramp, ramp), borderType=cv2.BORDER_REPLICATE)
    if allowed is not None:
        # No ramp where nothing is known beyond: the plate would shine through along the picture's edge.
        known = cv2.blur(allowed.astype(np.float32), (ramp, ramp), borderType=cv2.BORDER_REPLICATE)
        soft = np.where(allowed, soft / np.maximum(known, 1 / ramp**2), 0)
    alpha: Alpha = np.rint(255 * np.minimum(soft, 1)).astype(np.uint8)
    return alpha


def _connected(faint: Alpha, clear: CellMask) -> Alpha:
    """Parts of `faint` that hold something clear, without those much smaller than the largest."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(faint, connectivity=8)
    chosen = np.zeros(count, bool)
    chosen[np.unique(labels[clear])] = True
    chosen[0] = False
    areas = stats[:, cv2.CC_STAT_AREA]
    if chosen.any():
        chosen &= areas >= LEAST_PART * areas[chosen].max()
    parts: Alpha = chosen[labels].astype(np.uint8)
    return parts


def _closed(mask: Alpha, radius: int) -> Alpha:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # Room all around, or what is closed would stick to the edge.
    wide = np.pad(mask, radius)
    closed = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, kernel)
    return np.ascontiguousarray(closed[radius:-radius, radius:-radius]).astype(np.uint8)


def _enclosed(mask: Alpha, allowed: CellMask | None) -> Alpha:
    """What lies between parts of the mask along its row and its column; one of these may be cut short by `allowed`."""
    along, across = _between(mask, 1), _between(mask, 0)
    if allowed is None or allowed.all():
        return along & across
    open_ = mask | ~allowed
    enclosed: Alpha = (_between(open_, 1) & across) | (along & _between(open_, 0))
    return enclosed


def _between(mask: Alpha, axis: int) -> Alpha:
    """What has parts of the mask on both sides along an axis."""
    before = np.maximum.accumulate(mask, axis=axis)
    after = np.flip(np.maximum.accumulate(np.flip(mask, axis), axis=axis), axis)
    both: Alpha = before & after
    return both


def _filled(mask: Alpha) -> Alpha:
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    whole: Alpha = cv2.drawContours(mask.copy(), outlines, -1, (1,), cv2.FILLED).astype(np.uint8)
    return whole


def masked(alpha: Alpha, cells: CellMask | None) -> Alpha:
    """Alpha without the cells that are not in the set; None for all."""
    if cells is None:
        return alpha
    kept: Alpha = np.where(cell_samples(cells), alpha, np.uint8(0))
    return kept


def box_edges(box: QuarterBox) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels."""
    return box.x / QUARTER, box.y / QUARTER, box.width / QUARTER, box.height / QUARTER


def box_mask(box: QuarterBox, window: Window, zoom: int) -> Alpha:
    """A box on a window's grid, its outermost pixel a ramp: what is drawn of an atom without a plate.

    A ramp, so that its edge, which mostly shows background, blends with what is there now.
    """
    rows, columns = grid_size(window)
    x, y, width, height = box_edges(box)
    ramps = []
    for start, length, corner, count in ((x, width, window.x, columns), (y, height, window.y, rows)):
        centres = corner + (np.arange(count) + 0.5) / 2.0**zoom
        ramps.append(np.clip(np.minimum(centres - start, start + length - centres), 0, 1))
    alpha: Alpha = np.rint(255 * np.minimum(ramps[1][:, None], ramps[0][None, :])).astype(np.uint8)
    return alpha
