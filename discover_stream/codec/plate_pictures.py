"""Plates as pixels: payloads decoded, parents warped and toned, cells of both put together."""

from __future__ import annotations

import math

import cv2
import numpy as np

from discover_stream.codec.atoms import CellMask, cell_grid
from discover_stream.codec.av1 import decode_av1, encode_av1
from discover_stream.codec.composing import NOTED, PlatePicture
from discover_stream.codec.painter import Painter, PaintJob
from discover_stream.codec.plates import Plate, PlateCoding, Tone, Warp
from discover_stream.codec.records import QUARTER, Atom, Window
from discover_stream.codec.sprites import GREY, cell_samples
from discover_stream.types import CELL, BitstreamError, Image

TURN_STEPS = 2**14
"""Of a warp's turn and growth: 2^-14 radians, and of the size."""


def plate_picture(plate: Plate, parent: PlatePicture | None, painter: Painter | None = None) -> PlatePicture:
    """Decode a plate.

    Args:
        plate: with its payload.
        parent: the picture of its parent; None where it has none.
        painter: for payloads of the learned codec.

    Raises:
        BitstreamError: the payload is damaged, or there is no painter for it.
        ValueError: it has a parent, and none is given.
    """
    if plate.parent and parent is None:
        raise ValueError("a plate that changes another needs that one's picture")
    if plate.is_bare:
        return PlatePicture.missing(plate.width, plate.height)
    base = parent or PlatePicture.missing(plate.width, plate.height)
    if plate.warp is not None:
        base = warped(base, plate.warp)
    if plate.tone is not None:
        base = toned(base, plate.tone)
    if plate.payload is None:
        return base
    grid = cell_grid(plate.width, plate.height)
    cells = np.ones(grid, bool) if plate.cells is None else plate.cells.mask
    samples = _sent(plate, cells, painter)
    pixels = cell_samples(cells)[: plate.height, : plate.width]
    image = np.where(pixels[..., None], samples, base.image)
    there = cells if base.there is None else cells | base.there
    return PlatePicture(image, None if base.there is None or there.all() else there)


def _sent(plate: Plate, cells: CellMask, painter: Painter | None) -> Image:
    """The payload's samples in a picture that holds nothing else."""
    assert plate.payload is not None
    image = np.full((plate.height, plate.width, 3), GREY, np.uint8)
    if plate.coding == PlateCoding.AV1:
        top, left, bottom, right = _rectangle(cells, plate.width, plate.height)
        image[top:bottom, left:right] = decode_av1(plate.payload, right - left, bottom - top)
        return image
    if painter is None:
        raise BitstreamError("a plate of the learned codec came, and this decoder has no model for it")
    rows, columns = cells.shape
    atom = Atom(Window(0, 0, rows, columns), plate.cells, plate.quality, plate.own_z, False, plate.payload)
    (painted,) = painter.paint([PaintJob(atom)])
    samples = painted.samples
    if samples.shape != (rows * CELL, columns * CELL, 3):
        raise BitstreamError(f"a plate of {rows}x{columns} cells was decoded to {samples.shape}")
    return samples[: plate.height, : plate.width]


def _rectangle(cells: CellMask, width: int, height: int) -> tuple[int, int, int, int]:
    """Top, left, bottom, right in pixels of the smallest rectangle of cells that holds the set, cut to the picture."""
    down, across = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    bottom, right = (int(down[-1]) + 1) * CELL, (int(across[-1]) + 1) * CELL
    return int(down[0]) * CELL, int(across[0]) * CELL, min(bottom, height), min(right, width)


def av1_payload(image: Image, quantizer: int, cells: CellMask | None = None) -> bytes:
    """A plate's payload as an AV1 still.

    Args:
        image: (H, W, 3) uint8 RGB, the whole plate.
        quantizer: 1 (best) to 63.
        cells: (rows, columns) that are sent; None for all.
    """
    height, width = image.shape[:2]
    chosen = np.ones(cell_grid(width, height), bool) if cells is None else cells
    top, left, bottom, right = _rectangle(chosen, width, height)
    return encode_av1(np.ascontiguousarray(image[top:bottom, left:right]), quantizer)


def toned(plate: PlatePicture, tone: Tone) -> PlatePicture:
    """Other light: value + gain/256 * value + offset/4, rounded (half to even) and clamped; missing cells stay grey."""
    values = np.arange(256)[:, None]
    quarters = values * (4 + np.array(tone.gains) / 64) + np.array(tone.offsets)
    table = np.clip(np.rint(quarters / 4), 0, 255).astype(np.uint8)
    image = np.stack([table[plate.image[..., channel], channel] for channel in range(3)], axis=-1)
    return _blanked(image, plate.there)


def warped(plate: PlatePicture, warp: Warp) -> PlatePicture:
    """A plate turned clockwise and scaled about the picture's centre, then shifted.

    What comes in from beyond the parent is grey, and a cell with a noted share of that is missing.
    """
    height, width = plate.image.shape[:2]
    angle, growth = warp.turn / TURN_STEPS, 1 + warp.scale / TURN_STEPS
    a, b = growth * math.cos(angle), growth * math.sin(angle)
    # Of positions of pixels' centres, hence the half.
    x, y = (width - 1) / 2, (height - 1) / 2
    matrix = np.array([[a, -b, x - a * x + b * y + warp.x / QUARTER], [b, a, y - b * x - a * y + warp.y / QUARTER]])
    size = (width, height)
    known = np.ones((height, width), np.float32)
    if plate.there is not None:
        known *= cell_samples(plate.there)[:height, :width]
    # Nearly all of a pixel has to be known, or grey from beyond would be taken for the street.
    reached = cv2.warpAffine(known, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    pixels: CellMask = reached > 1 - 1e-3
    moved = cv2.warpAffine(plate.image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    image = np.where(pixels[..., None], moved, np.uint8(GREY)).astype(np.uint8)
    there = _known_cells(pixels)
    return PlatePicture(image, None if there.all() else there)


def _known_cells(pixels: CellMask) -> CellMask:
    """Cells of which less than a noted share is unknown."""
    height, width = pixels.shape
    rows, columns = cell_grid(width, height)
    padded = np.zeros((rows * CELL, columns * CELL), np.int64)
    padded[:height, :width] = ~pixels
    unknown = padded.reshape(rows, CELL, columns, CELL).sum((1, 3))
    high = np.minimum(CELL, height - np.arange(rows) * CELL)
    wide = np.minimum(CELL, width - np.arange(columns) * CELL)
    known: CellMask = unknown < NOTED * high[:, None] * wide[None, :]
    return known


def _blanked(image: Image, there: CellMask | None) -> PlatePicture:
    if there is None:
        return PlatePicture(image)
    height, width = image.shape[:2]
    known = cell_samples(there)[:height, :width, None]
    return PlatePicture(np.where(known, image, np.uint8(GREY)).astype(np.uint8), there)
